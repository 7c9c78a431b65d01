"""Three processes over MinIO, killed, stood still and cut off, answer of each point as one register would.

`python -m tests.linearizability --histories 100` is the long form.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.linearizability.checker import ViolationError
from tests.linearizability.cluster import TROUBLES, cluster
from tests.linearizability.run import run
from tests.servers import S3Server

pytestmark = [pytest.mark.s3, pytest.mark.slow]

SECS = 20.0


@pytest.mark.parametrize("forwarding", [False, True], ids=["each for itself", "forwarding"])
async def test_a_history_under_kills_pauses_and_cut_offs_is_linearizable(
    minio: S3Server, tmp_path: Path, forwarding: bool
) -> None:
    with cluster(minio, f"linearizability-{forwarding}".lower(), tmp_path, forwarding=forwarding) as nodes:
        report = await run(nodes, 1, SECS)
        if forwarding:
            name = "akidb_cluster_batches_total"
            assert sum(process.node.metric(name, outcome="received") for process in nodes.processes) > 0
    assert report.outcomes["writes done"] > 100, report
    assert report.outcomes["reads done"] > 100, report
    assert report.outcomes["writes refused"] > 10, report
    assert set(report.fired) == set(TROUBLES), report


async def test_nodes_that_answer_from_what_they_have_are_found_out(minio: S3Server, tmp_path: Path) -> None:
    with (
        cluster(minio, "not-linearizable", tmp_path, AKIDB_QUERY_CONSISTENCY="eventual") as nodes,
        pytest.raises(ViolationError),
    ):
        await run(nodes, 1, 3.0, troubled=False)
