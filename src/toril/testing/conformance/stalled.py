"""Jobs whose worker has vanished."""

from __future__ import annotations

from toril.engine.ports.jobs import Code
from toril.jobs.outcome import Done, Failed
from toril.jobs.states import State
from toril.testing.conformance.stage import LOCK_MS, MINUTE, QUEUE, Cases, Stage, ids_of, job


class StalledCases(Cases):
    """`JobStore.recover`."""

    async def test_a_stalled_job_is_next(self, stage: Stage) -> None:
        """A job without a lock goes to the front of the line, priority or not, and loses no attempt."""  # S0-26, A02
        await stage.bring("a", State.ACTIVE, priority=9)
        await stage.add("b", job("c", lifo=True), job("p", priority=1))
        await stage.elapse(LOCK_MS + 1_000)
        recovered = await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)
        assert (recovered.requeued, recovered.condemned) == (("a",), ())
        assert await stage.line() == ["a", "c", "b", "p"]
        stored = await stage.read("a")
        assert (stored.state, stored.stalls, stored.attempts_made) == (State.WAITING, 1, 0)

    async def test_the_next_worker_sees_the_stall(self, stage: Stage) -> None:
        """The job comes with the number of its stalls and starts."""
        await stage.bring("a", State.ACTIVE)
        await stage.elapse(LOCK_MS + 1_000)
        await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)
        [taken] = await stage.worker().take()
        assert (taken.stalls, taken.starts, taken.attempts_made, taken.deferred_failure) == (1, 2, 0, None)

    async def test_a_held_job_is_not_stalled(self, stage: Stage) -> None:
        """Recovering touches only jobs whose lock has run out."""
        await stage.bring("old", State.ACTIVE)
        await stage.elapse(LOCK_MS - 1_000)
        young = await stage.bring("young", State.ACTIVE)
        await stage.elapse(2_000)
        assert (await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)).requeued == ("old",)
        assert await young.end("young", Done("1")) is Code.OK

    async def test_recovering_twice_is_once(self, stage: Stage) -> None:
        """A job that is back in line is not stalled any more."""
        await stage.bring("a", State.ACTIVE)
        await stage.elapse(LOCK_MS + 1_000)
        await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)
        again = await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)
        assert (again.requeued, again.condemned) == ((), ())
        assert (await stage.read("a")).stalls == 1

    async def test_the_third_stall_condemns(self, stage: Stage) -> None:
        """With two stalls allowed, the third puts the job back with a failure for the next worker to hand in."""
        worker = await stage.bring("a", State.ACTIVE)
        for stall in (1, 2):
            await stage.elapse(LOCK_MS + 1_000)
            recovered = await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)
            assert recovered.condemned == ()
            [taken] = await worker.take()
            assert (taken.stalls, taken.deferred_failure) == (stall, None)
        await stage.elapse(LOCK_MS + 1_000)
        recovered = await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)
        assert (recovered.requeued, recovered.condemned) == (("a",), ("a",))
        stored = await stage.read("a")
        assert (stored.state, stored.stalls) == (State.WAITING, 3)
        assert stored.deferred_failure
        assert not stored.cancelled
        [taken] = await worker.take()
        assert taken.deferred_failure == stored.deferred_failure
        await worker.end("a", Failed(taken.deferred_failure or "", ""))
        stored = await stage.read("a")
        assert (stored.state, stored.failed_reason) == (State.FAILED, taken.deferred_failure)

    async def test_no_stall_allowed(self, stage: Stage) -> None:
        """With `max_stalls` 0 the first stall condemns."""
        await stage.bring("a", State.ACTIVE)
        await stage.elapse(LOCK_MS + 1_000)
        assert (await stage.jobs.recover(QUEUE, max_stalls=0, now=stage.now)).condemned == ("a",)

    async def test_a_condemned_job_can_be_replayed(self, stage: Stage) -> None:
        """Putting it back in line forgets the failure that was waiting for it."""
        await stage.bring("a", State.ACTIVE)
        await stage.elapse(LOCK_MS + 1_000)
        await stage.jobs.recover(QUEUE, max_stalls=0, now=stage.now)
        worker = stage.worker()
        await worker.take()
        await worker.end("a", Failed("stalled", ""))
        await stage.inspect.retry(QUEUE, ["a"], now=stage.now)
        [taken] = await worker.take()
        assert taken.deferred_failure is None

    async def test_recovery_is_bounded(self, stage: Stage) -> None:
        """At most `limit` jobs are put back per call, and calling again gets the rest."""
        await stage.add(*(job(f"j{number}") for number in range(25)))
        await stage.worker().take(25)
        await stage.elapse(LOCK_MS + 1_000)
        found: list[str] = []
        for size in (10, 10, 5, 0):
            recovered = await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now, limit=10)
            assert len(recovered.requeued) == size
            found += recovered.requeued
        assert sorted(found) == sorted(f"j{number}" for number in range(25))

    async def test_recovery_is_per_queue(self, stage: Stage) -> None:
        """Another queue's jobs stay where they are, and an unknown queue has none."""
        await stage.add("x", queue="other")
        await stage.worker(queue="other").take()
        await stage.elapse(LOCK_MS + 1_000)
        assert (await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)).requeued == ()
        assert (await stage.read("x", "other")).state is State.ACTIVE

    async def test_recovery_works_while_paused(self, stage: Stage) -> None:
        """A stalled job of a paused queue waits in line for the end of the pause."""
        await stage.bring("a", State.ACTIVE)
        await stage.inspect.pause(QUEUE, now=stage.now)
        await stage.elapse(MINUTE)
        assert (await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)).requeued == ("a",)
        assert await stage.worker().take() == ()
        await stage.inspect.resume(QUEUE, now=stage.now)
        assert ids_of(await stage.worker().take()) == ["a"]
