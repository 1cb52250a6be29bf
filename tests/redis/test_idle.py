"""What an idle worker costs its server, counted by the server: all of its connections, and the inside of scripts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from tests.redis.server import RedisServer
from toril import Settings, Toril
from toril.engine.redis.address import parse_address
from toril.engine.redis.client import RedisClient
from toril.engine.redis.engine import RedisEngine
from toril.settings import WorkerSettings
from toril.worker.options import WorkerOptions

DAY_S = 86_400
PER_DAY = DAY_S / 5
ECO_PER_DAY = 5_000
# Taking the lease (PTTL, a script with GET and SET), healing (a script with one look), pruning (one with seven).
CHORES = 4 + 2 + 8


# What the meter itself asks, and what connections say when they begin, which may be at any time.
CONNECTING = {"info", "ping", "hello", "client"}


class Meter:
    """Counts what a server executes."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def read(self) -> Counter[str]:
        """How often each command was called since the server started."""
        text: bytes = await self._client.call("INFO", "commandstats")
        found: Counter[str] = Counter()
        for line in text.decode().splitlines():
            name, _, rest = line.partition(":")
            command = name.removeprefix("cmdstat_").partition("|")[0]
            if name.startswith("cmdstat_") and command not in CONNECTING:
                found[name.removeprefix("cmdstat_")] = int(rest.partition(",")[0].removeprefix("calls="))
        return found

    async def of(self, work: object) -> Counter[str]:
        """What it costs to await `work`."""
        before = await self.read()
        await work  # type: ignore[misc]
        return await self.read() - before


@pytest.fixture
def meter(client: RedisClient) -> Meter:
    return Meter(client)


async def test_each_step_of_an_idle_worker_is_one_command(shared_server: RedisServer, meter: Meter) -> None:
    # A16
    engine = RedisEngine(parse_address(shared_server.url))
    await engine.start()
    try:
        now = round(time.time() * 1000)
        assert await meter.of(engine.jobs.look("idle")) == {"exists": 1}
        assert await meter.of(engine.keyvalue.set([("worker:me", b"{}")], ttl_ms=60_000, now=now)) == {"set": 1}
        assert (await engine.leases.hold("idle", "other", ttl_ms=60_000, now=now)).mine
        assert await meter.of(engine.leases.hold("idle", "me", ttl_ms=60_000, now=now)) == {"pttl": 1}
    finally:
        await engine.close()


@pytest.mark.parametrize(("eco", "most"), [(False, PER_DAY), (True, ECO_PER_DAY)])
def test_the_budget_of_a_day(eco: bool, most: float) -> None:
    # A16, S3-40
    options = WorkerOptions(eco=eco)
    # Jitter makes looks and chores come this much sooner on average.
    sooner = 0.95
    looks = DAY_S / (sooner * options.look_s)
    # A delayed job in the queue costs a second command of each look that asks for it.
    looks_for_due = DAY_S / max(sooner * options.look_s, options.look_for_due_s)
    listening = DAY_S / options.listen_s
    beats = DAY_S / (options.idle_beat_ms / 1000)
    chores = CHORES * DAY_S / (sooner * options.chores_every_ms / 1000)
    assert looks + looks_for_due + listening + beats + chores <= most


@pytest.mark.timeout(60)
async def test_an_idle_worker_looks_listens_shows_itself_and_no_more(shared_server: RedisServer, meter: Meter) -> None:
    # A16
    toril = Toril(shared_server.url, settings=Settings(worker=WorkerSettings(poll=0.2, heartbeat=0.1)))

    @toril.task(queue="quiet")
    async def never() -> None: ...

    async with toril, toril.worker():
        # The first chores are done when it only looks.
        before = await meter.read()
        while (cost := await meter.read() - before).keys() != {"exists"}:
            before = await meter.read()
            await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0.3)
        while cost["exists"] < 6:
            await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0.1)
            cost = await meter.read() - before
    assert cost.keys() <= {"exists", "set", "bzpopmin"}
    assert cost["bzpopmin"] <= 1


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("eco", "most"), [(False, 1 / 5), (True, ECO_PER_DAY / DAY_S)])
async def test_an_idle_worker_for_two_minutes(shared_server: RedisServer, meter: Meter, eco: bool, most: float) -> None:
    # A16, S3-40
    toril = Toril(shared_server.url)

    @toril.task(queue="quiet")
    async def never() -> None: ...

    async with toril, toril.worker(eco=eco):
        await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=10)
        before, began = await meter.read(), time.monotonic()
        await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=120)
        cost, passed = await meter.read() - before, time.monotonic() - began
    # One more than on average may fall into the time that was looked at, of each kind.
    assert cost.total() <= most * passed + 3, cost
