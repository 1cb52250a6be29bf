"""Waiting for work without asking again and again."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest

from toril.engine.ports.jobs import Exchanged
from toril.engine.protocol import Engine
from toril.jobs.outcome import Released
from toril.jobs.states import State
from toril.testing.conformance.stage import LOCK_MS, MINUTE, QUEUE, Cases, HandWorker, Stage, job

LONG = 8.0
"""Seconds after which a wait that nobody woke would end by itself."""
SOON = 2.0
"""Seconds within which a waiter must have been woken. All of them pass only when something is wrong."""

Change = Callable[[Stage], Awaitable[object]]


async def make_idle(worker: HandWorker, engine: Engine, queues: Sequence[str]) -> None:
    """Exchange until there is nothing, and wait until waiting wakes for nothing new."""
    for _ in range(20):
        await worker.exchange()
        if not await engine.jobs.wait_for_work(queues, timeout=0.02):
            return


async def until(
    worker: HandWorker, engine: Engine, seen: Callable[[Exchanged], bool], want: int = 1
) -> tuple[Exchanged, int]:
    """Work as a worker does, until an exchange shows what was waited for. Answers it, and how often it woke."""
    for turn in range(200):
        answer = await worker.exchange(want=want)
        if seen(answer):
            return answer, turn
        await engine.jobs.wait_for_work([worker.queue], timeout=LONG)
    raise AssertionError("woke two hundred times for nothing")


def took(*names: str) -> Callable[[Exchanged], bool]:
    """Whether an exchange took one of these jobs."""
    return lambda answer: any(each.id in names for each in answer.jobs)


async def recover_later(stage: Stage) -> None:
    """Recover what nobody holds any more when time has passed."""
    await stage.elapse(2 * LOCK_MS)
    await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)


CHANGES: dict[str, tuple[Change, Callable[[Exchanged], bool]]] = {
    "add": (lambda stage: stage.add("new"), took("new")),
    "add-prioritized": (lambda stage: stage.add(job("new", priority=3)), took("new")),
    "add-delayed": (lambda stage: stage.add(job("new", delay_ms=500)), lambda answer: answer.next_due_ms is not None),
    "retry": (lambda stage: stage.inspect.retry(QUEUE, ["broken"], now=stage.now), took("broken")),
    "promote": (lambda stage: stage.inspect.promote(QUEUE, ["later"], now=stage.now), took("later")),
    "recover": (recover_later, took("left")),
    "cancel": (
        lambda stage: stage.jobs.cancel(QUEUE, "mine", by="", reason="", now=stage.now),
        lambda answer: [each.id for each in answer.cancelled] == ["mine"],
    ),
}
BROUGHT = {
    "retry": ("broken", State.FAILED),
    "promote": ("later", State.DELAYED),
    "recover": ("left", State.ACTIVE),
}


class WakingCases(Cases):
    """`JobStore.wait_for_work`."""

    @pytest.mark.parametrize("before", [False, True], ids=["while-waiting", "just-before"])
    @pytest.mark.parametrize("change", CHANGES)
    async def test_a_change_wakes(self, stage: Stage, change: str, before: bool) -> None:
        """What makes work wakes a waiter, also when it came between the last exchange and the waiting."""
        worker = stage.worker()
        if change in BROUGHT:
            await stage.bring(*BROUGHT[change])
        if change == "cancel":
            await stage.add("mine")
            await worker.take()
        act, seen = CHANGES[change]
        await make_idle(worker, stage.engine, [QUEUE])
        begin = time.monotonic()
        if before:
            await act(stage)
            assert QUEUE in await stage.jobs.wait_for_work([QUEUE], timeout=LONG)
            await until(worker, stage.engine, seen)
        else:
            task = asyncio.create_task(stage.jobs.wait_for_work([QUEUE], timeout=LONG))
            await asyncio.wait({task}, timeout=0.05)
            await act(stage)
            await task
            await until(worker, stage.engine, seen)
        assert time.monotonic() - begin < SOON

    async def test_a_resumed_queue_wakes(self, stage: Stage) -> None:
        """The end of a pause lets the jobs run that have gathered."""
        worker = stage.worker()
        await stage.inspect.pause(QUEUE, now=stage.now)
        await stage.add("a")
        await make_idle(worker, stage.engine, [QUEUE])
        begin = time.monotonic()
        task = asyncio.create_task(until(worker, stage.engine, took("a")))
        await asyncio.wait({task}, timeout=0.05)
        await stage.inspect.resume(QUEUE, now=stage.now)
        await task
        assert time.monotonic() - begin < SOON

    async def test_a_released_job_wakes_another_worker(self, stage: Stage) -> None:
        """What one worker gives back is there for the next one at once."""
        leaving = await stage.bring("a", State.ACTIVE)
        worker = stage.worker()
        await make_idle(worker, stage.engine, [QUEUE])
        begin = time.monotonic()
        task = asyncio.create_task(until(worker, stage.engine, took("a")))
        await asyncio.wait({task}, timeout=0.05)
        await leaving.end("a", Released())
        await task
        assert time.monotonic() - begin < SOON

    async def test_work_that_is_there_is_not_waited_for(self, stage: Stage) -> None:
        """With jobs in line the wait ends at once, and names their queue."""
        await stage.add("a", queue="full")
        begin = time.monotonic()
        assert "full" in await stage.jobs.wait_for_work(["empty", "full"], timeout=LONG)
        assert time.monotonic() - begin < SOON

    async def test_one_of_many_queues(self, stage: Stage) -> None:
        """Waiting for several queues ends with the one that has work among the answer."""
        queues = [f"q{number}" for number in range(20)]
        worker = stage.worker(queue="q13")
        await make_idle(worker, stage.engine, queues)
        task = asyncio.create_task(stage.jobs.wait_for_work(queues, timeout=LONG))
        await asyncio.wait({task}, timeout=0.05)
        begin = time.monotonic()
        await stage.add("a", queue="q13")
        while "q13" not in await task:
            task = asyncio.create_task(stage.jobs.wait_for_work(queues, timeout=LONG))
        assert time.monotonic() - begin < SOON

    async def test_nothing_to_do_ends_in_time(self, stage: Stage) -> None:
        """Without work the wait ends after its time."""
        begin = time.monotonic()
        await stage.jobs.wait_for_work([QUEUE], timeout=0.05)
        assert time.monotonic() - begin < SOON

    async def test_an_idle_worker_is_idle(self, stage: Stage) -> None:
        """Waiting with nothing to do does not come back again and again."""
        worker = stage.worker()
        await stage.add("a", job("d", delay_ms=MINUTE))
        await worker.take()
        await make_idle(worker, stage.engine, [QUEUE])
        begin = time.monotonic()
        for _ in range(10):
            await stage.jobs.wait_for_work([QUEUE], timeout=0.02)
            await worker.exchange()
        assert time.monotonic() - begin > 0.1

    async def test_a_paused_queue_is_idle_too(self, stage: Stage) -> None:
        """Jobs that may not be taken are no reason to wake."""
        worker = stage.worker()
        await stage.inspect.pause(QUEUE, now=stage.now)
        await stage.add("a")
        await make_idle(worker, stage.engine, [QUEUE])
        begin = time.monotonic()
        for _ in range(10):
            await stage.jobs.wait_for_work([QUEUE], timeout=0.02)
            await worker.exchange(want=1)
        assert time.monotonic() - begin > 0.1

    async def test_all_jobs_run_with_many_waiters(self, stage: Stage) -> None:
        """Whoever is woken, every job is taken without anybody waiting for a timeout."""
        taken: list[str] = []

        async def work(worker: HandWorker) -> None:
            while len(taken) < 30:
                answer = await worker.exchange(want=1)
                taken.extend(each.id for each in answer.jobs)
                if not answer.jobs:
                    await stage.jobs.wait_for_work([QUEUE], timeout=0.5)

        begin = time.monotonic()
        tasks = [asyncio.create_task(work(stage.worker())) for _ in range(5)]
        for number in range(30):
            await stage.add(f"j{number}")
        await asyncio.gather(*tasks)
        assert sorted(taken) == sorted(f"j{number}" for number in range(30))
        assert time.monotonic() - begin < 2 * SOON

    async def test_a_waiter_that_gives_up_harms_nobody(self, stage: Stage) -> None:
        """Cancelled waits leave the engine and the other waiters as they were."""
        worker = stage.worker()
        await make_idle(worker, stage.engine, [QUEUE])
        tasks = [asyncio.create_task(stage.jobs.wait_for_work([QUEUE], timeout=LONG)) for _ in range(5)]
        await asyncio.wait(tasks, timeout=0.05)
        for task in tasks[:4]:
            task.cancel()
        await asyncio.gather(*tasks[:4], return_exceptions=True)
        begin = time.monotonic()
        await stage.add("a")
        await tasks[4]
        await until(worker, stage.engine, took("a"))
        assert time.monotonic() - begin < SOON

    async def test_workers_come_and_leave(self, stage: Stage) -> None:
        """Attending and leaving, in any order and any number, take nothing from who waits."""
        worker = stage.worker()
        await stage.jobs.leave("nobody")
        for name in ("first", "second", "first"):
            await stage.jobs.attend(name, [QUEUE, "other"])
        await make_idle(worker, stage.engine, [QUEUE])
        task = asyncio.create_task(until(worker, stage.engine, took("a")))
        await asyncio.wait({task}, timeout=0.05)
        begin = time.monotonic()
        await stage.jobs.leave("first")
        await stage.jobs.leave("first")
        await stage.add("a")
        await task
        await stage.jobs.leave("second")
        task = asyncio.create_task(until(worker, stage.engine, took("b")))
        await stage.add("b")
        await task
        assert time.monotonic() - begin < SOON

    async def test_waiting_on_another_loop(self, stage: Stage) -> None:
        """A waiter in another thread's event loop is woken by work that is added here."""
        worker = stage.worker()
        woken: list[float] = []
        idle = threading.Event()

        async def wait() -> None:
            await make_idle(worker, stage.engine, [QUEUE])
            idle.set()
            await until(worker, stage.engine, took("a"))
            woken.append(time.monotonic())

        thread = threading.Thread(target=lambda: asyncio.run(wait()))
        thread.start()
        try:
            await asyncio.to_thread(idle.wait, LONG)
            begin = time.monotonic()
            await stage.add("a")
        finally:
            await asyncio.to_thread(thread.join, LONG)
        assert len(woken) == 1
        assert woken[0] - begin < SOON

    async def test_closing_ends_every_wait(self, stage: Stage) -> None:
        """Nobody waits for an engine that is closed."""
        tasks: list[asyncio.Task[object]] = [
            asyncio.create_task(stage.jobs.wait_for_work([QUEUE], timeout=LONG)),
            asyncio.create_task(stage.bus.wait(QUEUE, after="0", timeout=LONG)),
        ]
        await asyncio.wait(tasks, timeout=0.05)
        begin = time.monotonic()
        await stage.engine.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert time.monotonic() - begin < SOON
