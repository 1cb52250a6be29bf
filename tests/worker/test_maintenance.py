"""One worker of a queue does its maintenance; when it goes or dies, another does."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.worker.faulty import FaultyStore, with_faults
from tests.worker.workshop import Workshop
from toril.engine.protocol import Engine
from toril.jobs.states import State
from toril.kernel.telemetry import JobsRecovered
from toril.worker.options import WorkerOptions
from toril.worker.worker import Worker

FAST: dict[str, Any] = {"lock_ms": 60_000, "heartbeat_ms": 30, "recover_every_ms": 40, "prune_every_ms": 20}


class Counting(FaultyStore):
    """Counts what a worker asks for."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.asked: Counter[str] = Counter()

    async def _forward(self, method: str, *args: Any, **kwargs: Any) -> Any:
        self.asked[method] += 1
        return await super()._forward(method, *args, **kwargs)


class Deaf(Counting):
    """Nothing wakes the worker: as when the process that was woken has died."""

    async def wait_for_work(self, queues: object, *, timeout: float) -> frozenset[str]:
        self.asked["wait_for_work"] += 1
        await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=timeout)
        return frozenset()


def counted(shop: Workshop, *, deaf: bool = False, **options: Any) -> tuple[Worker, Counter[str]]:
    """A worker, and what it asks of the store of jobs."""
    engine, _ = with_faults(shop.engine)
    store = (Deaf if deaf else Counting)(shop.engine.jobs)
    engine.jobs = store  # type: ignore[misc]
    return shop.worker(engine=engine, **{**FAST, **options}), store.asked


async def holder(engine: Engine, shop: Workshop) -> str | None:
    [name] = await engine.leases.holders(["default"], now=shop.clock.now_ms())
    return name


async def moment(shop: Workshop) -> None:
    await shop.engine.bus.wait("nothing", after="0", timeout=0.01)


@pytest.fixture
def busy(shop: Workshop) -> asyncio.Event:
    """A task whose jobs run until the event is set."""
    done = asyncio.Event()

    @shop.toril.task()
    async def hold() -> None:
        await done.wait()

    return done


@pytest.mark.timeout(60)
async def test_one_of_two_workers_maintains_and_hands_over_when_it_stops(shop: Workshop, busy: asyncio.Event) -> None:
    await shop.add(shop.job("j1", "hold"))
    (first, by_first), (second, by_second) = counted(shop), counted(shop, concurrency=1)
    async with first:
        await shop.in_state("j1", State.ACTIVE)
        while await holder(shop.engine, shop) != first.id:
            await moment(shop)
        async with second:
            # It knows of the running job, and of the lease, and leaves the rest to the holder.
            looks, before = by_second["look"], by_first["recover"]
            while by_second["look"] < looks + 5 or by_first["recover"] < before + 5:
                await moment(shop)
            assert by_second["recover"] == by_second["prune"] == 0
            busy.set()
            await shop.add(shop.job("j2", "hold"))
            await first.stop()
            assert await holder(shop.engine, shop) != first.id
            recovered = by_first["recover"]
            while not by_second["prune"]:
                await moment(shop)
            assert await holder(shop.engine, shop) == second.id
            assert by_first["recover"] == recovered
    assert await holder(shop.engine, shop) is None


@pytest.mark.timeout(60)
async def test_the_lease_of_a_dead_worker_runs_out_and_its_jobs_come_back(shop: Workshop, busy: asyncio.Event) -> None:
    # S0-26
    await shop.add(shop.job("j1", "hold"))
    now = shop.clock.now_ms()
    given: dict[str, Any] = {"worker": "dead", "seq": 1, "token": "dead:1", "finished": (), "want": 1}
    await shop.engine.jobs.exchange("default", **given, lock_ms=1_000, now=now)
    assert (await shop.engine.leases.hold("default", "dead", ttl_ms=300, now=now)).mine
    worker, asked = counted(shop)
    async with worker:
        while asked["look"] < 3:
            await moment(shop)
        assert asked["recover"] == 0
        shop.clock.advance_ms(400)
        while not asked["recover"]:
            await moment(shop)
        assert await holder(shop.engine, shop) == worker.id
        shop.clock.advance_ms(700)
        await shop.in_state("j1", State.ACTIVE, starts=2)
        [told] = await shop.heard(JobsRecovered)
        assert told.requeued == 1
        busy.set()
        job = await shop.finished("j1")
    assert (job.state, job.stalls, job.attempts_made) == (State.COMPLETED, 1, 1)


@pytest.mark.timeout(60)
async def test_a_holder_that_lost_its_lease_unawares_leaves_it_to_the_other(
    shop: Workshop, busy: asyncio.Event
) -> None:
    await shop.add(shop.job("j1", "hold"))
    worker, asked = counted(shop)
    async with worker:
        while not asked["recover"]:
            await moment(shop)
        # As if it had been stopped for longer than its lease, and somebody else has it now.
        now = shop.clock.now_ms()
        await shop.engine.leases.release("default", worker.id, now=now)
        while not (await shop.engine.leases.hold("default", "other", ttl_ms=300, now=now)).mine:
            await shop.engine.leases.release("default", worker.id, now=now)
        # It finds out when it renews the lease; what it has begun by then it may end.
        looks = asked["look"]
        while asked["look"] < looks + 8:
            await moment(shop)
        done, looks = asked["recover"], asked["look"]
        while asked["look"] < looks + 5:
            await moment(shop)
        assert asked["recover"] == done
        busy.set()
    assert await holder(shop.engine, shop) == "other"


@pytest.mark.timeout(60)
async def test_a_quiet_queue_is_only_looked_at(shop: Workshop) -> None:
    worker, asked = counted(shop, recover_every_ms=600_000)
    async with worker:
        while not asked["prune"]:
            await moment(shop)
        before = asked.copy()
        while asked["look"] < before["look"] + 10:
            await moment(shop)
        assert {*(asked - before)} <= {"look", "wait_for_work"}


@pytest.mark.timeout(60)
async def test_a_job_whose_wake_up_was_lost_is_found_by_looking(shop: Workshop, busy: asyncio.Event) -> None:
    busy.set()
    worker, asked = counted(shop, deaf=True)
    async with worker:
        while not asked["wait_for_work"]:
            await moment(shop)
        await shop.add(shop.job("j1", "hold"))
        assert (await shop.finished("j1")).state is State.COMPLETED


def test_how_often_it_looks_follows_the_lock() -> None:
    """Within lock_ms and recover_every_ms a job of a dead worker is found, whatever they are."""
    for options in (WorkerOptions(), WorkerOptions(lock_ms=1_000, heartbeat_ms=300, recover_every_ms=500)):
        within_s = (options.lock_ms + options.recover_every_ms) / 1000
        assert options.look_s < within_s
        assert options.lease_ms <= options.recover_every_ms
    assert WorkerOptions().look_s == 20.0
    assert WorkerOptions(poll_s=3.0).look_s == 3.0
    assert WorkerOptions(eco=True).look_s == 30.0
