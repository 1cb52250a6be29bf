"""Runs of schedules: the next one is planned before the handler runs, whatever happens to the store or the worker."""

import asyncio
from collections.abc import Sequence

import pytest

from tests.worker.workshop import QUICK, Workshop
from toril.errors import EngineUnavailable
from toril.jobs.model import TakenJob
from toril.jobs.schedule import Every
from toril.jobs.states import State
from toril.kernel.telemetry import EngineLost, ScheduleBroken
from toril.scheduling.planner import SchedulePlanner
from toril.worker.options import WorkerOptions
from toril.worker.worker import Worker


class Planner:
    """The real one, behind a store that may be away."""

    def __init__(self, shop: Workshop) -> None:
        self.away = False
        self.broken = False
        self.calls: list[str] = []
        self._shop = shop
        self._inner = SchedulePlanner(self._open, shop.toril.registry, shop.clock, shop.toril.telemetry)

    async def plan(self, queue: str, job: TakenJob) -> None:
        self.calls.append(f"plan {job.id}")
        if self.broken:
            raise RuntimeError("no idea")
        await self._inner.plan(queue, job)

    async def declare(self, queues: Sequence[str]) -> None:
        self.calls.append("declare")
        await self._inner.declare(queues)

    async def heal(self, queue: str) -> None:
        self.calls.append(f"heal {queue}")
        await self._inner.heal(queue)

    async def _open(self):  # type: ignore[no-untyped-def]
        if self.away:
            raise EngineUnavailable("gone for a moment")
        return self._shop.engine


def worker(shop: Workshop, planner: Planner) -> Worker:
    return Worker(
        engine=shop.engine,
        registry=shop.toril.registry,
        queues=["default"],
        options=WorkerOptions(**QUICK),
        clock=shop.clock,
        telemetry=shop.toril.telemetry,
        planner=planner,
    )


async def test_a_handler_waits_until_its_successor_is_planned(shop: Workshop) -> None:
    ran = asyncio.Event()

    @shop.toril.task
    async def tick() -> None:
        ran.set()

    stored = await shop.toril.schedules.upsert("s", every="1h", call=tick.call())
    planner = Planner(shop)
    async with worker(shop, planner):
        await shop.finished(stored.run_id)
        assert ran.is_set()
    after = await shop.toril.schedules.get("s")
    assert after is not None
    assert after.next == stored.next + 3_600_000
    assert sorted(planner.calls) == ["declare", "heal default", f"plan {stored.run_id}"]


async def test_while_the_store_is_away_the_handler_waits(shop: Workshop) -> None:
    order: list[str] = []

    @shop.toril.task
    async def tick() -> None:
        found = await shop.toril.schedules.get("s")
        order.append("planned" if found is not None and found.next > stored.next else "not planned")

    stored = await shop.toril.schedules.upsert("s", every="1h", call=tick.call())
    planner = Planner(shop)
    planner.away = True
    async with worker(shop, planner):
        await shop.heard(EngineLost)
        await shop.in_state(stored.run_id, State.ACTIVE)
        assert order == []
        planner.away = False
        await shop.finished(stored.run_id)
    assert order == ["planned"]


@pytest.mark.parametrize("patience", [0.0, 0.1])
async def test_a_stop_while_the_store_is_away_hands_the_run_back(shop: Workshop, patience: float) -> None:
    ran: list[str] = []

    @shop.toril.task
    async def tick() -> None:
        ran.append("tick")

    stored = await shop.toril.schedules.upsert("s", every="1h", call=tick.call())
    planner = Planner(shop)
    planner.away = True
    first = worker(shop, planner)
    await first.start()
    await shop.in_state(stored.run_id, State.ACTIVE)
    await asyncio.wait_for(first.stop(timeout=patience), 5)
    job = await shop.get(stored.run_id)
    assert (job.state, job.attempts_made, ran) == (State.WAITING, 0, [])
    planner.away = False
    async with worker(shop, planner):
        await shop.finished(stored.run_id)
    after = await shop.toril.schedules.get("s")
    assert after is not None
    assert (after.next, ran) == (stored.next + 3_600_000, ["tick"])


async def test_a_run_that_is_marked_to_fail_keeps_its_schedule_going(shop: Workshop) -> None:
    """Also on stores where a waiting job that is cancelled fails at its turn."""
    ran: list[str] = []

    @shop.toril.task
    async def tick() -> None:
        ran.append("tick")

    stored = await shop.toril.schedules.upsert("s", every="1h", call=tick.call())
    for seq in range(3):
        await shop.engine.jobs.exchange(
            "default", worker="w", seq=seq, token=f"w:{seq}", finished=[], want=1, lock_ms=1, now=shop.clock.now_ms()
        )
        shop.clock.advance_ms(10)
        await shop.engine.jobs.recover("default", max_stalls=2, now=shop.clock.now_ms())
    async with worker(shop, Planner(shop)):
        job = await shop.finished(stored.run_id)
    assert (job.failed_reason, ran) == ("job stalled more than allowable limit", [])
    after = await shop.toril.schedules.get("s")
    assert after is not None
    assert after.next == stored.next + 3_600_000


async def test_a_run_is_run_though_the_next_cannot_be_planned(shop: Workshop) -> None:
    @shop.toril.task
    async def tick() -> str:
        return "done"

    stored = await shop.toril.schedules.upsert("s", every="1h", call=tick.call())
    planner = Planner(shop)
    planner.broken = True
    async with worker(shop, planner):
        job = await shop.finished(stored.run_id)
        assert job.result == '"done"'
        assert await shop.heard(ScheduleBroken) == [("default", "s", "no idea")]
        # Found again by its past time, and not lost for good.
        shop.clock.advance_ms(1)
        planner.broken = False
        await planner.heal("default")
    after = await shop.toril.schedules.get("s")
    assert after is not None
    assert after.next == stored.next + 3_600_000


async def test_declarations_are_stored_once_the_store_is_there(shop: Workshop) -> None:
    ran = asyncio.Event()
    planner = Planner(shop)

    @shop.toril.task(schedule=Every("1h"))
    async def tick() -> None:
        ran.set()

    planner.away = True
    async with worker(shop, planner):
        await shop.heard(EngineLost)
        assert await shop.toril.schedules.list() == []
        planner.away = False
        await asyncio.wait_for(ran.wait(), 5)
    assert [one.id for one in await shop.toril.schedules.list()] == ["tick"]
