"""Each invariant of HEAD is broken once, and only it, and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest

from akidb.manifest import INVARIANTS, Head, Pin, RequestsRef, SegmentRef, broken

CHAIN = bytes(range(16))
REF = SegmentRef(UUID(int=100), "p/seg/0-a", rows=10, live=9, bytes=4096, lsn_max=4)
OTHER = SegmentRef(UUID(int=101), "p/seg/0-b", rows=5, live=5, bytes=4096, lsn_max=6)
PIN = Pin("a", UUID(int=8), 2, points=9)
OLD = Head(
    version=3, commit_id=UUID(int=3), recent=(UUID(int=2), UUID(int=3)), segments=(REF,), folded=5, garbage=4,
    gc_epoch=2, term=2, compaction_epoch=2, chain=CHAIN, live_count=9, pins=(PIN,),
)  # fmt: skip


def _next(old: Head, **changes: object) -> Head:
    commit = UUID(int=50 + old.version)
    return replace(old, version=old.version + 1, commit_id=commit, recent=(*old.recent, commit)[-64:], **changes)


FOLDED = {"segments": (REF, OTHER), "folded": 7, "chain": bytes(16), "live_count": 14}


def test_a_fold_breaks_none() -> None:
    assert broken(OLD, _next(OLD, **FOLDED)) == []


def test_a_graph_breaks_none() -> None:
    with_graph = replace(REF, uuid=UUID(int=102), key="p/seg/0-c", has_graph=True)
    assert broken(OLD, _next(OLD, segments=(with_graph,))) == []


def test_raising_garbage_breaks_none() -> None:
    assert broken(OLD, _next(OLD, garbage=5)) == []


BREAKS: dict[str, Callable[[], tuple[Head, Head]]] = {
    "version_rises_by_one": lambda: (OLD, replace(_next(OLD), version=5)),
    "commit_id_is_fresh": lambda: (OLD, replace(_next(OLD), commit_id=UUID(int=2), recent=(UUID(int=3), UUID(int=2)))),
    "folded_never_falls": lambda: (OLD, _next(OLD, folded=4, garbage=4, chain=bytes(16), segments=(), live_count=9)),
    "garbage_stays_within_folded": lambda: (OLD, _next(OLD, garbage=6)),
    "chain_moves_with_folded": lambda: (OLD, _next(OLD, chain=bytes(16))),
    "segments_are_distinct": lambda: (OLD, _next(OLD, segments=(replace(REF, live=4), replace(REF, key="d", live=5)))),
    "segments_hold_only_folded_slots": lambda: (OLD, _next(OLD, segments=(replace(REF, lsn_max=5),))),
    "live_rows_are_rows": lambda: (OLD, _next(OLD, **{**FOLDED, "segments": (replace(REF, live=14),)})),
    "live_count_adds_up": lambda: (OLD, _next(OLD, **{**FOLDED, "live_count": 13})),
    "live_count_moves_with_folded": lambda: (OLD, _next(OLD, segments=(replace(REF, live=8),), live_count=8)),
    "requests_move_with_folded": lambda: (OLD, _next(OLD, requests=(RequestsRef(UUID(int=7), 1, 0),))),
    "settled_stays_within_garbage": lambda: (OLD, _next(OLD, settled=5, garbage=5)),
    "snapshots_are_distinct": lambda: (OLD, _next(OLD, pins=(PIN, replace(PIN, uuid=UUID(int=9))))),
    "snapshots_hold_only_folded_slots": lambda: (OLD, _next(OLD, pins=(PIN, replace(PIN, name="b", lsn=5)))),
    "snapshots_leave_by_folding": lambda: (OLD, _next(OLD, pins=())),
    "seal_is_final": lambda: (replace(OLD, sealed=True), _next(OLD)),
    "epochs_never_fall": lambda: (OLD, _next(OLD, gc_epoch=1)),
}


@pytest.mark.parametrize("name", [holds.__name__ for holds in INVARIANTS])
def test_what_breaks_an_invariant_is_named(name: str) -> None:
    old, new = BREAKS[name]()
    named = broken(old, new)
    assert name in named
    assert set(named) <= {name, "live_count_adds_up", "snapshots_are_distinct"}


def test_a_fold_may_take_a_snapshot_out_and_a_clones_pin_goes_at_any_time() -> None:
    assert broken(OLD, _next(OLD, **FOLDED, pins=())) == []
    assert broken(replace(OLD, pins=(replace(PIN, clone=True),)), _next(OLD, pins=())) == []


def test_garbage_never_falls() -> None:
    assert broken(OLD, _next(OLD, garbage=3)) == ["garbage_stays_within_folded"]


def test_a_deletes_object_belongs_to_one_segment() -> None:
    both = (replace(REF, deletes_key="p/del/x"), replace(OTHER, deletes_key="p/del/x"))
    assert broken(OLD, _next(OLD, **{**FOLDED, "segments": both})) == ["segments_are_distinct"]


def test_nothing_is_folded_after_a_seal() -> None:
    assert broken(replace(OLD, sealed=True), _next(OLD, **FOLDED, sealed=True)) == ["seal_is_final"]


@pytest.mark.parametrize("epoch", ["gc_epoch", "term", "compaction_epoch"])
def test_each_epoch_only_rises(epoch: str) -> None:
    assert broken(OLD, _next(OLD, **{epoch: 1})) == ["epochs_never_fall"]
    assert broken(OLD, _next(OLD, **{epoch: 3})) == []


def test_recent_keeps_the_last_64_commits() -> None:
    head = Head(0, UUID(int=0), (UUID(int=0),))
    for _ in range(70):
        new = _next(head)
        assert broken(head, new) == []
        head = new
    assert len(head.recent) == 64
