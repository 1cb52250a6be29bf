"""The heartbeat: locks outlive a blocked event loop, and everybody can see who works."""

import asyncio
import threading
import time

from tests.worker.workshop import Workshop
from toril.jobs.states import State
from toril.kernel import codec
from toril.kernel.telemetry import JobLockLost, LoopBlocked, PortCalled


async def test_a_handler_that_blocks_the_loop_keeps_its_lock_and_is_named(shop: Workshop) -> None:  # A03
    # S3-06
    runs = []
    beats: list[str] = []
    shop.toril.telemetry.subscribe(lambda event: beats.append(event.method), PortCalled)

    @shop.toril.task()
    async def rude() -> str:
        runs.append(1)
        for _ in range(12):
            # The clock runs on while the loop is blocked, six lock times in all. Of two beats one began after that.
            shop.clock.advance_ms(150)
            seen, patience = beats.count("renew"), time.monotonic() + 3
            while beats.count("renew") < seen + 2 and time.monotonic() < patience:
                threading.Event().wait(0.01)
        return "done"

    handle = await rude.enqueue()
    async with shop.worker(lock_ms=300, heartbeat_ms=30, recover_every_ms=30, blocked_after_s=0.2):
        other = threading.Thread(target=recover_meanwhile, args=(shop,))
        other.start()
        job = await shop.finished(handle.id)
        other.join()
    assert (job.result, job.stalls, job.attempts_made, runs) == ('"done"', 0, 1, [1])
    assert not any(isinstance(event, JobLockLost) for event in shop.told)
    [blocked] = [event for event in shop.told if isinstance(event, LoopBlocked)]
    assert (blocked.job_id, blocked.name, blocked.queue) == (handle.id, "rude", "default")
    assert blocked.duration_s >= 0.2
    assert "threading.Event().wait(0.01)" in blocked.stack


def recover_meanwhile(shop: Workshop) -> None:
    """Another process that looks for jobs of vanished workers all the while."""

    async def look() -> None:
        for _ in range(30):
            await shop.engine.jobs.recover("default", max_stalls=5, now=shop.clock.now_ms())
            await shop.engine.bus.wait("nothing", after="0", timeout=0.02)

    asyncio.run(look())


async def test_a_loop_that_answers_is_not_reported(shop: Workshop) -> None:
    @shop.toril.task()
    async def kind() -> None:
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            await asyncio.sleep(0)

    handle = await kind.enqueue()
    async with shop.worker(blocked_after_s=0.2):
        await shop.finished(handle.id)
    assert not any(isinstance(event, LoopBlocked) for event in shop.told)


async def test_a_worker_shows_itself_while_it_lives(shop: Workshop) -> None:
    # S4-20
    go = asyncio.Event()

    @shop.toril.task()
    async def work() -> None:
        await go.wait()

    handle = await work.enqueue()
    worker = shop.worker("default", "other", heartbeat_ms=30)
    key = f"worker:{worker.id}"
    async with worker:
        await shop.in_state(handle.id, State.ACTIVE)
        entry: dict[str, object] = {}
        while entry.get("running") != [handle.id]:
            [value] = await shop.engine.keyvalue.get([key], now=shop.clock.now_ms())
            entry = {} if value is None else codec.decode(value)
            await shop.engine.bus.wait("nothing", after="0", timeout=0.01)
        go.set()
        await shop.finished(handle.id)
    assert (entry["id"], entry["queues"], entry["concurrency"]) == (worker.id, ["default", "other"], 5)
    assert await shop.engine.keyvalue.get([key], now=shop.clock.now_ms()) == (None,)


async def test_the_entry_of_a_dead_worker_runs_out(shop: Workshop) -> None:
    worker = shop.worker(heartbeat_ms=2_000)
    async with worker:
        key = f"worker:{worker.id}"
        while await shop.engine.keyvalue.get([key], now=shop.clock.now_ms()) == (None,):
            await shop.engine.bus.wait("nothing", after="0", timeout=0.01)
        shop.clock.advance("25s")
        assert await shop.engine.keyvalue.get([key], now=shop.clock.now_ms()) == (None,)
