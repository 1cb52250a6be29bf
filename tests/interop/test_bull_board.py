"""Bull Board, by the handlers of its HTTP interface, on a queue of Toril's jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.interop.conftest import StartPeer
from tests.interop.peer import Peer
from tests.interop.tasks import QUEUE, application
from tests.redis.server import RedisServer
from toril import JobFailed, Toril


@pytest.fixture
async def toril(empty: Any, server: RedisServer) -> AsyncIterator[Toril]:
    async with application(server.url) as app:
        yield app


@pytest.fixture
async def board(start_peer: StartPeer, toril: Toril) -> Peer:
    return await start_peer("board.mjs", QUEUE)


async def request(board: Peer, method: str, path: str, **query: str) -> Any:
    answer = await board.ask("request", method=method, path=path, query=query)
    assert answer["status"] in {200, 204}, answer
    return answer["body"]


async def listed(board: Peer, status: str) -> dict[str, Any]:
    query = {"activeQueue": QUEUE, "status": status, "page": "1", "jobsPerPage": "20"}
    [queue] = (await request(board, "get", "/api/queues", **query))["queues"]
    found: dict[str, Any] = queue
    return found


async def test_the_board_lists_and_retries_what_failed(board: Peer, toril: Toril) -> None:
    flaky, talkative = toril.registry.get("flaky"), toril.registry.get("talkative")
    assert flaky is not None
    assert talkative is not None
    async with toril.worker():
        bad = await flaky.with_options(attempts=1).enqueue(failures=1)
        done = await talkative.enqueue()
        with pytest.raises(JobFailed):
            await bad.result(timeout=5)
        await done.result(timeout=5)
    queue = await listed(board, "failed")
    [shown] = queue["jobs"]
    assert (shown["id"], shown["failedReason"], shown["attempts"]) == (
        bad.id,
        "RuntimeError: attempt 1 failed",
        1,
    )
    assert shown["stacktrace"][0].startswith("RuntimeError: attempt 1 failed")
    [completed] = (await listed(board, "completed"))["jobs"]
    assert completed["progress"] == {"progress": 60, "message": "more than half"}
    assert await request(board, "get", f"/api/queues/{QUEUE}/{done.id}/logs") == ["first line", "second line"]
    await request(board, "put", f"/api/queues/{QUEUE}/{bad.id}/retry")
    assert (await listed(board, "waiting"))["counts"]["waiting"] == 1
    async with toril.worker():
        assert await bad.result(timeout=5) == 2


async def test_the_board_promotes_pauses_and_cleans(board: Peer, toril: Toril) -> None:
    double = toril.registry.get("double")
    assert double is not None
    late = await double.with_options(delay="1h").enqueue(n=4)
    [shown] = (await listed(board, "delayed"))["jobs"]
    assert (shown["id"], shown["data"], shown["delay"]) == (late.id, {"n": 4}, 3_600_000)
    await request(board, "put", f"/api/queues/{QUEUE}/{late.id}/promote")
    await request(board, "put", f"/api/queues/{QUEUE}/pause")
    assert await toril.queue(QUEUE).is_paused()
    assert (await listed(board, "latest"))["isPaused"] is True
    async with toril.worker():
        await request(board, "put", f"/api/queues/{QUEUE}/resume")
        assert await late.result(timeout=5) == {"doubled": 8}
    unwanted = await double.enqueue(n=1)
    await request(board, "put", f"/api/queues/{QUEUE}/{unwanted.id}/clean")
    assert await unwanted.info() is None
    await double.enqueue(n=2)
    await request(board, "put", f"/api/queues/{QUEUE}/empty")
    assert (await toril.queue(QUEUE).counts()).waiting == 0
