"""Pausing from either side: no job is lost and none runs meanwhile, by the rules of either major version."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.interop import dump
from tests.interop.peer import Peer
from tests.interop.tasks import QUEUE, application
from tests.redis.server import RedisServer
from toril import Toril

SIDES = ["node", "toril"]


@pytest.fixture
async def toril(node: Peer, server: RedisServer) -> AsyncIterator[Toril]:
    # The queue is Node's: its constructor has told which rules hold.
    await node.queue(QUEUE, "waitUntilReady")
    async with application(server.url) as app:
        yield app


@pytest.mark.parametrize("resumes", SIDES)
@pytest.mark.parametrize("pauses", SIDES)
async def test_a_pause_loses_no_job(
    pauses: str, resumes: str, node: Peer, toril: Toril, empty: dump.Client, major: int
) -> None:
    double = toril.registry.get("double")
    assert double is not None
    queue = toril.queue(QUEUE)
    await node.queue(QUEUE, "add", "double", {"n": 0})
    await (node.queue(QUEUE, "pause") if pauses == "node" else queue.pause())
    assert await node.queue(QUEUE, "isPaused") is True
    assert await queue.is_paused()
    for n in (1, 3):
        await double.enqueue(n=n)
        await node.queue(QUEUE, "add", "double", {"n": n + 1})
    place = "paused" if major == 5 else "wait"
    assert empty.llen(f"bull:{QUEUE}:{place}") == 5
    assert (await queue.counts()).waiting == 5
    async with toril.worker():
        late = await double.enqueue(n=5)
        assert (await queue.counts()).completed == 0
        await (node.queue(QUEUE, "resume") if resumes == "node" else queue.resume())
        assert await late.result(timeout=5) == {"doubled": 10}
    assert (await queue.counts()).completed == 6
    assert not empty.exists(f"bull:{QUEUE}:paused")


async def test_pausing_twice_keeps_every_job(node: Peer, toril: Toril) -> None:
    """A second pause of v5 renames over what the first one set aside, unless the list is empty or one of the two."""
    double = toril.registry.get("double")
    assert double is not None
    queue = toril.queue(QUEUE)
    await node.queue(QUEUE, "pause")
    await double.enqueue(n=1)
    await queue.pause()
    await double.enqueue(n=2)
    await node.queue(QUEUE, "pause")
    last = await double.enqueue(n=3)
    await queue.resume()
    await node.ask("worker", queue=QUEUE)
    assert await last.result(timeout=5) == {"doubled": 6}
    assert (await queue.counts()).completed == 3
