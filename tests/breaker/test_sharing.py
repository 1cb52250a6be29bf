"""Breakers of several processes over one store."""

import asyncio
import time

import pytest

from tests.breaker.site import PATIENCE_S, Broken, Site, badly, fail, until, well
from toril.breaker.breaker import Breaker
from toril.breaker.shared import LOOK_S
from toril.errors import BreakerOpen, ConfigError

pytestmark = pytest.mark.timeout(60)


async def until_seen(site: Site, one: Breaker, two: Breaker) -> None:
    """One fails until the other one knows."""
    async with asyncio.timeout(PATIENCE_S):
        while not two.opened:
            await one.call(badly, fallback=None)
            await site.told()


class Gate:
    """A call that goes on until it may end."""

    def __init__(self) -> None:
        self.inside = 0
        self.may_end = asyncio.Event()

    async def call(self) -> str:
        self.inside += 1
        await self.may_end.wait()
        return "through"


async def crowd(breakers: list[Breaker], gate: Gate, count: int) -> list[asyncio.Task[str]]:
    """So many callers at once, over all processes; returns when each is inside or was refused."""
    tasks = [asyncio.create_task(breakers[n % len(breakers)].call(gate.call)) for n in range(count)]
    before = gate.inside
    await until(lambda: sum(task.done() for task in tasks) + gate.inside - before == count)
    return tasks


# S4-04, A21
async def test_a_trip_is_seen_by_all_without_asking(site: Site) -> None:
    """Nobody looks, and everybody knows soon."""
    one, two, three = site.breakers(3)
    for breaker in (one, two, three):
        assert await breaker.call(well, 7) == 7
    await fail(one, 3)
    assert one.opened
    await until(lambda: two.opened and three.opened)
    with pytest.raises(BreakerOpen, match="Broken: no luck") as refused:
        await two.call(well)
    assert refused.value.breaker == "api"
    assert 0 < refused.value.retry_after <= 5
    assert "hunter2" not in str(refused.value)


async def test_failures_of_several_processes_are_added_up(site: Site) -> None:
    """None of them has seen enough to open by itself."""
    breakers = site.breakers(4, volume=8)
    for breaker in breakers:
        await fail(breaker, 2)
        await site.told()
    assert [breaker.state for breaker in breakers] == ["open"] * 4


async def test_what_goes_well_elsewhere_counts_too(site: Site) -> None:
    """A part of failures that is below the threshold over all processes opens nothing for all."""
    sick, sound = site.breakers(2, volume=8)
    await sick.call(well)
    for _ in range(40):
        await sound.call(well)
    await fail(sound)
    await site.told()
    await fail(sick, 7)
    await site.told()
    assert (sick.state, sound.state) == ("open", "closed")
    assert sick.stats.alone


# A21
async def test_one_bad_node_stays_alone_below_the_quorum(site: Site) -> None:
    """With a quorum of two, one process with failures opens for itself."""
    one, two, three = site.breakers(3, quorum=2)
    await fail(one, 4)
    await site.told()
    assert [breaker.state for breaker in (one, two, three)] == ["open", "closed", "closed"]
    assert await two.call(well) == 1
    await fail(two)
    await site.told()
    assert three.opened


# S4-04, A21
async def test_the_closed_path_asks_nobody(site: Site) -> None:
    """But for a look now and then."""
    [breaker] = site.breakers(1, timeout="30s")
    await breaker.call(well)
    await until(lambda: not breaker._shared.is_gated)
    began, before = time.monotonic(), site.asked
    for _ in range(2_000):
        await breaker.call(well)
    looks = (time.monotonic() - began) / LOOK_S + 2
    # A look may ask twice: for the records, and to follow changes.
    assert site.asked - before <= 2 * looks


# A21
async def test_a_process_that_starts_changes_nothing(site: Site) -> None:
    """It learns that the breaker is open before its first call."""
    [one] = site.breakers(1)
    await site.open(one)
    before = await site.engine.keyvalue.get(["breaker:api"], now=site.clock.now_ms())
    for late in site.breakers(3):
        with pytest.raises(BreakerOpen):
            await late.call(well)
    assert await site.engine.keyvalue.get(["breaker:api"], now=site.clock.now_ms()) == before


