"""The policy `spool` on real servers: what was accepted while the server was away runs once when it is back."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.redis.conftest import StartServer
from tests.redis.server import RedisServer
from tests.redis.spooling import app
from toril import Context, EngineUnavailable, JobCancelled, Settings, Toril, Unique
from toril.cli.spool import check
from toril.engine.ports.spool import SpoolStats
from toril.errors import ConfigError, SpoolFull
from toril.jobs.states import State
from toril.settings import JobSettings, RedisSettings, WorkerSettings
from toril.web.problems import answer

SCRIPT = Path(__file__).with_name("spooling.py")
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
PATIENCE_S = 30

pytestmark = pytest.mark.timeout(60)
Start = Callable[..., subprocess.Popen[str]]


class Site:
    """An application with the policy, its worker, and what its jobs did."""

    def __init__(self, url: str, folder: Path, *, limit: int = 10_000_000) -> None:
        self.ran: list[int] = []
        jobs = JobSettings(spool_url=f"sqlite:///{folder}/spool.db", spool_limit=limit, enqueue_timeout=1.0)
        self.toril = toril = Toril(
            url,
            settings=Settings(jobs=jobs, redis=RedisSettings(timeout=0.4), worker=WorkerSettings(poll=0.5)),
        )

        @toril.task
        async def square(n: int) -> int:
            self.ran.append(n)
            return n * n

        self.square = square

    async def stats(self) -> SpoolStats:
        assert self.toril.spool is not None
        return await self.toril.spool.stats()

    async def forwarded(self) -> None:
        """Return when nothing waits any more."""
        async with asyncio.timeout(PATIENCE_S):
            while (await self.stats()).jobs:
                await asyncio.to_thread(threading.Event().wait, 0.02)


@asynccontextmanager
async def opened(url: str, folder: Path, *, limit: int = 10_000_000) -> AsyncIterator[Site]:
    site = Site(url, folder, limit=limit)
    async with site.toril:
        yield site


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes of `spooling.py`; those that are left are killed at the end."""
    running: list[subprocess.Popen[str]] = []

    def started(*words: object) -> subprocess.Popen[str]:
        command = [sys.executable, str(SCRIPT), *(str(word) for word in words)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield started
    for process in running:
        process.kill()
        process.communicate()


async def test_it_is_what_happens_by_default(start_server: StartServer, tmp_path: Path) -> None:
    # S3-20
    server = start_server(*DURABLE)
    async with opened(server.url, tmp_path) as site, site.toril.worker():
        assert await (await site.square.enqueue(1)).result(timeout=PATIENCE_S) == 1
        assert not (tmp_path / "spool.db").exists()
        server.kill()
        handles = [await site.square.enqueue(n) for n in range(2, 30)]
        handles += await site.toril.enqueue_many(site.square.call(n) for n in range(30, 50))
        began = time.monotonic()
        later = await site.square.with_options(delay="1h").enqueue(100)
        # Nobody waits for a time-out any more.
        assert time.monotonic() - began < 5
        info = await handles[-1].info()
        assert info is not None
        assert (info.spooled, info.state, info.queue) == (True, State.WAITING, "default")
        assert await later.cancel("not needed", "ann")
        cancelled = await later.info()
        assert cancelled is not None
        assert (cancelled.cancelled, cancelled.state) == (True, State.FAILED)
        with pytest.raises(JobCancelled, match="not needed"):
            await later.result(timeout=1)
        assert [event.kind async for event in later.events()] == ["snapshot"]
        waiting = asyncio.gather(*(handle.result(timeout=PATIENCE_S) for handle in handles))
        events = asyncio.create_task(kinds(handles[5].events()))
        health = await site.toril.engine.health()
        assert (health.ok, health.detail["spool"]["jobs"]) == (False, 48)
        server.start()
        assert await waiting == [n * n for n in range(2, 50)]
        assert (await events)[-1] in {"completed", "snapshot"}
        await site.forwarded()
        found = (await site.toril.stats()).spool
        assert found is not None
        assert (found.jobs, found.bytes) == (0, 0)
    assert Counter(site.ran) == Counter(range(1, 50))


async def kinds(events: AsyncIterator[object]) -> list[str]:
    return [getattr(event, "kind", "") async for event in events]


async def test_a_command_that_may_have_arrived_is_kept_under_its_own_id(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server(*DURABLE)
    async with opened(server.url, tmp_path) as site:
        await site.square.enqueue(0)
        # It has the commands in its sockets, and will run them.
        server.freeze()
        handles = await asyncio.gather(*(site.square.enqueue(n) for n in range(1, 20)))
        handles.append(await site.square.enqueue(20))
        stats = await site.stats()
        assert (stats.jobs, stats.sent) == (20, 19)
        server.thaw()
        async with site.toril.worker():
            results = await asyncio.gather(*(handle.result(timeout=PATIENCE_S) for handle in handles))
        assert results == [n * n for n in range(1, 21)]
        await site.forwarded()
    assert Counter(site.ran) == Counter(range(21))


async def test_a_unique_job_that_waited_leads_to_the_one_that_was_there(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server(*DURABLE)
    async with opened(server.url, tmp_path) as site:
        once = site.square.with_options(unique=Unique("the-one"))
        first = await once.enqueue(3)
        server.stop()
        second, third = await once.enqueue(4), await once.enqueue(5)
        assert (second.created, second.id != first.id) == (True, True)
        server.start()
        await site.forwarded()
        async with site.toril.worker():
            assert await second.result(timeout=PATIENCE_S) == 9
            assert await third.result(timeout=PATIENCE_S) == 9
        assert (second.id, second.created) == (third.id, third.created) == (first.id, False)
    assert site.ran == [3]


async def test_what_cannot_wait_says_so(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    async with opened(server.url, tmp_path) as site:
        server.stop()
        await site.square.enqueue(1)
        with pytest.raises(EngineUnavailable):
            await site.toril.flow(site.square.call(1), [site.square.call(2)]).enqueue()
        with pytest.raises(EngineUnavailable):
            await site.toril.schedules.upsert("often", every="1m", call=site.square.call(1))
        assert (await site.stats()).jobs == 1


async def test_an_application_that_starts_without_its_server_and_a_full_spool(
    start_server: StartServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # S0-01
    server = start_server(*DURABLE)
    server.stop()
    async with opened(server.url, tmp_path, limit=4_000) as site:
        taken = 0
        while (await site.stats()).bytes < 3_500:
            await site.square.enqueue(taken)
            taken += 1
        with pytest.raises(SpoolFull) as caught:
            await site.toril.enqueue_many(site.square.call(n) for n in range(10))
        assert (answer(caught.value).status, answer(caught.value).code) == (503, "spool_full")
        looked = await check(site.toril)
        assert looked is not None
        assert (looked.name, looked.level.value) == ("spool", "fail")
    assert f"{taken} jobs are left in" in caplog.text
    server.start()
    with caplog.at_level(logging.INFO, "toril.spool"):
        async with opened(server.url, tmp_path) as site, site.toril.worker():
            await site.forwarded()
            async with asyncio.timeout(PATIENCE_S):
                while len(site.ran) < taken:
                    await asyncio.to_thread(threading.Event().wait, 0.02)
    assert site.ran == list(range(taken))
    assert f"{taken} jobs that waited in" in caplog.text


def numbers_of(process: subprocess.Popen[str]) -> list[int]:
    """What a process says that it had accepted, until it ends."""
    assert process.stdout is not None
    said = process.stdout.read().split()
    process.wait(timeout=PATIENCE_S)
    return [int(word) for word in said]


class Runner:
    """Runs what is there, and counts how often each job runs."""

    def __init__(self, url: str, spool: Path) -> None:
        self.ran: dict[int, list[str]] = {}
        self.toril = toril = app(url, str(spool))

        @toril.task
        async def note(ctx: Context, n: int) -> None:
            self.ran.setdefault(n, []).append(ctx.job_id)

    async def all_ran(self, accepted: set[int]) -> None:
        """Return when all of these have run, and nothing is left anywhere."""
        assert self.toril.spool is not None
        async with asyncio.timeout(PATIENCE_S + len(accepted) / 100):
            while accepted - self.ran.keys() or (await self.toril.spool.stats()).jobs:
                await asyncio.to_thread(threading.Event().wait, 0.05)
            counts = await self.toril.queue("default").counts()
            while counts.waiting or counts.active:
                await asyncio.to_thread(threading.Event().wait, 0.05)
                counts = await self.toril.queue("default").counts()

    async def doubled(self) -> dict[int, list[str]]:
        """What ran more often than once, but for jobs whose lock ran out while they ran, which says nothing here."""
        found = {}
        for n, ids in self.ran.items():
            job = await self.toril.job(ids[0], "default").info() if len(ids) > 1 else None
            if len(ids) > 1 and (job is None or ids != ids[:1] * (1 + job.stalls)):
                found[n] = ids
        return found


async def ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == "ready\n"


async def outage(server: RedisServer, how: str, seconds: float) -> None:
    await asyncio.to_thread(threading.Event().wait, 0.5)
    {"killed": server.kill, "frozen": server.freeze}[how]()
    await asyncio.to_thread(threading.Event().wait, seconds)
    (server.thaw if how == "frozen" else server.start)()


@pytest.mark.parametrize(
    ("how", "seconds", "per_s", "count"),
    [
        ("killed", 1.5, 160, 100),
        pytest.param("killed", 60, 500, 9_000, marks=[pytest.mark.soak, pytest.mark.timeout(300)]),
        pytest.param("frozen", 60, 500, 9_000, marks=[pytest.mark.soak, pytest.mark.timeout(300)]),
    ],
)
async def test_every_job_of_four_processes_runs_once(
    start_server: StartServer, tmp_path: Path, start: Start, how: str, seconds: float, per_s: float, count: int
) -> None:
    # S3-20
    server, spool = start_server(*DURABLE), tmp_path / "spool.db"
    runner = Runner(server.url, spool)
    async with runner.toril, runner.toril.worker(concurrency=50):
        producers = [start(server.url, spool, "add", n * count, count, per_s / 4) for n in range(4)]
        await asyncio.gather(*(ready(producer) for producer in producers))
        said = asyncio.gather(*(asyncio.to_thread(numbers_of, producer) for producer in producers))
        await outage(server, how, seconds)
        accepted = {n for numbers in await said for n in numbers}
        # Enqueue never failed.
        assert accepted == set(range(4 * count))
        await runner.all_ran(accepted)
        assert await runner.doubled() == {}


async def test_what_a_killed_process_had_taken_is_forwarded_by_the_next(
    start_server: StartServer, tmp_path: Path, start: Start
) -> None:
    # S0-03
    server, spool = start_server(*DURABLE), tmp_path / "spool.db"
    server.stop()
    producer = start(server.url, spool, "add", 0, 10_000, 2_000)
    await ready(producer)
    assert producer.stdout is not None
    known = {int(await asyncio.to_thread(producer.stdout.readline)) for _ in range(300)}
    producer.kill()
    known |= set(numbers_of(producer))
    # The next start, which has no job of its own: it is killed too, at whatever point it is.
    other = start(server.url, spool, "wait")
    await ready(other)
    server.start()
    other.kill()
    runner = Runner(server.url, spool)
    async with runner.toril, runner.toril.worker(concurrency=50):
        await runner.all_ran(known)
        assert await runner.doubled() == {}
    assert known <= runner.ran.keys()


def test_the_spool_must_be_a_file() -> None:
    for url in ("redis://:hunter2@h", "sqlite://", "nonsense"):
        with pytest.raises(ConfigError, match="TORIL_JOBS_SPOOL_URL") as caught:
            Toril("redis://localhost", settings=Settings(jobs=JobSettings(spool_url=url)))
        assert "hunter2" not in str(caught.value)
    assert Toril("sqlite://", settings=Settings()).spool is None
