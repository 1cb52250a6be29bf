"""Stopping a worker: patience, hand-back, and the end in every state."""

import asyncio
import os
import signal
import threading
import time

import pytest

from tests.worker.faulty import with_faults
from tests.worker.workshop import Workshop
from toril.errors import ConfigError
from toril.jobs.states import State
from toril.kernel import codec
from toril.kernel.telemetry import HandlerStuck, WorkerStarted, WorkerStopped
from toril.worker.shutdown import SAME_WISH_S, StopSignals
from toril.worker.worker import Worker


async def test_running_jobs_may_end_and_no_new_ones_are_taken(shop: Workshop) -> None:  # A07
    go = asyncio.Event()

    @shop.toril.task()
    async def work() -> str:
        await go.wait()
        return "done"

    first, second = await work.enqueue(), await work.enqueue()
    worker = shop.worker(concurrency=1)
    await worker.start()
    await shop.in_state(first.id, State.ACTIVE)
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0)
    go.set()
    await stopping
    assert (await shop.get(first.id)).result == '"done"'
    assert (await shop.get(second.id)).state is State.WAITING
    [stopped] = await shop.heard(WorkerStopped)
    assert stopped.released == 0


async def test_from_the_wish_to_stop_on_nothing_is_taken_and_everybody_sees_it(shop: Workshop) -> None:  # A07
    go = asyncio.Event()

    @shop.toril.task()
    async def work() -> None:
        await go.wait()

    held = await work.enqueue()
    # So slow a heart would not say in time that the worker stops: it says so at once.
    worker = shop.worker(concurrency=5, heartbeat_ms=60_000, lock_ms=120_000)
    running = asyncio.create_task(worker.run_until_stopped())
    await shop.in_state(held.id, State.ACTIVE)
    os.kill(os.getpid(), signal.SIGTERM)
    while not worker.is_stopping:
        await asyncio.sleep(0)
    late = [await work.enqueue() for _ in range(3)]
    entry: dict[str, object] = {}
    while not entry.get("stopping"):
        [value] = await shop.engine.keyvalue.get([f"worker:{worker.id}"], now=shop.clock.now_ms())
        entry = {} if value is None else codec.decode(value)
    assert entry["running"] == [held.id]
    go.set()
    await running
    assert (await shop.get(held.id)).state is State.COMPLETED
    assert [(await shop.get(one.id)).state for one in late] == [State.WAITING] * 3


async def test_what_is_not_done_in_time_is_handed_back_uncounted(shop: Workshop) -> None:  # A07
    cleaned = []

    @shop.toril.task(attempts=1)
    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    first, second = await work.enqueue(), await work.enqueue()
    worker = shop.worker(concurrency=1)
    await worker.start()
    await shop.in_state(first.id, State.ACTIVE)
    await worker.stop(timeout=0.02)
    job = await shop.get(first.id)
    assert (job.state, job.attempts_made, job.starts, cleaned) == (State.WAITING, 0, 1, [True])
    assert job.history[-1].outcome == "released"
    # It is first in line again.
    page = await shop.engine.inspect.list("default", [State.WAITING])
    assert [one.id for one in page.jobs] == [first.id, second.id]
    [stopped] = await shop.heard(WorkerStopped)
    assert stopped.released == 1


@pytest.mark.parametrize("plain", [False, True])
async def test_a_handler_that_does_not_end_is_left_behind(shop: Workshop, plain: bool) -> None:
    released = threading.Event()

    if plain:

        @shop.toril.task(name="deaf")
        def deaf() -> None:
            released.wait(8)
    else:

        @shop.toril.task(name="deaf")
        async def stubborn() -> None:
            while not released.is_set():
                try:
                    await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0.01)
                except asyncio.CancelledError:
                    continue

    await shop.add(shop.job("one", "deaf"))
    worker = shop.worker()
    await worker.start()
    await shop.in_state("one", State.ACTIVE)
    began = time.monotonic()
    await worker.stop(timeout=0)
    assert time.monotonic() - began < 7.0
    job = await shop.get("one")
    assert (job.state, job.attempts_made) == (State.WAITING, 0)
    [stuck] = await shop.heard(HandlerStuck)
    assert stuck.cause == "shutdown"
    released.set()


