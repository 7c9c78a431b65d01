"""What must hold from one HEAD to the next. A swap that would break one is a bug of ours and is not sent.

Each predicate has its reason in its docstring, and a test that breaks it.
"""

from __future__ import annotations

from collections.abc import Callable

from akidb.manifest.model import RECENT_MAX, Head


def version_rises_by_one(old: Head, new: Head) -> bool:
    """A reader that knows version v tells from v + 1 alone that it missed nothing."""
    return new.version == old.version + 1


def commit_id_is_fresh(old: Head, new: Head) -> bool:
    """The same bytes twice would be the same ETag twice: a late swap could land on a HEAD it was not made from."""
    return (
        new.commit_id not in (*old.recent, old.commit_id) and new.recent == (*old.recent, new.commit_id)[-RECENT_MAX:]
    )


def folded_never_falls(old: Head, new: Head) -> bool:
    """A fold is for ever: slots below it may be gone."""
    return new.folded >= old.folded >= 1


def garbage_stays_within_folded(old: Head, new: Head) -> bool:
    """A slot may go only when the segments say what it said; once it may be gone it stays so."""
    return old.garbage <= new.garbage <= new.folded


def settled_stays_within_garbage(old: Head, new: Head) -> bool:
    """Slots below it may be deleted now: HEAD must have said before that they may be gone."""
    return old.settled <= new.settled <= old.garbage or new.settled == old.settled == 0


def chain_moves_with_folded(old: Head, new: Head) -> bool:
    """The chain names slot folded - 1; if it moved alone, the next slot would not fit on it."""
    return len(new.chain) == 16 and (new.chain == old.chain) == (new.folded == old.folded)


def segments_are_distinct(_: Head, new: Head) -> bool:
    """A segment named twice would be counted and searched twice."""
    keys = [key for ref in new.segments for key in (ref.key, ref.deletes_key) if key is not None]
    return len({ref.uuid for ref in new.segments}) == len(new.segments) and len(set(keys)) == len(keys)


def segments_hold_only_folded_slots(_: Head, new: Head) -> bool:
    """A row of a slot at or above folded would be applied again from the log."""
    return all(ref.lsn_max < new.folded for ref in new.segments)


def live_rows_are_rows(_: Head, new: Head) -> bool:
    """A deletes object can't leave more than there is."""
    return all(0 <= ref.live <= ref.rows for ref in new.segments)


def live_count_adds_up(_: Head, new: Head) -> bool:
    """The count that a fold derives and the rows that its segments hold are two ways to the same number."""
    return new.live_count == sum(ref.live for ref in new.segments)


def live_count_moves_with_folded(old: Head, new: Head) -> bool:
    """Building a graph or merging segments changes no answer, so it changes no count."""
    return new.folded > old.folded or new.live_count == old.live_count


def requests_move_with_folded(old: Head, new: Head) -> bool:
    """Only a fold takes requests out of the log, so only a fold tells of them elsewhere."""
    return new.folded > old.folded or new.requests == old.requests


def snapshots_are_distinct(_: Head, new: Head) -> bool:
    """Who names a snapshot means one."""
    return len({pin.name for pin in new.pins}) == len({pin.uuid for pin in new.pins}) == len(new.pins)


def snapshots_hold_only_folded_slots(_: Head, new: Head) -> bool:
    """A snapshot is of slots that segments hold; the log alone may be all that holds the others."""
    return all(pin.lsn < new.folded for pin in new.pins)


def snapshots_leave_by_folding(old: Head, new: Head) -> bool:
    """A slot that reverts to a snapshot is applied from what the snapshot keeps until it is folded. Which of the two
    came first, the revert or the drop, only the log says, so only a fold of the drop takes the snapshot out."""
    return new.folded > old.folded or {pin for pin in old.pins if not pin.clone} <= set(new.pins)


def seal_is_final(old: Head, new: Head) -> bool:
    """Nothing follows a seal in the log, so nothing can be folded after it, and nothing takes it back."""
    return not old.sealed or (new.sealed and new.folded == old.folded)


def epochs_never_fall(old: Head, new: Head) -> bool:
    """They fence old owners out; going back would let one in."""
    return new.gc_epoch >= old.gc_epoch and new.term >= old.term and new.compaction_epoch >= old.compaction_epoch


INVARIANTS: tuple[Callable[[Head, Head], bool], ...] = (
    version_rises_by_one,
    commit_id_is_fresh,
    folded_never_falls,
    garbage_stays_within_folded,
    settled_stays_within_garbage,
    chain_moves_with_folded,
    segments_are_distinct,
    segments_hold_only_folded_slots,
    live_rows_are_rows,
    live_count_adds_up,
    live_count_moves_with_folded,
    requests_move_with_folded,
    snapshots_are_distinct,
    snapshots_hold_only_folded_slots,
    snapshots_leave_by_folding,
    seal_is_final,
    epochs_never_fall,
)


def broken(old: Head, new: Head) -> list[str]:
    """Names of the invariants that going from `old` to `new` would break."""
    return [holds.__name__ for holds in INVARIANTS if not holds(old, new)]
