"""Workers of both kinds on one queue, and one of each is killed: every job is done, and none twice without a stall."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.interop import dump
from tests.interop.conftest import StartPeer
from tests.interop.tasks import QUEUE
from tests.redis.server import RedisServer

ROOT = Path(__file__).parents[2]
JOBS = 500
SLOTS = 4
NODE_OPTIONS = {"concurrency": SLOTS, "lockDuration": 1000, "stalledInterval": 400, "maxStalledCount": 5}


@asynccontextmanager
async def toril_worker(server: RedisServer) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.interop.station", server.url, str(SLOTS),
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert (await process.stdout.readline()).strip() == b"up"
        yield process
    finally:
        process.stdin.close()
        await process.wait()


async def until_completed(client: dump.Client, number: int) -> None:
    """Wait until so many jobs are completed; the tests' limit of time ends a wait in vain."""
    while client.zcard(f"bull:{QUEUE}:completed") < number:
        await asyncio.to_thread(client.xread, {f"bull:{QUEUE}:events": "$"}, None, 100)


@pytest.mark.timeout(40)
async def test_killed_workers_of_both_kinds_lose_no_job(
    start_peer: StartPeer, server: RedisServer, empty: dump.Client
) -> None:
    producer, doomed, survivor = await asyncio.gather(start_peer(), start_peer(), start_peer())
    jobs = [{"name": "nap", "data": {"ms": 20}, "opts": {"attempts": 1}} for _ in range(JOBS)]
    async with AsyncExitStack() as stack:
        victim, _ = await asyncio.gather(*(stack.enter_async_context(toril_worker(server)) for _ in range(2)))
        for peer in (doomed, survivor):
            await peer.ask("worker", queue=QUEUE, options=NODE_OPTIONS)
        await producer.queue(QUEUE, "addBulk", jobs)
        await until_completed(empty, JOBS // 10)
        victim.kill()
        await until_completed(empty, JOBS // 4)
        await doomed.kill()
        await until_completed(empty, JOBS)
    ids = empty.zrange(f"bull:{QUEUE}:completed", 0, -1)
    assert len(ids) == len(set(ids)) == JOBS
    runs = [empty.hmget(f"bull:{QUEUE}:{id_}", "ats", "stc", "atm") for id_ in ids]
    assert [run for run in runs if int(run[0]) != 1 + int(run[1] or 0)] == []
    assert {run[2] for run in runs} == {"1"}
    stalls = sum(int(run[1] or 0) for run in runs)
    assert 1 <= stalls <= 4 * SLOTS
    assert empty.llen(f"bull:{QUEUE}:active") == empty.llen(f"bull:{QUEUE}:wait") == 0
    assert empty.keys(f"bull:{QUEUE}:*:lock") == []
    workers = {empty.hget(f"bull:{QUEUE}:{id_}", "pb") for id_ in ids}
    assert len(workers) >= 3, "both kinds of worker did work"
