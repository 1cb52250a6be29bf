"""Workers under queue-wide limits: they wait as long as they must, wake when they may, and poll for nothing."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.redis.server import RedisServer
from toril import QueueLimits, RateLimited, Toril
from toril.engine.ports.jobs import Exchanged
from toril.kernel.durations import Rate


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "redis"])
async def toril(request: pytest.FixtureRequest, tmp_path: Path, server: RedisServer) -> AsyncIterator[Toril]:
    name = "".join(char for char in request.node.name if char.isalnum())
    url = f"sqlite:///{tmp_path}/toril.db" if request.param == "sqlite" else f"{server.url}?prefix={name}"
    async with Toril(url) as app:
        yield app


class Gauge:
    """How many handlers run at once, the most of them, and when each started."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.started: list[float] = []

    async def run(self) -> None:
        """Give the others time to start, if they may."""
        self.started.append(time.monotonic())
        self.now += 1
        self.most = max(self.most, self.now)
        for _ in range(200):
            await asyncio.sleep(0)
        self.now -= 1


def count_exchanges(toril: Toril, monkeypatch: pytest.MonkeyPatch) -> list[Exchanged]:
    seen: list[Exchanged] = []
    store = toril.engine.jobs
    original = store.exchange

    async def exchange(*args: Any, **options: Any) -> Exchanged:
        seen.append(await original(*args, **options))
        return seen[-1]

    monkeypatch.setattr(store, "exchange", exchange)
    return seen


async def test_two_workers_keep_the_number_of_their_queue(toril: Toril) -> None:
    # A11
    gauge = Gauge()
    toril.queue("hooks", concurrency=3)

    @toril.task(queue="hooks")
    async def call(n: int) -> int:
        await gauge.run()
        return n

    jobs = await toril.enqueue_many(call.call(n) for n in range(30))
    began = time.monotonic()
    async with toril.worker(concurrency=10), toril.worker(concurrency=10):
        assert [await job.result(timeout=8) for job in jobs] == list(range(30))
    assert gauge.most == 3
    # A slot that is freed is used at once: polling for it would take seconds each time.
    assert time.monotonic() - began < 4


async def test_a_rate_spreads_the_starts(toril: Toril) -> None:
    # A11
    gauge = Gauge()
    toril.queue("hooks", rate="5/400ms")

    @toril.task(queue="hooks")
    async def call(n: int) -> None:
        await gauge.run()

    async with toril.worker(concurrency=10), toril.worker(concurrency=10):
        jobs = await toril.enqueue_many(call.call(n) for n in range(15))
        for job in jobs:
            await job.result(timeout=8)
    waits = [gauge.started[n + 5] - gauge.started[n] for n in range(10)]
    assert min(waits[0], waits[5]) > 0.3
    assert gauge.started[-1] - gauge.started[0] < 4


async def test_a_limited_worker_waits_instead_of_asking(toril: Toril, monkeypatch: pytest.MonkeyPatch) -> None:
    toril.queue("hooks", rate="1/600ms")

    @toril.task(queue="hooks")
    async def call(n: int) -> int:
        return n

    jobs = await toril.enqueue_many(call.call(n) for n in range(2))
    async with toril.worker(concurrency=5):
        await jobs[0].result(timeout=8)
        seen = count_exchanges(toril, monkeypatch)
        await call.enqueue(7)
        await jobs[1].result(timeout=8)
    assert len(seen) < 12


async def test_a_handler_stops_its_queue(toril: Toril) -> None:
    starts: list[tuple[int, float]] = []

    @toril.task(queue="hooks", attempts=1)
    async def call(n: int) -> int:
        starts.append((n, time.monotonic()))
        if len(starts) == 1:
            raise RateLimited(in_="400ms")
        return n

    jobs = await toril.enqueue_many(call.call(n) for n in range(3))
    async with toril.worker(concurrency=1), toril.worker(concurrency=1):
        assert [await job.result(timeout=8) for job in jobs] == [0, 1, 2]
    first = [at for n, at in starts if n == 0]
    assert len(first) == 2
    assert first[1] - first[0] > 0.35
    info = await jobs[0].info()
    assert info is not None
    assert (info.attempts_made, info.starts) == (1, 2)
    assert [record.outcome for record in info.history] == ["limited", "done"]


async def test_live_limits_win_until_the_declaration_changes(toril: Toril) -> None:
    queue = toril.queue("hooks", concurrency=3, rate="100/s")

    @toril.task(queue="hooks")
    async def call(n: int) -> int:
        return n

    async with toril.worker():
        await (await call.enqueue(1)).result(timeout=8)
    assert await queue.limits() == QueueLimits(3, Rate(100, 1000))
    await queue.set_limits(concurrency=1)
    async with toril.worker():
        await (await call.enqueue(2)).result(timeout=8)
    assert await queue.limits() == QueueLimits(1, None)
