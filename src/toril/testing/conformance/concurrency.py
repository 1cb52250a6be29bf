"""Queue-wide concurrency: never more active jobs than allowed, over all workers."""

from __future__ import annotations

import asyncio
import time

import pytest

from toril.engine.ports.jobs import Code
from toril.jobs.limits import QueueLimits
from toril.jobs.outcome import Cancelled, Done, Failed, Outcome, Retry, Snooze
from toril.kernel.durations import Rate
from toril.testing.conformance.stage import LOCK_MS, QUEUE, Cases, HandWorker, Stage, ids_of, job
from toril.testing.conformance.waking import SOON, make_idle, took, until

NONE = QueueLimits()


async def allow(stage: Stage, concurrency: int | None) -> None:
    """Set the limit of the queue."""
    await stage.inspect.set_limits(QUEUE, QueueLimits(concurrency), now=stage.now)


class ConcurrencyCases(Cases):
    """`JobInspector.set_limits`, and how `exchange` obeys a limit of active jobs."""

    async def test_limits_are_read_back(self, stage: Stage) -> None:
        """What was set is read, of that queue alone, until it is set again; a queue without any has none."""
        assert await stage.inspect.limits(QUEUE) == NONE
        both = QueueLimits(7, Rate(1000, 900_000))
        assert await stage.inspect.set_limits(QUEUE, both, now=stage.now)
        assert await stage.inspect.limits(QUEUE) == both
        assert await stage.inspect.limits("other") == NONE
        await stage.inspect.set_limits(QUEUE, QueueLimits(rate=Rate(5, 1000)), now=stage.now)
        assert await stage.inspect.limits(QUEUE) == QueueLimits(None, Rate(5, 1000))
        await stage.inspect.set_limits(QUEUE, NONE, now=stage.now)
        assert await stage.inspect.limits(QUEUE) == NONE

    async def test_no_more_are_active_than_allowed(self, stage: Stage) -> None:
        """Several workers together hold as many as the limit says, plain and prioritized ones alike."""
        await allow(stage, 3)
        await stage.add("a", "b", job("p", priority=1), "c")
        one, two = stage.worker(), stage.worker()
        assert ids_of(await one.take(2)) == ["a", "b"]
        assert ids_of(await two.take(5)) == ["c"]
        assert await one.take(5) == ()
        assert (await stage.counts()).active == 3

    @pytest.mark.parametrize(
        "outcome", [Done("1"), Failed("no", ""), Retry("no", "", 9000), Snooze(9000), Cancelled("", "")], ids=str
    )
    async def test_a_run_that_ends_makes_room_for_the_next(self, stage: Stage, outcome: Outcome) -> None:
        """The exchange that hands in a run may take another one."""
        await allow(stage, 1)
        await stage.add("a", "b")
        worker = stage.worker()
        assert ids_of(await worker.take(9)) == ["a"]
        answer = await worker.exchange(worker.ended("a", outcome), want=9)
        assert (answer.applied, ids_of(answer.jobs)) == ((Code.OK,), ["b"])

    async def test_the_answer_says_that_the_queue_is_full(self, stage: Stage) -> None:
        """`full` is told while jobs wait for others to end, and only then."""
        await allow(stage, 1)
        await stage.add("a", "b")
        worker = stage.worker()
        assert (await worker.exchange(want=9)).full
        assert (await stage.worker().exchange(want=9)).full
        answer = await worker.exchange(worker.ended("a", Done("1")), want=1)
        assert not answer.full
        assert not (await worker.exchange(worker.ended("b", Done("1")), want=1)).full

    async def test_a_lower_limit_lets_running_jobs_go_on(self, stage: Stage) -> None:
        """Nothing is taken until fewer are active than allowed."""
        await stage.add("a", "b", "c", "d")
        worker = stage.worker()
        await worker.take(3)
        await allow(stage, 1)
        for done in ("a", "b"):
            assert (await worker.exchange(worker.ended(done, Done("1")), want=1)).jobs == ()
        assert ids_of((await worker.exchange(worker.ended("c", Done("1")), want=1)).jobs) == ["d"]

    async def test_another_worker_is_woken_by_a_free_slot(self, stage: Stage) -> None:
        """Who waits for work on a full queue wakes when somebody hands in a run and takes none."""
        await allow(stage, 1)
        await stage.add("a", "b")
        busy, idle = stage.worker(), stage.worker()
        await busy.take(1)
        assert await idle.take(1) == ()
        await make_idle(idle, stage.engine, [QUEUE])
        task = asyncio.create_task(until(idle, stage.engine, took("b")))
        await asyncio.wait({task}, timeout=0.05)
        begin = time.monotonic()
        assert await busy.end("a", Done("1")) is Code.OK
        await task
        assert time.monotonic() - begin < SOON

    async def test_a_higher_limit_wakes(self, stage: Stage) -> None:
        """So does a limit that is raised, or taken away."""
        await allow(stage, 1)
        await stage.add("a", "b", "c")
        worker = stage.worker()
        await worker.take(1)
        for more, name in ((2, "b"), (None, "c")):
            await make_idle(worker, stage.engine, [QUEUE])
            task = asyncio.create_task(until(worker, stage.engine, took(name)))
            await asyncio.wait({task}, timeout=0.05)
            begin = time.monotonic()
            await allow(stage, more)
            await task
            assert time.monotonic() - begin < SOON

    async def test_a_full_queue_wakes_nobody_for_nothing(self, stage: Stage) -> None:
        """Jobs that are added to a full queue do not keep workers busy."""
        await allow(stage, 1)
        await stage.add("a")
        worker = stage.worker()
        await worker.take(1)
        await make_idle(worker, stage.engine, [QUEUE])
        for number in range(5):
            await stage.add(f"more-{number}")
            await worker.exchange(want=1)
        await make_idle(worker, stage.engine, [QUEUE])
        assert await stage.jobs.wait_for_work([QUEUE], timeout=0.05) == frozenset()

    async def test_a_recovered_job_frees_its_slot(self, stage: Stage) -> None:
        """The jobs of a dead worker count until they are back in line, and not longer."""
        await allow(stage, 1)
        await stage.add("a", "b")
        await stage.worker().take(1)
        await stage.elapse(LOCK_MS + 1)
        assert await stage.worker().take(1) == ()
        await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)
        assert ids_of(await stage.worker().take(2)) == ["a"]

    async def test_many_workers_never_exceed_the_number(self, stage: Stage) -> None:
        """Eight workers empty a queue: at no time more than three jobs are active."""
        await allow(stage, 3)
        await stage.add(*(f"j{number}" for number in range(120)))
        seen: list[int] = []
        done: list[str] = []

        async def work(worker: HandWorker) -> None:
            while len(done) < 120:
                taken = await worker.take(4)
                seen.append((await stage.counts()).active)
                for each in taken:
                    assert await worker.end(each.id, Done("1")) is Code.OK
                    done.append(each.id)
                await asyncio.sleep(0)

        await asyncio.gather(*(work(stage.worker()) for _ in range(8)))
        assert sorted(done) == sorted(f"j{number}" for number in range(120))
        assert max(seen) == 3

    async def test_a_declaration_is_written_when_it_changes(self, stage: Stage) -> None:
        """What an operator sets stays until the application declares something else than the last time."""
        declared = QueueLimits(5, Rate(10, 1000))
        assert await stage.inspect.set_limits(QUEUE, declared, declared=True, now=stage.now)
        assert not await stage.inspect.set_limits(QUEUE, declared, declared=True, now=stage.now)
        await allow(stage, 2)
        assert not await stage.inspect.set_limits(QUEUE, declared, declared=True, now=stage.now)
        assert await stage.inspect.limits(QUEUE) == QueueLimits(2)
        assert await stage.inspect.set_limits(QUEUE, QueueLimits(6), declared=True, now=stage.now)
        assert await stage.inspect.limits(QUEUE) == QueueLimits(6)
        assert await stage.inspect.set_limits(QUEUE, NONE, declared=True, now=stage.now)
        assert await stage.inspect.limits(QUEUE) == NONE

    async def test_an_obliterated_queue_has_no_limits(self, stage: Stage) -> None:
        """They go with the queue, and are written again when they are declared again."""
        declared = QueueLimits(5, Rate(10, 1000))
        await stage.inspect.set_limits(QUEUE, declared, declared=True, now=stage.now)
        await stage.add("a")
        while not await stage.inspect.obliterate(QUEUE, force=False, now=stage.now):
            pass
        assert await stage.inspect.limits(QUEUE) == NONE
        assert await stage.inspect.set_limits(QUEUE, declared, declared=True, now=stage.now)
        assert await stage.inspect.limits(QUEUE) == declared
