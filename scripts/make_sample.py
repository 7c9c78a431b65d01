"""Make sample/ from the full data: for each query its nearest packages, and a seeded rest.

    python scripts/make_sample.py debian-packages.parquet queries.parquet sample

The first rows alone would hold no answer to any query. Embeddings were rounded to float16's precision where they were
made, so byte-stream split and zstd bring float32 down to little more than two bytes a number, and every reader gets
plain float32. The output is the same bytes for the same input and the same pyarrow.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SEARCHES: tuple[tuple[str, str, dict[str, object] | None], ...] = (
    ("a small web server", "a-small-web-server", None),
    ("chess game with graphics", "chess-game-with-graphics", None),
    (
        "password manager",
        "small-password-manager",
        {"must": [{"field": "installed_kib", "range": {"lte": 1024}}]},
    ),
)
"""Searches that `make run` shows: the query, the file's name, the filter. The files are bodies for curl's -d @file."""


def embeddings(table: pa.Table) -> np.ndarray:
    """The `embedding` column as float32 (rows, dim), unit length within float16's precision."""
    column = table["embedding"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(table), column.type.list_size)


def choose_rows(packages: np.ndarray, queries: np.ndarray, neighbours: int, rows: int, seed: int) -> np.ndarray:
    """Sorted row numbers: the `neighbours` best by cosine of every query, then random others up to `rows`."""
    scores = queries @ packages.T
    near = np.unique(np.argsort(-scores, axis=1, kind="stable")[:, :neighbours])
    others = np.setdiff1d(np.arange(len(packages)), near)
    rest = np.random.default_rng(seed).choice(others, rows - len(near), replace=False)
    return np.sort(np.concatenate([near, rest]))


def write(table: pa.Table, path: Path) -> None:
    pq.write_table(
        table,
        path,
        row_group_size=1000,
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in ("section", "priority") if name in table.column_names],
        use_byte_stream_split=["embedding.list.element"],
    )


def write_search(path: Path, vector: np.ndarray, where: dict[str, object] | None) -> None:
    # Rounded to float16 already, so six digits name the same float16 and a float32 as good as it.
    body = {"vector": [float(f"{value:.6g}") for value in vector.tolist()], "top_k": 5}
    path.write_text(json.dumps(body if where is None else {"filter": where, **body}) + "\n", encoding="utf-8")


@click.command()
@click.argument("packages", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("queries", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--rows", default=4000, show_default=True, help="Packages in the sample.")
@click.option("--neighbours", default=60, show_default=True, help="Nearest packages kept of each query.")
@click.option("--seed", default=0, show_default=True, help="Seed of the random rest.")
def main(packages: Path, queries: Path, folder: Path, rows: int, neighbours: int, seed: int) -> None:
    """Write FOLDER/debian-packages.parquet, queries.parquet and searches/*.json."""
    package_table, query_table = pq.read_table(packages), pq.read_table(queries)
    query_vectors = embeddings(query_table)
    chosen = choose_rows(embeddings(package_table), query_vectors, neighbours, rows, seed)
    (folder / "searches").mkdir(parents=True, exist_ok=True)
    write(package_table.take(pa.array(chosen)), folder / "debian-packages.parquet")
    write(query_table, folder / "queries.parquet")
    texts = query_table["query"].to_pylist()
    for text, name, where in SEARCHES:
        write_search(folder / "searches" / f"{name}.json", query_vectors[texts.index(text)], where)
    click.echo(f"{len(chosen)} packages and {len(texts)} queries in {folder}")


if __name__ == "__main__":
    main()
