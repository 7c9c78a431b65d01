"""Settings: one table, from which files, environment, flags and documentation are read."""

from akidb.config.load import TABLE, Configuration, from_s3_variables, load
from akidb.config.rules import host_and_port, is_loopback
from akidb.config.setting import Setting
from akidb.config.settings import Settings
from akidb.config.show import effective

__all__ = [
    "TABLE",
    "Configuration",
    "Setting",
    "Settings",
    "effective",
    "from_s3_variables",
    "host_and_port",
    "is_loopback",
    "load",
]
