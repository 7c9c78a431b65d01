"""A CPython for 64-bit ARM and what the tests import, to be run by qemu; prints its folder, made at first use.

    python scripts/fetch_arm_python.py

The folder holds root/, packages of Debian 12 unpacked (the system stays as it is), and site/, wheels of exactly the
versions that run here. Kept in $AKIDB_ARM_PYTHON_DIR (default ~/.cache/akidb/arm64-python), about 320 MB, of which 80
are downloaded. Two runs at once are safe: the second waits and finds the work done.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path(os.environ.get("AKIDB_ARM_PYTHON_DIR") or Path.home() / ".cache/akidb/arm64-python")
SUITE, VERSION = "bookworm", (3, 11)
DEBIAN = ("python3.11", "libpython3.11-dev", "libstdc++6", "libgomp1")
TESTS = ("pytest", "pytest-asyncio", "hypothesis", "ml-dtypes")
GLIBC_OLDEST, GLIBC = 17, 36  # of manylinux2014; of Debian 12


def wanted() -> list[str]:
    """Dependencies and what the tests import, theirs included, as name==version of those in this environment."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting, found = [Requirement(each) for each in (*project["dependencies"], *TESTS)], {}
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        there = distribution(name)
        found[name] = there.version
        waiting += [Requirement(each) for each in there.requires or []]
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def fetch_debian(root: Path) -> None:
    """Downloads through an apt whose state is all in a folder of its own, and unpacks."""
    mirrors = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", f"Codename: {SUITE}")
    if not mirrors:
        raise SystemExit(f"fetch_arm_python: apt knows no mirror of Debian {SUITE}; is this Debian 12?")
    with tempfile.TemporaryDirectory() as name:
        apt = Path(name)
        for folder in ("lists/partial", "cache/archives/partial"):
            (apt / folder).mkdir(parents=True)
        (apt / "status").touch()
        (apt / "sources.list").write_text(f"deb [arch=arm64] {mirrors.splitlines()[0]} {SUITE} main\n")
        options = {
            "APT::Architecture": "arm64", "APT::Architectures::": "arm64", "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root", "Dir::Etc::sourcelist": apt / "sources.list", "Dir::Etc::sourceparts": "-",
            "Dir::State": apt, "Dir::State::status": apt / "status", "Dir::State::lists": apt / "lists",
            "Dir::Cache": apt / "cache", "Acquire::Retries": 3,
        }  # fmt: skip
        command = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in options.items())]
        run(*command, "update")
        run(*command, "-y", "-d", "install", *DEBIAN)
        for package in sorted(apt.glob("cache/archives/*.deb")):
            run("dpkg-deb", "-x", package, root)


def fetch_wheels(site: Path, pins: list[str]) -> None:
    platforms = [f"--platform=manylinux_2_{glibc}_aarch64" for glibc in range(GLIBC_OLDEST, GLIBC + 1)]
    target = [
        "--python-version",
        "{}.{}".format(*VERSION),
        "--implementation",
        "cp",
        "--platform=manylinux2014_aarch64",
    ]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "install", "--no-deps"]
    run(*pip, "--only-binary=:all:", *target, *platforms, "--target", site, *pins)
    run(sys.executable, "-m", "compileall", "-q", site)  # the same version here: halves how long a run takes to start


def kept(folder: Path, make: Callable[[Path], None]) -> None:
    """Makes the folder unless it is there; half a one never is."""
    if folder.exists():
        return
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    make(partial)
    partial.rename(folder)


def main() -> None:
    if sys.version_info[:2] != VERSION:
        raise SystemExit("fetch_arm_python: Debian 12 has CPython {}.{} for ARM, .venv must be of it".format(*VERSION))
    pins = wanted()
    folder = FOLDER / hashlib.sha256("\n".join((SUITE, *DEBIAN, *pins)).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            kept(folder / "root", fetch_debian)
            kept(folder / "site", lambda site: fetch_wheels(site, pins))
        except subprocess.CalledProcessError as error:
            command = " ".join(map(str, error.cmd[:1]))
            why = f"{command} failed; Debian's mirror and PyPI must be reached once, then all is kept in {FOLDER}"
            raise SystemExit(f"fetch_arm_python: {why}") from None
    print(folder)


if __name__ == "__main__":
    main()