# A21
@pytest.mark.parametrize("probes", [1, 3])
async def test_half_open_lets_exactly_so_many_through(site: Site, probes: int) -> None:
    """Of fifty callers in four processes."""
    breakers = site.breakers(4, probes=probes)
    await site.open(breakers[0])
    site.clock.advance_ms(5_001)
    gate = Gate()
    tasks = await crowd(breakers, gate, 50)
    assert gate.inside == probes
    assert sum(task.done() for task in tasks) == 50 - probes
    gate.may_end.set()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(one == "through" for one in ended) == probes
    assert sum(isinstance(one, BreakerOpen) for one in ended) == 50 - probes
    await site.told()
    assert [breaker.state for breaker in breakers] == ["closed"] * 4


# A21
async def test_a_cancelled_probe_gives_its_slot_back(site: Site) -> None:
    """And one whose process is gone does, when its time is over."""
    breakers = site.breakers(2)
    await site.open(breakers[0])
    site.clock.advance_ms(5_001)
    gate = Gate()
    tasks = await crowd(breakers, gate, 6)
    [probe] = [task for task in tasks if not task.done()]
    probe.cancel()
    await asyncio.wait([probe])
    await site.told()
    more = await crowd(breakers, gate, 6)
    assert gate.inside == 2
    site.clock.advance_ms(breakers[0].rules.probe_ms + 1)
    more += await crowd(breakers, gate, 6)
    assert gate.inside == 3
    gate.may_end.set()
    await asyncio.gather(*tasks, *more, return_exceptions=True)


async def test_a_probe_that_fails_opens_again(site: Site) -> None:
    """For as long as the first time."""
    one, two = site.breakers(2, probes=2)
    await site.open(one)
    site.clock.advance_ms(5_001)
    assert two.state == "half-open"
    with pytest.raises(Broken):
        await two.call(badly)
    await site.told()
    assert one.opened
    site.clock.advance_ms(4_990)
    with pytest.raises(BreakerOpen):
        await one.call(well)
    site.clock.advance_ms(20)
    assert [await one.call(well), await two.call(well)] == [1, 1]
    await site.told()
    assert (one.state, two.state) == ("closed", "closed")
    await fail(one, 3)
    assert one.state == "closed"


# S4-22, A21
async def test_operators_decide(site: Site) -> None:
    """Forced open and closed, other rules, and back, in every process."""
    one, two = site.breakers(2)
    await one.open(by="ann")
    await site.told()
    site.clock.advance_ms(3_600_000)
    with pytest.raises(BreakerOpen, match="operator"):
        await two.call(well)
    await two.close()
    await site.told()
    await fail(one, 20)
    assert one.state == "closed"
    await one.reset()
    await one.change(error_threshold=1.0, volume=6, timeout="1m", reset_after="1h")
    await site.told()
    assert (two.rules.volume, two.rules.timeout_s, two.rules.reset_ms) == (6, 60.0, 3_600_000)
    await two.call(well)
    await fail(two, 8)
    await site.told()
    assert two.state == "closed"
    await two.reset()
    await site.told()
    assert one.rules.volume == 4
    await fail(one, 4)
    assert one.opened
    with pytest.raises(ConfigError):
        await one.change(quorum=2)
    with pytest.raises(ConfigError):
        await one.change(volume=0)


# A21
async def test_without_a_store_each_process_has_its_own(site: Site) -> None:
    """It opens, probes and closes by itself, and takes part again when the store is back."""
    one, two = site.breakers(2, probes=2)
    site.away = True
    assert await one.call(well) == 1
    await fail(one, 3)
    assert one.opened
    assert one.stats.alone
    with pytest.raises(BreakerOpen):
        await one.call(well)
    assert await two.call(well) == 1
    site.clock.advance_ms(5_001)
    gate = Gate()
    tasks = await crowd([one], gate, 10)
    assert gate.inside == 2
    gate.may_end.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert one.state == "closed"
    site.away = False
    await until(lambda: not one.stats.alone)
    await site.told()
    # The store may be looked after a moment later than it is back.
    await until_seen(site, one, two)
