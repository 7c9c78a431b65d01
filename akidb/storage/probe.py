"""The question a store must answer before anything is written to it: does it keep conditions?"""

from __future__ import annotations

import uuid

from akidb.errors import ConfigurationError
from akidb.storage.keys import PROBE_FOLDER
from akidb.storage.object_store import ObjectStore, Status

_probed: set[str] = set()


async def require_conditional_puts(store: ObjectStore) -> None:
    """Tries three conditional puts on a fresh key, one after the other, once per process and location.

    This finds a store that ignores conditions; one that checks them without a lock passes, and only a race finds it:
    `akidb store check` races. Nothing is left behind. Raises ConfigurationError naming
    the store.
    """
    if store.location in _probed:
        return
    key = f"{PROBE_FOLDER}/{uuid.uuid4()}"
    created = await store.put_if_absent(key, b"akidb probe 1")
    try:
        again = await store.put_if_absent(key, b"akidb probe 2")
        stale = await store.put_if_match(key, b"akidb probe 3", '"00000000000000000000000000000000"')
        held = await store.get(key)
    finally:
        await store.delete_many([key])
    faults = []
    if created.status is not Status.OK:
        faults.append(f"creating a fresh object answered {created.status.value}")
    if again.status is not Status.CONDITION_FAILED:
        faults.append(f"If-None-Match: * on an existing object answered {again.status.value}")
    if stale.status is not Status.CONDITION_FAILED:
        faults.append(f"If-Match with a wrong ETag answered {stale.status.value}")
    if held.body != b"akidb probe 1":
        faults.append("the object was overwritten")
    if faults:
        raise ConfigurationError(
            f"the store {store.location} does not keep conditional writes ({'; '.join(faults)}): writers overwrite "
            "each other, so AkiDB does not use it (docs/object-stores.md has the way out for a single process)",
            code="no_conditional_writes",
        )
    _probed.add(store.location)
