"""A worker on a real server that is killed, stopped, frozen, slow, out of reach or not writable: it goes on by itself.

While the server is away the worker costs little and says little, and it can be stopped at any time.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.redis.conftest import StartServer
from tests.redis.proxy import Proxy
from tests.redis.server import RedisServer
from toril import EngineError, Settings, Toril, Worker
from toril.engine.redis.address import parse_address
from toril.engine.redis.client import RedisClient
from toril.settings import JobSettings, RedisSettings, WorkerSettings

BACK_WITHIN_S = 10.0
DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--busy-reply-threshold", "50")


class Site:
    """An application with a worker, and a producer that never gives up."""

    def __init__(self, url: str) -> None:
        self.accepted: set[int] = set()
        self.done: list[int] = []
        self.starts: list[int] = []
        self.toril = toril = Toril(
            url,
            settings=Settings(
                jobs=JobSettings(on_outage="fail", enqueue_timeout=1.0, keep_completed_max=100_000),
                redis=RedisSettings(timeout=1.0),
                worker=WorkerSettings(shutdown_timeout=0.5, poll=1.0),
            ),
        )

        @toril.task
        async def note(n: int) -> None:
            self.done.append(n)

        @toril.task
        async def long(seconds: float) -> str:
            self.starts.append(1)
            await asyncio.sleep(seconds)
            return "whole"

        self.note, self.long = note, long
        self.worker: Worker = toril.worker(concurrency=10)

    async def produce(self) -> None:
        n = 0
        while True:
            n += 1
            with suppress(EngineError):
                await self.note.enqueue(n)
                self.accepted.add(n)
            await asyncio.sleep(0.01)

    async def works(self, within_s: float) -> None:
        """Return when a job that was added now has been done."""
        async with asyncio.timeout(within_s):
            while True:
                with suppress(EngineError):
                    await self.note.enqueue(-1)
                    break
                await asyncio.sleep(0.05)
            while -1 not in self.done:
                await asyncio.sleep(0.02)
        self.done.remove(-1)

    async def all_done(self) -> None:
        """Return when every job that was accepted has been done."""
        async with asyncio.timeout(BACK_WITHIN_S):
            while self.accepted - set(self.done):
                await asyncio.sleep(0.02)


@asynccontextmanager
async def working(url: str) -> AsyncIterator[Site]:
    site = Site(url)
    async with site.toril, site.worker:
        await site.works(5)
        producer = asyncio.create_task(site.produce())
        try:
            yield site
        finally:
            producer.cancel()
            await asyncio.wait([producer])


@asynccontextmanager
async def administered(server: RedisServer) -> AsyncIterator[RedisClient]:
    client = RedisClient(parse_address(server.url))
    try:
        yield client
    finally:
        await client.close()


class Quiet:
    """What the process costs and says between two moments."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        caplog.set_level(logging.INFO, "toril")

    async def hold(self, seconds: float) -> None:
        """Let time pass while the server is away, and see that it passes in peace."""
        self._caplog.clear()
        began, used = time.monotonic(), time.process_time()
        await asyncio.sleep(seconds)
        passed = time.monotonic() - began
        # The producer of this test tries a hundred times a second by itself.
        assert time.process_time() - used < 0.25 * passed
        lines = [record for record in self._caplog.records if record.name.startswith("toril")]
        # One line a second, and one more of each kind that tells that the outage began.
        assert len(lines) <= passed + 4, [record.getMessage() for record in lines]


async def recovered(site: Site) -> None:
    await site.works(BACK_WITHIN_S)
    await site.all_done()


async def test_killed_connections_are_replaced(start_server: StartServer) -> None:
    # A01
    server = start_server(*DURABLE)
    async with working(server.url) as site, administered(server) as admin:
        for _ in range(5):
            await admin.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await asyncio.sleep(0.1)
        await recovered(site)


async def stopped(server: RedisServer, seconds: float, quiet: Quiet) -> None:
    server.stop()
    await quiet.hold(seconds)
    server.start()


async def frozen(server: RedisServer, seconds: float, quiet: Quiet) -> None:
    server.freeze()
    await quiet.hold(seconds)
    server.thaw()


Refuse = Callable[[RedisClient, Path], Awaitable[Callable[[], Awaitable[object]]]]
Fault = Callable[[RedisServer, float, Quiet], Awaitable[None]]


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        (stopped, 1.0),
        (frozen, 3.0),
        pytest.param(stopped, 10.0, marks=[pytest.mark.soak, pytest.mark.timeout(60)]),
        pytest.param(frozen, 20.0, marks=[pytest.mark.soak, pytest.mark.timeout(60)]),
        pytest.param(stopped, 60.0, marks=[pytest.mark.soak, pytest.mark.timeout(120)]),
    ],
)
async def test_a_server_that_is_away_for_a_while(
    start_server: StartServer, caplog: pytest.LogCaptureFixture, fault: Fault, seconds: float
) -> None:
    # A01, S3-20
    server = start_server(*DURABLE)
    async with working(server.url) as site:
        running = await site.long.enqueue(min(seconds + 0.5, 5.0))
        while not site.starts:
            await asyncio.sleep(0.01)
        await fault(server, seconds, Quiet(caplog))
        await recovered(site)
        # A handler knows nothing of a blip.
        assert await running.result(timeout=5) == "whole"
        if seconds < 5:
            assert len(site.starts) == 1


