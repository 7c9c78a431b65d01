"""When segments are fetched in the background, and what those hear that wait for them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

import pytest

from akidb.collection import fetching
from akidb.collection.fetching import Fetching
from akidb.errors import UnavailableError

TURNS = 50


class Fetch:
    """Fetches when `go` is set, or fails as it is told to."""

    def __init__(self) -> None:
        self.begun = self.done = 0
        self.go = asyncio.Event()
        self.failures: list[Exception] = []

    async def __call__(self) -> None:
        self.begun += 1
        await self.go.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.done += 1


@pytest.fixture
async def fetch() -> Fetch:
    return Fetch()


@pytest.fixture
async def segments(fetch: Fetch) -> AsyncIterator[Fetching]:
    segments = Fetching(fetch, "collection 'p'")
    yield segments
    await segments.close()


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def test_a_first_search_is_left_alone_until_it_has_its_answer(fetch: Fetch, segments: Fetching) -> None:
    fetch.go.set()
    with segments.left_to_it():
        segments.begin_soon()
        await _turns()
        assert fetch.begun == 0
    await _turns()
    assert fetch.done == 1


@pytest.mark.parametrize("name", ["PATIENCE_SECS", "ANSWER_SECS_MAX"])
async def test_fetching_does_not_wait_for_ever(
    fetch: Fetch, segments: Fetching, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(fetching, name, 0.0)
    fetch.go.set()
    segments.begin_soon()
    if name == "PATIENCE_SECS":  # nobody searches
        await _turns()
        assert fetch.done == 1
    else:  # nobody answers
        with segments.left_to_it():
            await _turns()
            assert fetch.done == 1


async def test_who_needs_the_segments_does_not_wait_for_a_search(fetch: Fetch, segments: Fetching) -> None:
    fetch.go.set()
    with segments.left_to_it():
        await segments.wait(math.inf)
    assert fetch.done == 1


async def test_each_that_waits_hears_of_the_fetch_it_waited_for(fetch: Fetch, segments: Fetching) -> None:
    fetch.failures = [UnavailableError("away")]

    async def persistent() -> None:
        with pytest.raises(UnavailableError, match="away"):
            await segments.wait(math.inf)
        await segments.wait(math.inf)  # begins the next before the others are told of the first

    waiting = [asyncio.create_task(persistent()), asyncio.create_task(segments.wait(math.inf))]
    await _turns()
    fetch.go.set()
    first, second = await asyncio.gather(*waiting, return_exceptions=True)
    assert first is None
    assert isinstance(second, UnavailableError)
    assert (fetch.begun, fetch.done) == (2, 1)
