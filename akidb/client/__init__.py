"""The REST client: the same calls as the embedded database, answered by a running akidb-api.

It needs only `types` and `errors` of the rest of AkiDB. `akidb.connect("http://host:8080")` is the usual way in.
"""

from akidb.client.collection import RemoteCollection
from akidb.client.database import RemoteDatabase

__all__ = ["RemoteCollection", "RemoteDatabase"]
