"""Random calls to both indexes beside a dict that is told the same: whatever came before, an index holds what the dict
holds and answers by it.

One seed is a run. `AKIDB_MODEL_RUNS=500 pytest tests/unit/index/test_model.py` makes that many of each kind.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from akidb import FlatIndex, HnswIndex
from akidb.errors import AkiDBError

RUNS = int(os.environ.get("AKIDB_MODEL_RUNS", "1"))
STEPS = 40
DIMS = (1, 2, 3, 7, 8, 13, 33, 64, 127)
DTYPES = ("float32", "float16", "bfloat16", "int8", "uint8")
SPACES = [*((dtype, metric) for dtype in DTYPES for metric in ("l2", "ip", "cosine")), ("binary", "hamming")]
Values = npt.NDArray[Any]


class Run:
    """An index and what it should hold: by id the vector, of which it keeps exactly these numbers."""

    def __init__(self, kind: Any, dtype: str, metric: str, seed: int, folder: Path) -> None:
        self.rng = np.random.default_rng([seed, SPACES.index((dtype, metric))])
        self.dtype, self.metric, self.folder = dtype, metric, folder
        self.dim = int(self.rng.choice(DIMS))
        self.draw = self.choose_data()
        options = {"m": int(self.rng.choice([2, 5, 16])), "ef_construction": 64} if kind is HnswIndex else {}
        self.index = kind(self.dim, metric, dtype=dtype, **options)
        self.held: dict[int, Values] = {}

    def choose_data(self) -> Callable[[int], Values]:
        """Even, clustered, of few values, all equal, or of lengths far apart, as whole numbers of small size: every
        dtype holds them and sums of their products are exact.
        """
        rng, low = self.rng, 0 if self.dtype in ("uint8", "binary") else -6
        high = 1 if self.dtype == "binary" else 6
        few = rng.integers(low, high, (int(rng.choice([1, 2, 5])), self.dim), endpoint=True)

        def even(count: int) -> Values:
            return rng.integers(low, high, (count, self.dim), endpoint=True)

        def clustered(count: int) -> Values:
            near = few[rng.integers(len(few), size=count)] + rng.integers(-1, 1, (count, self.dim), endpoint=True)
            return np.clip(near, low, high)

        def equal(count: int) -> Values:
            return few[rng.integers(len(few), size=count)]

        def uneven(count: int) -> Values:
            return even(count) * (1 if self.dtype == "binary" else rng.choice([1, 1, 20], size=(count, 1)))

        return [even, clustered, equal, uneven][rng.integers(4)]

    def vectors(self, count: int) -> Values:
        made = self.draw(count).astype(np.float32)
        if self.metric == "cosine":
            made[~made.any(axis=1)] = 1
        return made

    def given(self, vectors: Values) -> Values:
        return vectors.astype(np.bool_) if self.dtype == "binary" else vectors

    def some_ids(self, most: int) -> list[int]:
        count = int(self.rng.integers(0, min(most, len(self.held)), endpoint=True))
        return [int(id_) for id_ in self.rng.choice(list(self.held), count, replace=False)] if count else []

    def add(self) -> None:
        vectors = self.vectors(int(self.rng.choice([0, 1, 1, 3, 40, 150])))
        if self.rng.random() < 0.5:
            first = max(self.held, default=-1) + 1
            ids = list(range(first, first + len(vectors)))
            self.index.add(self.given(vectors))
        else:
            ids = [int(id_) for id_ in self.rng.choice(3000, len(vectors), replace=False)]
            ids = [id_ if id_ not in self.held else 3000 + max(self.held) + i for i, id_ in enumerate(ids)]
            self.index.add(ids, self.given(vectors))
        self.held.update(zip(ids, vectors, strict=True))

    def update(self) -> None:
        ids = self.some_ids(100)
        vectors = self.vectors(len(ids))
        self.index.update(ids, self.given(vectors))
        self.held.update(zip(ids, vectors, strict=True))

    def remove(self) -> None:
        gone = self.some_ids(int(self.rng.choice([1, 5, 1000])))
        self.index.remove(gone)
        for id_ in gone:
            del self.held[id_]

    def refuse(self) -> None:
        """Calls that raise change nothing."""
        known, unknown = self.some_ids(2), max(self.held, default=0) + 7
        calls = [
            lambda: self.index.remove([*known, unknown]),
            lambda: self.index.update([*known, unknown], self.given(self.vectors(len(known) + 1))),
            lambda: self.index.add([unknown, *known, unknown], self.given(self.vectors(len(known) + 2))),
            lambda: self.index.add([unknown, -1], self.given(self.vectors(2))),
            lambda: self.index.search(self.given(self.vectors(1)), filter=[*known, unknown]),
        ]
        if self.held:
            calls.append(lambda: self.index.search(self.given(self.vectors(1)), filter=np.ones(unknown - 7, bool)))
        for call in calls:
            with pytest.raises(AkiDBError):
                call()

    def reopen(self) -> None:
        if isinstance(self.index, HnswIndex):
            self.index.save(self.folder / "index")
            self.index = HnswIndex.load(self.folder / "index")

    def seal(self) -> None:
        if not isinstance(self.index, HnswIndex):
            return
        bits = int(self.rng.choice([0, 4, 8])) if self.dtype != "binary" else 0
        sealed = self.index.seal(bits)
        self.check_search(sealed, exact=bits == 0)
        sealed.save(self.folder / "sealed")
        view = HnswIndex.view(self.folder / "sealed", map_vectors=bool(self.rng.random() < 0.5))
        assert view.validate()["nodes"] == len(self.held)
        self.check_search(view, exact=bits == 0)

    def check_search(self, index: Any, *, exact: bool = True) -> None:
        k = int(self.rng.choice([1, 3, 10, 400]))
        queries = self.vectors(int(self.rng.choice([1, 3, 33])))
        choice = self.rng.random()
        allowed, filter_ = set(self.held), None
        if choice < 0.3:
            ids = self.some_ids(1000)
            allowed, filter_ = set(ids), np.array([*ids, *ids[:1]], np.int64)
        elif choice < 0.5:
            reach = max(self.held, default=-1) + 1
            filter_ = self.rng.random(reach + int(self.rng.choice([0, 1, 2000]))) < self.rng.random()
            allowed = {id_ for id_ in self.held if filter_[id_]}
        options = {} if isinstance(index, FlatIndex) else {"ef_search": 2000}
        ids, distances = index.search(self.given(queries), k, filter=filter_, **options)
        wanted = min(k, len(allowed))
        assert (ids[:, wanted:] == -1).all()
        assert np.isposinf(distances[:, wanted:]).all()
        assert (np.diff(distances[:, :wanted]) >= 0).all()
        names = sorted(allowed)
        rows = np.stack([self.held[id_] for id_ in names]) if names else np.empty((0, self.dim), np.float32)
        truth = self.distances(queries, rows)
        for found, near, true in zip(ids[:, :wanted], distances[:, :wanted], truth, strict=True):
            assert len(set(found.tolist())) == wanted
            assert set(found.tolist()) <= allowed
            np.testing.assert_allclose(near, true[np.searchsorted(names, found)], rtol=1e-5, atol=1e-5)
            if exact:
                np.testing.assert_allclose(near, np.sort(true)[:wanted], rtol=1e-5, atol=1e-5)

    def distances(self, queries: Values, rows: Values) -> Values:
        queries, rows = queries.astype(np.float64), rows.astype(np.float64)
        if self.metric == "ip":
            return -queries @ rows.T
        if self.metric == "cosine":
            lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(rows, axis=1)
            return 1 - queries @ rows.T / lengths
        return np.square(queries[:, None, :] - rows).sum(axis=2)

    def check(self) -> None:
        assert len(self.index) == len(self.held)
        assert sorted(self.index.ids.tolist()) == sorted(self.held)
        known = self.some_ids(5)
        assert all(id_ in self.index for id_ in known)
        assert max(self.held, default=0) + 1 not in self.index
        kept = self.index.get(known)
        if self.dtype == "binary":
            kept = np.unpackbits(kept, axis=1, count=self.dim)
        np.testing.assert_array_equal(kept, np.stack([self.held[i] for i in known]) if known else kept[:0])
        self.check_search(self.index)
        if isinstance(self.index, HnswIndex):
            assert self.index.validate()["nodes"] <= len(self.held) * 4 // 3 + 64


@pytest.mark.parametrize(("dtype", "metric"), SPACES)
@pytest.mark.parametrize("kind", [HnswIndex, FlatIndex], ids=lambda kind: kind.__name__)
def test_an_index_holds_and_finds_what_a_dict_would(kind: Any, dtype: str, metric: str, tmp_path: Path) -> None:
    for seed in range(RUNS):
        run = Run(kind, dtype, metric, seed, tmp_path)
        steps = [run.add, run.add, run.update, run.remove, run.refuse, run.reopen, run.seal]
        for step in run.rng.integers(len(steps), size=STEPS):
            try:
                steps[step]()
                run.check()
            except BaseException as error:
                error.add_note(f"seed {seed}, dim {run.dim}, in {steps[step].__name__}")
                raise
