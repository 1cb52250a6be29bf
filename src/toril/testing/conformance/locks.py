"""The right to finish a job."""

from __future__ import annotations

from toril.engine.ports.jobs import Code
from toril.jobs.outcome import Done, Released, Retry
from toril.jobs.states import State
from toril.testing.conformance.stage import LOCK_MS, QUEUE, Cases, Stage, ids_of

MARGIN = LOCK_MS // 10


class LockCases(Cases):
    """Locks, their tokens, and what an old run can no longer do."""

    async def test_another_token_finishes_nothing(self, stage: Stage) -> None:
        """Only the token that the job was taken with may finish it."""
        worker = await stage.bring("a", State.ACTIVE)
        before = await stage.read("a")
        for token in ("somebody:1", "", worker.tokens["a"] + "0", worker.tokens["a"][:-1]):
            finish = worker.ended("a", Done("1"))._replace(token=token)
            assert (await worker.exchange(finish)).applied == (Code.LOCK_LOST,)
        assert await stage.read("a") == before
        assert await worker.end("a", Done("1")) is Code.OK

    async def test_a_lock_holds_for_its_time(self, stage: Stage) -> None:
        """Shortly before its end a lock still lets the job be finished."""
        worker = await stage.bring("a", State.ACTIVE)
        await stage.elapse(LOCK_MS - MARGIN)
        assert await worker.end("a", Done("1")) is Code.OK

    async def test_a_lock_that_has_run_out_finishes_nothing(self, stage: Stage) -> None:
        """After its end a lock is gone, even if nobody has recovered the job yet."""  # A03
        worker = await stage.bring("a", State.ACTIVE)
        await stage.elapse(LOCK_MS + MARGIN)
        assert await worker.end("a", Done("1")) is Code.LOCK_LOST
        assert await stage.state("a") is State.ACTIVE

    async def test_a_renewed_lock_holds_longer(self, stage: Stage) -> None:
        """Renewing counts from the moment of renewing."""
        worker = await stage.bring("a", State.ACTIVE)
        for _ in range(5):
            await stage.elapse(LOCK_MS - MARGIN)
            renewed = await stage.jobs.renew([worker.lock("a")], lock_ms=LOCK_MS, now=stage.now)
            assert (renewed.lost, renewed.cancelled) == ((), ())
            assert (await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)).requeued == ()
        await stage.elapse(LOCK_MS - MARGIN)
        assert await worker.end("a", Done("1")) is Code.OK

    async def test_each_lock_has_its_own_time(self, stage: Stage) -> None:
        """Jobs taken with a longer lock are still held when the others are not."""
        await stage.add("a", "b")
        worker = stage.worker()
        await worker.take(1, LOCK_MS)
        await worker.take(1, 10 * LOCK_MS)
        await stage.elapse(2 * LOCK_MS)
        answer = await worker.exchange(worker.ended("a", Done("1")), worker.ended("b", Done("2")))
        assert answer.applied == (Code.LOCK_LOST, Code.OK)

    async def test_a_lock_that_has_run_out_cannot_be_renewed(self, stage: Stage) -> None:
        """Renewing too late tells the worker that its lock is lost, recovered or not."""
        worker = await stage.bring("a", State.ACTIVE)
        await stage.elapse(LOCK_MS + MARGIN)
        renewed = await stage.jobs.renew([worker.lock("a")], lock_ms=LOCK_MS, now=stage.now)
        assert renewed.lost == (worker.lock("a"),)
        assert (await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)).requeued == ("a",)

    async def test_locks_are_renewed_one_by_one(self, stage: Stage) -> None:
        """Of many locks exactly those are lost that are gone: other tokens, ended, in line, missing."""
        await stage.add("held", "done", "retried")
        await stage.add("held", queue="other")
        worker, other = stage.worker(), stage.worker(queue="other")
        await worker.take(3)
        await other.take()
        locks = [worker.lock(name) for name in ("held", "done", "retried")] + [other.lock("held")]
        await worker.exchange(worker.ended("done", Done("1")), worker.ended("retried", Retry("no", "", 0)))
        wrong = [worker.lock("held", "somebody:1"), worker.lock("missing", "any:1")]
        renewed = await stage.jobs.renew([*locks, *wrong], lock_ms=LOCK_MS, now=stage.now)
        assert set(renewed.lost) == {locks[1], locks[2], *wrong}
        assert len(renewed.lost) == 4

    async def test_renewing_nothing_is_nothing(self, stage: Stage) -> None:
        """No locks, nothing lost."""
        renewed = await stage.jobs.renew([], lock_ms=LOCK_MS, now=stage.now)
        assert (renewed.lost, renewed.cancelled) == ((), ())

    async def test_a_failed_renewal_does_not_prolong(self, stage: Stage) -> None:
        """Renewing with another token leaves the end of the lock where it was."""
        worker = await stage.bring("a", State.ACTIVE)
        await stage.elapse(LOCK_MS - MARGIN)
        await stage.jobs.renew([worker.lock("a", "somebody:1")], lock_ms=LOCK_MS, now=stage.now)
        await stage.elapse(2 * MARGIN)
        assert (await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)).requeued == ("a",)

    async def test_an_old_run_is_fenced_off(self, stage: Stage) -> None:
        """A worker that slept too long cannot end the job that another one runs now."""  # A03
        asleep = await stage.bring("a", State.ACTIVE)
        await stage.elapse(LOCK_MS + MARGIN)
        await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)
        awake = stage.worker()
        assert ids_of(await awake.take()) == ["a"]
        assert await asleep.end("a", Done('"old"')) is Code.LOCK_LOST
        renewed = await stage.jobs.renew([asleep.lock("a")], lock_ms=LOCK_MS, now=stage.now)
        assert renewed.lost == (asleep.lock("a"),)
        assert await awake.end("a", Done('"new"')) is Code.OK
        assert (await stage.read("a")).result == '"new"'

    async def test_an_old_run_of_the_same_worker_is_fenced_off(self, stage: Stage) -> None:
        """The worker that took the job a second time cannot end it with the token of its first run."""
        worker = await stage.bring("a", State.ACTIVE)
        old = worker.tokens["a"]
        await stage.elapse(LOCK_MS + MARGIN)
        await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)
        assert ids_of(await worker.take()) == ["a"]
        assert await worker.end("a", Done('"old"'), token=old) is Code.LOCK_LOST
        assert await worker.end("a", Done('"new"')) is Code.OK
        assert (await stage.read("a")).result == '"new"'

    async def test_a_released_job_is_no_longer_held(self, stage: Stage) -> None:
        """After giving a job back its token is worth nothing."""
        worker = await stage.bring("a", State.ACTIVE)
        await worker.end("a", Released())
        assert await worker.end("a", Done("1")) is Code.LOCK_LOST
        assert ids_of(await stage.worker().take()) == ["a"]

    async def test_held_jobs_are_not_given_twice(self, stage: Stage) -> None:
        """An active job is nobody else's, even when its lock has run out and nobody recovered it."""
        await stage.bring("a", State.ACTIVE)
        await stage.elapse(10 * LOCK_MS)
        assert await stage.worker().take(5) == ()
