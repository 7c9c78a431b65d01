"""Generated vectors that are as hard to search as real ones, for benchmarks and recall tests; and a reader for files of
vectors.

Independent Gaussian values would be useless here: their intrinsic dimension is their dimension, no neighbour is much
nearer than another, and a layout or an encoding that gains on real embeddings gains nothing on them. So: a mixture of
about n / 1000 clusters whose sizes follow a power law, each on a random subspace of its own with a decaying spectrum,
around centres that share a global decaying spectrum, plus a little noise in all directions. The constants are set so
that the local intrinsic dimension is about 20: image descriptors have 15 to 25, the sentence embeddings of the Debian
sample 24. `local_intrinsic_dimension` measures it, and tests assert it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]

SUBSPACE_DIM = (32, 64)
DECAY = (0.1, 0.5)  # of a subspace's spectrum: i^-decay
SPREAD = 1.5  # length of a cluster's deviations, that of the centres' being 1
NOISE = 0.3  # length of the part that has no structure
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Dataset:
    """base (n, dim), queries (q, dim) of the same process, shifted (q, dim) of a distribution moved away from it;
    float32.
    """

    base: Vectors
    queries: Vectors
    shifted: Vectors


def clustered(n: int, dim: int, *, queries: int = 1000, unit: bool = False, seed: int = 0) -> Dataset:
    """`unit` scales to length 1, as text embeddings are. The same arguments give the same values."""
    rng = np.random.default_rng(seed)
    mixture = _Mixture(rng, max(8, n // 1000), dim)
    base, held_out, shifted = mixture.draw(n), mixture.draw(queries), mixture.draw(queries)
    shifted += 0.5 * mixture.centres[0]
    sets = [base, held_out, shifted]
    if unit:
        sets = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in sets]
    return Dataset(*(np.ascontiguousarray(each, np.float32) for each in sets))


class _Mixture:
    def __init__(self, rng: np.random.Generator, clusters: int, dim: int) -> None:
        self.rng = rng
        self.dim = dim
        rotation = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
        self.centres = ((rng.normal(size=(clusters, dim)) * _spectrum(dim, 0.5)) @ rotation).astype(np.float32)
        share = rng.permutation(1.0 / np.arange(1, clusters + 1) ** 0.5)
        self.share = share / share.sum()
        ranks = rng.integers(min(SUBSPACE_DIM[0], dim), min(SUBSPACE_DIM[1], dim) + 1, clusters)
        self.axes = [self._axes(int(rank)) for rank in ranks]

    def _axes(self, rank: int) -> Vectors:
        directions = np.linalg.qr(self.rng.normal(size=(self.dim, rank)))[0].T
        decay = self.rng.uniform(*DECAY)
        return (SPREAD * _spectrum(rank, decay)[:, None] * directions).astype(np.float32)

    def draw(self, n: int) -> Vectors:
        out = np.empty((n, self.dim), np.float32)
        cluster = self.rng.choice(len(self.share), n, p=self.share)
        for c in np.unique(cluster):
            rows = np.flatnonzero(cluster == c)
            position = self.rng.standard_normal((len(rows), len(self.axes[c])), np.float32)
            out[rows] = self.centres[c] + position @ self.axes[c]
        for start in range(0, n, _BLOCK):
            block = out[start : start + _BLOCK]
            block += NOISE / np.sqrt(self.dim) * self.rng.standard_normal(block.shape, np.float32)
        return out


def _spectrum(dim: int, decay: float) -> npt.NDArray[np.float64]:
    """Standard deviations falling as i^-decay, scaled so that a vector with them has length 1 on average."""
    values = np.arange(1, dim + 1) ** -decay
    return np.asarray(values / np.linalg.norm(values))


def local_intrinsic_dimension(distances: npt.NDArray[np.floating]) -> float:
    """Mean of the maximum-likelihood estimates (Levina and Bickel, 2004) from each query's distances (q, k) to its k
    neighbours, nearest first.

    Distances are Euclidean (not squared) and positive.
    """
    ratio = np.log(distances[:, -1:] / np.maximum(distances[:, :-1], 1e-12))
    return float(np.mean(1.0 / np.mean(ratio, axis=1)))


def read(path: str | Path, column: str = "embedding") -> Vectors:
    """float32 (n, dim) of a .npy, .fvecs, .fbin or .parquet file (the list column `column`)."""
    path = Path(path)
    if path.suffix == ".npy":
        return np.ascontiguousarray(np.load(path), np.float32)
    if path.suffix == ".fvecs":  # each row: its dim as int32, then its values
        raw = np.fromfile(path, np.float32)
        return np.ascontiguousarray(raw.reshape(-1, int(raw[:1].view(np.int32)[0]) + 1)[:, 1:])
    if path.suffix == ".fbin":  # n and dim as uint32, then the rows
        n, dim = np.fromfile(path, np.uint32, 2)
        return np.fromfile(path, np.float32, offset=8).reshape(int(n), int(dim))
    if path.suffix == ".parquet":
        import pyarrow.parquet as parquet

        table = parquet.read_table(path, columns=[column])
        values = table[column].combine_chunks()
        return np.asarray(values.flatten(), np.float32).reshape(len(values), -1)
    raise ValueError(f"{path}: expected .npy, .fvecs, .fbin or .parquet")