async def test_a_slow_network_only_takes_longer(start_server: StartServer) -> None:
    # A01
    server = start_server(*DURABLE)
    async with Proxy(server.port) as proxy, working(proxy.url) as site:
        proxy.delay_s = 0.1
        await site.works(5)
        proxy.delay_s = 0.0
        await recovered(site)


async def test_a_pulled_cable_is_noticed(start_server: StartServer, caplog: pytest.LogCaptureFixture) -> None:
    # A01
    server = start_server(*DURABLE)
    async with Proxy(server.port) as proxy, working(proxy.url) as site:
        proxy.open.clear()
        await Quiet(caplog).hold(2.5)
        proxy.open.set()
        await recovered(site)


async def test_a_replica_that_takes_no_writes_is_waited_for(start_server: StartServer) -> None:
    # A01
    server = start_server(*DURABLE)
    async with working(server.url) as site, administered(server) as admin:
        await admin.call("REPLICAOF", "127.0.0.1", "1")
        await asyncio.sleep(1.0)
        await admin.call("REPLICAOF", "NO", "ONE")
        await recovered(site)


async def no_replica(admin: RedisClient, folder: Path) -> Callable[[], Awaitable[object]]:
    await admin.call("CONFIG", "SET", "min-replicas-to-write", "1")
    return lambda: admin.call("CONFIG", "SET", "min-replicas-to-write", "0")


async def no_disk(admin: RedisClient, folder: Path) -> Callable[[], Awaitable[object]]:
    shutil.rmtree(folder)
    await admin.call("CONFIG", "SET", "save", "3600 1")
    await admin.call("BGSAVE")
    while b"rdb_last_bgsave_status:err" not in await admin.call("INFO", "persistence"):
        await asyncio.sleep(0.02)
    return lambda: admin.call("CONFIG", "SET", "save", "")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("refuse", [no_replica, no_disk])
async def test_a_server_that_takes_no_writes_for_now_is_waited_for_in_peace(
    start_server: StartServer, caplog: pytest.LogCaptureFixture, refuse: Refuse
) -> None:
    # A01
    server = start_server(*DURABLE)
    async with working(server.url) as site, administered(server) as admin:
        mend = await refuse(admin, server.folder)
        await Quiet(caplog).hold(3.0)
        await mend()
        await recovered(site)


async def test_a_busy_server_is_waited_for(start_server: StartServer) -> None:
    # A01
    server = start_server(*DURABLE)
    async with working(server.url) as site, administered(server) as admin, administered(server) as other:
        await other.call("PING")
        endless = admin.call("EVAL", "while true do end", 0, timeout_s=5)
        await asyncio.sleep(1.0)
        await other.call("SCRIPT", "KILL")
        await asyncio.wait([endless])
        assert endless.exception() is not None
        await recovered(site)


async def closed_while(server: RedisServer, state: str) -> float:
    """Bring the server into a state while a long job runs, and answer how many seconds closing takes then."""
    site = Site(server.url)
    await site.toril.start()
    await site.worker.start()
    await site.works(5)
    await site.long.enqueue(30)
    while not site.starts:
        await asyncio.sleep(0.01)
    match state:
        case "stopped":
            server.stop()
        case "frozen":
            server.freeze()
        case "refusing":
            async with administered(server) as admin:
                await admin.call("CONFIG", "SET", "requirepass", "changed")
                await admin.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await asyncio.sleep(0.2)
    began = time.monotonic()
    await site.worker.stop()
    await site.toril.close()
    return time.monotonic() - began


@pytest.mark.timeout(20)
async def test_it_can_be_closed_in_every_state(start_server: StartServer) -> None:
    # A01
    states = ["up", "stopped", "frozen", "refusing"]
    took = await asyncio.gather(*(closed_while(start_server(*DURABLE), state) for state in states))
    options = Site("redis://127.0.0.1").worker.options
    # 0.5 s for running jobs, then the times for cleaning up and for handing in; the rest is for a busy machine.
    limit = 0.5 + options.grace_s + options.hand_in_timeout_s + 2.0
    assert [state for state, seconds in zip(states, took, strict=True) if seconds > limit] == []
    assert took[0] < 3.0
