"""Which states a read may see."""

from __future__ import annotations

import time

from akidb.types import Consistency, Lsn


def suffices(consistency: Consistency, wanted: Lsn, lsn: Lsn, caught_up: float) -> bool:
    """Whether a state up to `lsn`, which held all there was at `caught_up`, is what `consistency` asks for; a session
    asks for slot `wanted`."""
    match consistency.mode:
        case "eventual":
            return True
        case "session":
            return lsn >= wanted
        case "bounded":
            return time.monotonic() - caught_up < consistency.bounded_ms / 1000
    return False
