"""Counting jobs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from toril.jobs.model import Counts
from toril.jobs.options import Keep
from toril.jobs.outcome import Cancelled, Done, Failed, Released, Retry, Snooze
from toril.jobs.states import State
from toril.testing.conformance.stage import LOCK_MS, MINUTE, QUEUE, Cases, HandWorker, Stage, job

Step = Callable[[Stage, HandWorker], Awaitable[object]]

# Every operation that moves a job, in an order in which each finds something to move.
STEPS: tuple[Step, ...] = (
    lambda stage, worker: stage.add(
        "a", "b", "c", job("p", priority=1), job("d", delay_ms=MINUTE), job("l", lifo=True)
    ),
    lambda stage, worker: stage.add("a", "b", "c"),
    lambda stage, worker: worker.take(3),
    lambda stage, worker: worker.end("l", Retry("no", "", 0)),
    lambda stage, worker: worker.end("a", Retry("no", "", MINUTE)),
    lambda stage, worker: worker.end("b", Released()),
    lambda stage, worker: worker.take(9),
    lambda stage, worker: worker.exchange(worker.ended("b", Done("1")), worker.ended("c", Failed("no", "")), want=2),
    lambda stage, worker: worker.end("l", Snooze(5)),
    lambda stage, worker: stage.elapse(10),
    lambda stage, worker: worker.exchange(),
    lambda stage, worker: stage.inspect.promote(QUEUE, ["d", "a"], now=stage.now),
    lambda stage, worker: stage.inspect.retry(QUEUE, ["b", "c"], now=stage.now),
    lambda stage, worker: stage.jobs.cancel(QUEUE, "p", by="", reason="", now=stage.now),
    lambda stage, worker: worker.end("p", Cancelled("", "")),
    lambda stage, worker: worker.take(2),
    lambda stage, worker: stage.elapse(2 * LOCK_MS),
    lambda stage, worker: stage.jobs.recover(QUEUE, max_stalls=0, now=stage.now),
    lambda stage, worker: worker.take(1),
    lambda stage, worker: stage.inspect.remove(QUEUE, ["l", "p", "nobody"], now=stage.now),
    lambda stage, worker: stage.add(job("e", delay_ms=5), "f", "g"),
    lambda stage, worker: stage.jobs.cancel(QUEUE, "e", by="", reason="", now=stage.now),
    lambda stage, worker: stage.jobs.cancel(QUEUE, "f", by="", reason="", now=stage.now),
    lambda stage, worker: worker.repeat(),
    lambda stage, worker: stage.inspect.drain(QUEUE, delayed=False, now=stage.now),
    lambda stage, worker: stage.jobs.prune(QUEUE, completed=None, failed=Keep(None, 0), events=10, now=stage.now),
    lambda stage, worker: stage.elapse(2 * LOCK_MS),
    lambda stage, worker: stage.inspect.clean(QUEUE, State.ACTIVE, before=stage.now, now=stage.now),
    lambda stage, worker: stage.add(job("x", delay_ms=5), "y", job("z", priority=2)),
    lambda stage, worker: stage.inspect.drain(QUEUE, delayed=True, now=stage.now),
)


class CountsCases(Cases):
    """`JobInspector.counts`: what a listing would count, at no cost."""

    async def test_counts_are_those_of_a_listing_after_every_operation(self, stage: Stage) -> None:
        """No operation forgets to count a job out of one state and into the other."""  # S0-15
        worker = stage.worker()
        seen = set()
        for number, step in enumerate(STEPS):
            await step(stage, worker)
            try:
                await stage.check_counts()
            except AssertionError as error:
                raise AssertionError(f"after step {number}: {error}") from error
            seen.add(await stage.counts())
        assert len(seen) >= 15

    async def test_every_state_has_its_number(self, stage: Stage) -> None:
        """One job brought into a state is counted there, and in the total."""
        for many, state in enumerate((State.PRIORITIZED, State.DELAYED, State.ACTIVE, State.COMPLETED, State.FAILED)):
            for number in range(many + 2):
                await stage.bring(f"{state}{number}", state)
        await stage.add("w")
        counts = await stage.counts()
        assert counts == Counts(
            waiting=1, prioritized=2, delayed=3, waiting_children=0, active=4, completed=5, failed=6
        )
        assert counts.total == 21

    async def test_an_unknown_queue_counts_nothing(self, stage: Stage) -> None:
        """All numbers are 0."""
        await stage.add("a")
        assert await stage.inspect.counts("nowhere") == Counts()

    async def test_counting_does_not_grow_with_the_jobs(self, stage: Stage) -> None:
        """Twenty thousand jobs are counted as fast as ten."""
        await stage.add(*(job(f"a{number}") for number in range(10)))
        few = await self.shortest(stage)
        for start in range(0, 20_000, 5_000):
            await stage.add(*(job(f"b{start + number}") for number in range(5_000)))
        many = await self.shortest(stage)
        assert (await stage.counts()).waiting == 20_010
        assert many < 5 * few + 0.002

    async def shortest(self, stage: Stage) -> float:
        """Seconds of the fastest of many counts: the least disturbed one."""
        best = float("inf")
        for _ in range(30):
            begin = time.perf_counter()
            await stage.counts()
            best = min(best, time.perf_counter() - begin)
        return best
