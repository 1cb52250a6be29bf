"""Node's real packages and Toril on one cluster: with all queues in one slot, and with a slot for each."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.interop.peer import Peer, started
from tests.interop.tasks import QUEUE, application
from tests.redis.conftest import shared_cluster
from tests.redis.nodes import ClusterServers
from toril import Toril

__all__ = ["shared_cluster"]

pytestmark = pytest.mark.timeout(60)

PREFIXES = {"{bull}": "{bull}", "{bull-<queue>}": f"{{bull-{QUEUE}}}"}
"""Toril's, and the same for Node."""


@pytest.fixture(params=PREFIXES, ids=["slot", "slots"])
def prefix(request: pytest.FixtureRequest) -> str:
    text: str = request.param
    return text


@pytest.fixture
async def node(node_packages: None, shared_cluster: ClusterServers, major: int, prefix: str) -> AsyncIterator[Peer]:
    shared_cluster.clear()
    async with started("peer.mjs", major, shared_cluster.nodes[0].port, PREFIXES[prefix], "cluster") as peer:
        yield peer


@pytest.fixture
async def toril(shared_cluster: ClusterServers, prefix: str) -> AsyncIterator[Toril]:
    async with application(f"{shared_cluster.url}?prefix={prefix}") as app:
        yield app


async def test_node_adds_and_toril_finishes(node: Peer, toril: Toril) -> None:
    # A16
    await node.ask("listen", queue=QUEUE)
    jobs = [{"name": "double", "data": {"n": n}, "opts": {"delay": n % 2}} for n in range(10)]
    ids = [job["id"] for job in await node.queue(QUEUE, "addBulk", jobs)]
    async with toril.worker(concurrency=4) as worker:
        for id_ in ids:
            await node.event("completed", id_)
        done = [await node.get(QUEUE, id_) for id_ in ids]
        # The connection that carries the name may be about to connect.
        while not (workers := await node.queue(QUEUE, "getWorkers")):
            pass
    assert [job and job["returnvalue"] for job in done] == [{"doubled": n * 2} for n in range(10)]
    assert {job and job["processedBy"] for job in done} == {worker.id}
    assert len(workers) == 1
    assert node.errors() == []


async def test_toril_adds_and_node_finishes(node: Peer, toril: Toril) -> None:
    # A16
    double = toril.registry.get("double")
    assert double is not None
    handles = await toril.enqueue_many(double.call(n=n) for n in range(10))
    await node.ask("worker", queue=QUEUE)
    assert [await handle.result(timeout=20) for handle in handles] == [{"doubled": n * 2} for n in range(10)]
    await node.queue(QUEUE, "pause")
    assert await toril.engine.inspect.is_paused(QUEUE)
    counts = await node.queue(QUEUE, "getJobCounts")
    assert counts["completed"] == 10
    assert node.errors() == []
