"""What enqueue does while the server is away: it fails in time, runs the job here, or keeps it in a file."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, cast

import pytest

from tests.redis.conftest import StartServer
from tests.redis.fake import GREETINGS, FakeRedis, HangUp, Peer
from tests.redis.server import RedisServer
from toril import EngineUnavailable, Settings, Toril
from toril.blocks import Stores
from toril.engine.open import Opening, open_engine
from toril.engine.ports.inspect import Changed
from toril.engine.sheltered import ShelteredEngine
from toril.errors import ConfigError, JobFailed
from toril.kernel.telemetry import Telemetry
from toril.settings import CacheSettings, JobSettings, RedisSettings, WorkerSettings
from toril.tasks.task import Task

Policy = Literal["fail", "direct", "embedded"]
TIMEOUT_S = 0.4


class Bench:
    """An application with two tasks, and what they did."""

    def __init__(self, url: str, policy: Policy, folder: Path) -> None:
        self.done: list[int] = []
        self.toril = toril = Toril(
            url,
            settings=Settings(
                jobs=JobSettings(on_outage=policy, outage_url=f"sqlite:///{folder}/away.db", enqueue_timeout=1.0),
                redis=RedisSettings(timeout=TIMEOUT_S),
                worker=WorkerSettings(poll=0.5, shutdown_timeout=1.0),
            ),
        )

        @toril.task(attempts=1)
        async def square(n: int) -> int:
            if n < 0:
                raise ValueError("negative")
            self.done.append(n)
            return n * n

        @toril.task
        async def two_squares(n: int) -> int:
            first, second = await asyncio.gather(square.enqueue(n), square.enqueue(n + 1))
            return await first.result(timeout=5) + await second.result(timeout=5)

        self.square, self.two_squares = square, two_squares

    @property
    def engine(self) -> ShelteredEngine:
        return cast(ShelteredEngine, self.toril.engine)

    async def back(self) -> None:
        """Return when the application has noticed that the server is back."""
        async with asyncio.timeout(5):
            while self.engine.is_away:
                await asyncio.to_thread(threading.Event().wait, 0.02)


@asynccontextmanager
async def opened(url: str, policy: Policy, folder: Path) -> AsyncIterator[Bench]:
    bench = Bench(url, policy, folder)
    async with bench.toril:
        yield bench


async def refused_within(limit_s: float, task: Task[[int], int], n: int) -> EngineUnavailable:
    began = time.monotonic()
    with pytest.raises(EngineUnavailable) as caught:
        await task.enqueue(n)
    assert time.monotonic() - began < limit_s
    return caught.value


def knock_out(server: RedisServer, how: str) -> None:
    {"stopped": server.stop, "killed": server.kill, "frozen": server.freeze}[how]()


async def gone(bench: Bench) -> None:
    """Return when the client has noticed that its connection is gone: what is written before that may be stored."""
    with pytest.raises(EngineUnavailable):
        await bench.toril.queue("default").counts()


def bring_back(server: RedisServer, how: str) -> None:
    (server.thaw if how == "frozen" else server.start)()


@pytest.mark.parametrize("how", ["stopped", "killed", "frozen"])
async def test_fail_raises_in_time_and_then_at_once(start_server: StartServer, tmp_path: Path, how: str) -> None:
    server = start_server()
    async with opened(server.url, "fail", tmp_path) as bench:
        await bench.square.enqueue(1)
        knock_out(server, how)
        if how != "frozen":
            await gone(bench)
        first = await refused_within(3.0, bench.square, 2)
        # A frozen server has the command in its socket, and runs it when it goes on.
        assert first.ambiguous == (how == "frozen")
        assert (first.id is not None) == first.ambiguous
        for n in range(20):
            assert not (await refused_within(0.1, bench.square, n)).ambiguous
        bring_back(server, how)
        await bench.back()
        await bench.square.enqueue(3)


async def test_direct_runs_the_job_here_before_enqueue_returns(
    start_server: StartServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # S2-09
    server = start_server()
    async with opened(server.url, "direct", tmp_path) as bench:
        await bench.square.enqueue(1)
        assert bench.done == []
        server.stop()
        await gone(bench)
        with caplog.at_level(logging.WARNING, "toril.outage"):
            handle = await bench.square.enqueue(2)
            assert bench.done == [2]
            assert await handle.result(timeout=1) == 4
            late = await bench.square.with_options(delay="1h").enqueue(3)
            assert await late.result(timeout=1) == 9
            failed = await bench.square.enqueue(-1)
            with pytest.raises(JobFailed, match="negative"):
                await failed.result(timeout=1)
            handles = await bench.toril.enqueue_many(bench.square.call(n) for n in range(4, 8))
            assert [await one.result(timeout=1) for one in handles] == [16, 25, 36, 49]
            assert await (await bench.two_squares.enqueue(1)).result(timeout=1) == 5
            server.start()
            await bench.back()
        away, back = (record.getMessage() for record in caplog.records if record.name == "toril.outage")
        assert "added jobs are run here (direct)" in away
        assert "is back after" in back
        last = await bench.square.enqueue(100)
        assert 100 not in bench.done
        assert await bench.toril.job(last.id).info() is not None


async def test_synchronous_code_gets_its_job_done_too(start_server: StartServer, tmp_path: Path) -> None:
    # S2-09
    server = start_server()
    bench = Bench(server.url, "direct", tmp_path)

    def body() -> int:
        bench.toril.start_sync()
        server.stop()
        handle = bench.square.enqueue_sync(7)
        result = handle.result_sync(timeout=2)
        bench.toril.close_sync()
        return result

    assert await asyncio.to_thread(body) == 49
    assert bench.done == [7]


async def test_embedded_keeps_jobs_in_a_file_and_runs_them_here(start_server: StartServer, tmp_path: Path) -> None:
    # S0-01, S0-08
    server = start_server()
    async with opened(server.url, "embedded", tmp_path) as bench:
        server.kill()
        await gone(bench)
        handle = await bench.square.enqueue(2)
        assert await handle.result(timeout=5) == 4
        assert [event.kind async for event in handle.events()] == ["snapshot"]
        later = await bench.square.with_options(delay="1h").enqueue(3)
        assert await later.cancel()
        left = await bench.square.with_options(delay="1h").enqueue(5)
        server.start()
        await bench.back()
        stored = await bench.square.enqueue(6)
        assert (await bench.toril.job(stored.id).info()) is not None
    async with Toril(f"sqlite:///{tmp_path}/away.db") as away:
        assert await away.queue("default").promote([left.id]) == (Changed.OK,)
    # The next process that has a worker runs what was left.
    async with opened(server.url, "embedded", tmp_path) as bench, bench.toril.worker():
        assert await bench.toril.job(stored.id, "default").result(timeout=5) == 36
        async with asyncio.timeout(5):
            while 5 not in bench.done:
                await asyncio.to_thread(threading.Event().wait, 0.02)
    assert bench.done.count(5) == 1
    assert left.id != stored.id


@pytest.mark.parametrize("policy", ["direct", "embedded"])
async def test_a_job_that_may_be_stored_is_never_run_here(tmp_path: Path, policy: Policy) -> None:
    async def deaf(peer: Peer, command: list[bytes]) -> bytes | None:
        if command[0] in (b"EVALSHA", b"EVAL"):
            raise HangUp
        return None if command[0] in GREETINGS else b"-ERR unknown command\r\n"

    async with FakeRedis(deaf) as fake, opened(fake.url, policy, tmp_path) as bench:
        error = await refused_within(5, bench.square, 1)
        assert error.ambiguous
        assert error.id
        assert bench.done == []


@pytest.mark.parametrize("policy", ["fail", "direct", "embedded"])
async def test_an_application_starts_without_its_server_and_goes_on_when_it_comes(
    start_server: StartServer, tmp_path: Path, policy: Policy, caplog: pytest.LogCaptureFixture
) -> None:
    # S0-01, S0-08, S1-05
    caplog.set_level(logging.INFO, "toril")
    server = start_server()
    server.stop()
    async with opened(server.url, policy, tmp_path) as bench, bench.toril.worker():
        assert "Toril is not connected yet: mode redis" in caplog.text
        assert not (await bench.engine.health()).ok
        if policy == "fail":
            await refused_within(0.1, bench.square, 2)
        else:
            assert await (await bench.square.enqueue(2)).result(timeout=2) == 4
        server.start()
        await bench.back()
        assert await (await bench.square.enqueue(3)).result(timeout=5) == 9
        assert (await bench.engine.health()).ok


async def until_another_error(bench: Bench) -> None:
    while True:
        try:
            await bench.square.enqueue(1)
        except EngineUnavailable:
            await asyncio.to_thread(threading.Event().wait, 0.02)


async def test_a_server_that_is_not_fit_says_so_whenever_it_comes(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server("--maxmemory-policy", "allkeys-lru")
    server.stop()
    async with opened(server.url, "fail", tmp_path) as bench:
        await refused_within(0.1, bench.square, 1)
        server.start()
        async with asyncio.timeout(5):
            with pytest.raises(ConfigError, match="allkeys-lru"):
                await until_another_error(bench)


def test_the_file_of_embedded_must_be_one() -> None:
    settings = Settings(jobs=JobSettings(on_outage="embedded", outage_url="redis://:hunter2@h"))
    with pytest.raises(ConfigError, match="TORIL_JOBS_OUTAGE_URL: expected an sqlite") as caught:
        Toril("redis://localhost", settings=settings)
    assert "hunter2" not in str(caught.value)


async def test_a_cache_may_be_on_a_server_that_forgets(start_server: StartServer) -> None:
    # S3-17
    jobs, cache = start_server(), start_server("--maxmemory-policy", "allkeys-lru")
    settings, telemetry = Settings(cache=CacheSettings(url=cache.url)), Telemetry()
    opening = Opening(lambda: open_engine(jobs.url, telemetry=telemetry))
    stores = Stores(opening, jobs.url, settings, telemetry)
    engine = await stores.of("cache").get()
    await engine.keyvalue.set([("k", b"v")], ttl_ms=60_000, now=int(time.time() * 1000))
    assert (await engine.keyvalue.get(["k"], now=int(time.time() * 1000))) == (b"v",)
    assert str(cache.port) in engine.location
    await stores.close()
    await opening.close()