async def test_a_store_that_is_away_does_not_keep_the_worker(shop: Workshop) -> None:  # A01
    @shop.toril.task()
    async def work() -> None: ...

    engine, store = with_faults(shop.engine)
    handle = await work.enqueue()
    worker = shop.worker(engine=engine, hand_in_timeout_s=0.1)
    await worker.start()
    await shop.finished(handle.id)
    store.refuse = lambda method: True
    later = await work.enqueue()
    began = time.monotonic()
    await worker.stop(timeout=0.1)
    assert time.monotonic() - began < 8.0
    assert (await shop.get(later.id)).state in (State.WAITING, State.ACTIVE)


async def test_the_lock_is_kept_while_a_stopping_worker_waits(shop: Workshop) -> None:
    # S3-06
    go = asyncio.Event()

    @shop.toril.task()
    async def work() -> str:
        await go.wait()
        return "done"

    engine, store = with_faults(shop.engine)
    renewed = asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()

    def note(method: str) -> bool:
        if method == "renew":
            loop.call_soon_threadsafe(renewed.release)
        return False

    store.lose_reply = note
    handle = await work.enqueue()
    worker = shop.worker(engine=engine, lock_ms=200, heartbeat_ms=20, recover_every_ms=20)
    await worker.start()
    await shop.in_state(handle.id, State.ACTIVE)
    stopping = asyncio.create_task(worker.stop())
    for _ in range(10):
        shop.clock.advance_ms(50)
        await renewed.acquire()
        await renewed.acquire()
    go.set()
    await stopping
    job = await shop.get(handle.id)
    assert (job.state, job.stalls) == (State.COMPLETED, 0)


async def test_start_and_stop_may_be_called_in_any_order_and_again(shop: Workshop) -> None:
    @shop.toril.task()
    async def work() -> None: ...

    worker = shop.worker()
    await worker.stop()
    for _ in range(3):
        await asyncio.gather(worker.start(), worker.start())
        assert worker.is_running
        handle = await work.enqueue()
        await shop.finished(handle.id)
        await asyncio.gather(worker.stop(), worker.stop())
        assert not worker.is_running
    assert len([event for event in shop.told if isinstance(event, WorkerStarted)]) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_the_worker_in_an_orderly_way(shop: Workshop, number: signal.Signals) -> None:
    go = asyncio.Event()

    @shop.toril.task()
    async def work() -> str:
        os.kill(os.getpid(), number)
        await go.wait()
        return "done"

    handle = await work.enqueue()
    worker = shop.worker()
    running = asyncio.create_task(worker.run_until_stopped())
    await shop.in_state(handle.id, State.ACTIVE)
    go.set()
    await running
    assert (await shop.get(handle.id)).result == '"done"'


async def test_a_second_signal_hands_back_at_once(shop: Workshop) -> None:  # A07
    @shop.toril.task()
    async def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    handle = await work.enqueue()
    worker = shop.worker(shutdown_timeout_s=60)
    running = asyncio.create_task(worker.run_until_stopped())
    await worker._stop_asked.wait()
    await asyncio.wait([running], timeout=SAME_WISH_S * 1.2)
    assert not running.done()
    os.kill(os.getpid(), signal.SIGTERM)
    await running
    job = await shop.get(handle.id)
    assert (job.state, job.attempts_made) == (State.WAITING, 0)


async def test_signals_that_arrive_together_are_one_wish() -> None:
    asked: list[bool] = []
    now = 10.0

    def ask(*, now: bool = False) -> None:
        asked.append(now)

    async def send(number: signal.Signals) -> None:
        os.kill(os.getpid(), number)
        for _ in range(3):
            await asyncio.sleep(0)

    with StopSignals(ask, monotonic=lambda: now):
        await send(signal.SIGTERM)
        await send(signal.SIGTERM)
        assert asked == [False]
        now += SAME_WISH_S
        await send(signal.SIGINT)
    assert asked == [False, True]


async def test_asking_before_the_start_is_over_counts(shop: Workshop) -> None:
    worker = shop.worker()
    worker.ask_to_stop()
    await worker.run_until_stopped(signals=False)
    assert not worker.is_running


async def test_a_worker_without_queues_is_refused(shop: Workshop) -> None:
    with pytest.raises(ConfigError, match="needs a queue"):
        Worker(engine=shop.engine, registry=shop.toril.registry, queues=(), clock=shop.clock)
