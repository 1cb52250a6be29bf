"""A part of the store is away: the queues that lie there wait, and keep nothing from the others."""

import asyncio
from collections import Counter
from typing import Any

from tests.worker.faulty import FaultyStore, with_faults
from tests.worker.workshop import Workshop
from toril.engine.protocol import Engine
from toril.errors import EngineUnavailable
from toril.jobs.states import State
from toril.kernel.telemetry import EngineLost


class HalfStore(FaultyStore):
    """What is done for the queue `away` is done, but nobody hears of it."""

    away: str | None = None

    async def _forward(self, method: str, *args: Any, **kwargs: Any) -> Any:
        answer = await super()._forward(method, *args, **kwargs)
        if args and self.away in (args[0], args[0][0]):
            raise EngineUnavailable("the test took a part of the store away", ambiguous=True, partial=True)
        return answer


def with_halves(engine: Engine) -> tuple[Engine, HalfStore]:
    faulty, _ = with_faults(engine)
    store = HalfStore(engine.jobs)
    faulty.jobs = store  # type: ignore[misc]  # a stand-in
    return faulty, store


async def test_slots_of_a_queue_that_is_away_are_used_by_others(shop: Workshop) -> None:
    # A01
    runs: Counter[str] = Counter()
    gate, begun = asyncio.Event(), asyncio.Semaphore(0)

    @shop.toril.task(queue="near")
    async def wait(name: str) -> None:
        runs[name] += 1
        begun.release()
        await gate.wait()

    @shop.toril.task(queue="near")
    async def hurry(name: str) -> None:
        runs[name] += 1

    @shop.toril.task(queue="far")
    async def travel(name: str) -> None:
        runs[name] += 1

    engine, store = with_halves(shop.engine)
    store.away = "far"
    travels = [await travel.enqueue(f"far-{number}") for number in range(2)]
    async with shop.worker("near", "far", engine=engine, concurrency=2):
        await shop.heard(EngineLost)
        quick = [await hurry.enqueue(f"quick-{number}") for number in range(5)]
        for handle in quick:
            await shop.finished(handle.id, "near")
        long = [await wait.enqueue(f"long-{number}") for number in range(2)]
        for _ in long:
            await begun.acquire()
        # The jobs that nobody heard of come now, when no slot is free: they are not run, and not lost either.
        store.away = None
        for handle in travels:
            await shop.in_state(handle.id, State.WAITING, queue="far")
        assert not any(name.startswith("far") for name in runs)
        gate.set()
        for handle, queue in [*((each, "near") for each in long), *((each, "far") for each in travels)]:
            job = await shop.finished(handle.id, queue)
            assert job.failed_reason is None
            assert job.attempts_made == 1
    assert set(runs.values()) == {1}


async def test_retention_and_recovery_of_the_others_go_on(shop: Workshop) -> None:
    engine, store = with_halves(shop.engine)
    store.away = "far"
    recovered: list[str] = []
    enough = asyncio.Event()
    inner = store._forward

    async def forward(method: str, *args: Any, **kwargs: Any) -> Any:
        if method in ("look", "recover"):
            recovered.append(args[0])
            if recovered.count("near") >= 3:
                enough.set()
        return await inner(method, *args, **kwargs)

    store._forward = forward  # type: ignore[method-assign]
    async with shop.worker("far", "near", engine=engine, recover_every_ms=10):
        await enough.wait()
    assert "far" in recovered
