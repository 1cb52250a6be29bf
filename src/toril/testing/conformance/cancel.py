"""Cancelling jobs."""

from __future__ import annotations

import pytest

from toril.engine.ports.jobs import CancelAnswer, Code
from toril.jobs.model import CancelRequest, Job
from toril.jobs.outcome import Cancelled, Done, Failed, Outcome, Released, Retry, Snooze
from toril.jobs.states import State
from toril.testing.conformance.stage import LOCK_MS, QUEUE, Cases, HandWorker, Stage, ids_of

IN_LINE = (State.WAITING, State.PRIORITIZED, State.DELAYED)


async def cancel(stage: Stage, id: str = "a", reason: str = "too late") -> CancelAnswer:
    """Cancel a job."""
    return await stage.jobs.cancel(QUEUE, id, by="ann", reason=reason, now=stage.now)


async def run_out(stage: Stage, worker: HandWorker) -> None:
    """Let a worker do what the engine asks for: fail every job that comes with a failure already."""
    await stage.elapse(60 * 60_000)
    for taken in await worker.take(10):
        assert taken.deferred_failure is not None, f"{taken.id} was to be run"
        await worker.end(taken.id, Failed(taken.deferred_failure, ""))


class CancelCases(Cases):
    """`JobStore.cancel`, on engines that take a waiting job out of the line at once and on those that mark it."""

    @pytest.mark.parametrize("state", IN_LINE)
    async def test_a_job_that_is_not_running_will_not_run(self, stage: Stage, state: State) -> None:
        """It is cancelled for every reader at once, no worker runs it, and it ends as failed with that reason."""
        # A06
        await stage.bring("a", state)
        await stage.elapse(100)
        assert await cancel(stage) is CancelAnswer.CANCELLED
        asked = CancelRequest("ann", "too late", stage.now)
        stored = await stage.read("a")
        assert (stored.cancelled, stored.cancel) == (True, asked)
        if stage.engine.capabilities.immediate_cancel or state is not State.WAITING:
            assert (stored.state, stored.finished) == (State.FAILED, stage.now)
        else:
            assert stored.deferred_failure == "cancelled: too late"
        await run_out(stage, stage.worker())
        stored = await stage.read("a")
        assert (stored.state, stored.failed_reason) == (State.FAILED, "cancelled: too late")
        assert (stored.cancelled, stored.cancel) == (True, asked)

    @pytest.mark.parametrize("state", IN_LINE)
    async def test_no_attempt_is_counted(self, stage: Stage, state: State) -> None:
        """A job that was cancelled before it ran has no attempt."""
        await stage.bring("a", state)
        await cancel(stage)
        assert (await stage.read("a")).attempts_made == 0

    async def test_without_a_reason(self, stage: Stage) -> None:
        """The failed reason is `cancelled` when none was given."""
        await stage.bring("a", State.DELAYED)
        await cancel(stage, reason="")
        assert (await stage.read("a")).failed_reason == "cancelled"

    async def test_a_retried_job_keeps_its_attempts(self, stage: Stage) -> None:
        """Cancelling between two attempts counts neither up nor down."""
        worker = await stage.bring("a", State.ACTIVE)
        await worker.end("a", Retry("no", "", 60_000))
        await cancel(stage)
        stored = await stage.read("a")
        assert (stored.state, stored.attempts_made) == (State.FAILED, 1)

    async def test_the_others_stay_in_line(self, stage: Stage) -> None:
        """Cancelling from the middle of the line leaves its order."""
        await stage.add("b", "a", "c")
        await cancel(stage)
        worker = stage.worker()
        taken = [each for each in await worker.take(3) if each.deferred_failure is None]
        assert ids_of(taken) == ["b", "c"]

    async def test_a_running_job_is_asked_to_stop(self, stage: Stage) -> None:
        """The job stays active, and every renewal and exchange of its worker says so until it has ended."""
        worker = await stage.bring("a", State.ACTIVE)
        assert await cancel(stage) is CancelAnswer.REQUESTED
        stored = await stage.read("a")
        assert (stored.state, stored.cancelled) == (State.ACTIVE, False)
        for _ in range(2):
            for told in (
                (await stage.jobs.renew([worker.lock("a")], lock_ms=LOCK_MS, now=stage.now)).cancelled,
                (await worker.exchange()).cancelled,
            ):
                assert [(each.id, each.token) for each in told] == [("a", worker.tokens["a"])]
                assert told[0].request == CancelRequest("ann", "too late", stage.now)
        answer = await worker.exchange(worker.ended("a", Cancelled("too late", "ann")))
        assert (answer.applied, answer.cancelled) == ((Code.OK,), ())
        stored = await stage.read("a")
        assert (stored.state, stored.cancelled, stored.attempts_made) == (State.FAILED, True, 0)

    async def test_only_its_own_worker_is_told(self, stage: Stage) -> None:
        """Other workers, other queues and locks that are lost hear nothing of it."""
        await stage.bring("a", State.ACTIVE)
        other = await stage.bring("b", State.ACTIVE)
        await stage.add("a", queue="other")
        elsewhere = stage.worker(queue="other")
        await elsewhere.take()
        await cancel(stage)
        assert (await other.exchange()).cancelled == ()
        assert (await elsewhere.exchange()).cancelled == ()
        locks = [other.lock("b"), elsewhere.lock("a"), other.lock("a", "wrong:1")]
        assert (await stage.jobs.renew(locks, lock_ms=LOCK_MS, now=stage.now)).cancelled == ()

    async def test_a_job_may_end_well_in_spite_of_it(self, stage: Stage) -> None:
        """A run that had finished before its worker heard of the request is a success."""
        worker = await stage.bring("a", State.ACTIVE)
        await cancel(stage)
        assert await worker.end("a", Done("1")) is Code.OK
        stored = await stage.read("a")
        assert (stored.state, stored.cancelled, stored.result) == (State.COMPLETED, False, "1")

    @pytest.mark.parametrize("outcome", [Retry("no", "", 0), Retry("no", "", 5_000), Snooze(0), Released()], ids=str)
    async def test_a_request_outlives_a_retry(self, stage: Stage, outcome: Outcome) -> None:
        """A run that would have led back in line before it heard of the request ends as cancelled."""
        worker = await stage.bring("a", State.ACTIVE)
        await cancel(stage)
        answer = await worker.exchange(worker.ended("a", outcome), want=1)
        assert (answer.applied, answer.jobs, answer.cancelled) == ((Code.OK,), (), ())
        stored = await stage.read("a")
        assert (stored.state, stored.failed_reason) == (State.FAILED, "cancelled: too late")
        assert (stored.cancelled, stored.attempts_made) == (True, 0)

    async def test_a_request_outlives_its_worker(self, stage: Stage) -> None:
        """When the worker died, the next one gets the job with a failure to hand in."""
        await stage.bring("a", State.ACTIVE)
        await cancel(stage)
        await stage.elapse(2 * LOCK_MS)
        assert (await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)).requeued == ("a",)
        assert (await stage.read("a")).cancelled
        worker = stage.worker()
        [taken] = await worker.take()
        assert taken.deferred_failure == "cancelled: too late"
        await worker.end("a", Failed(taken.deferred_failure, ""))
        stored = await stage.read("a")
        assert (stored.failed_reason, stored.cancelled) == ("cancelled: too late", True)

    @pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED])
    async def test_a_finished_job_is_finished(self, stage: Stage, state: State) -> None:
        """It is too late then, and nothing changes."""
        await stage.bring("a", state)
        before = await stage.read("a")
        assert await cancel(stage) is CancelAnswer.FINISHED
        assert await stage.read("a") == before

    async def test_cancelling_a_missing_job(self, stage: Stage) -> None:
        """No such job in this queue, though there is one in another."""
        await stage.add("a", queue="other")
        assert await cancel(stage) is CancelAnswer.MISSING
        assert (await stage.read("a", "other")).state is State.WAITING

    @pytest.mark.parametrize("state", IN_LINE)
    async def test_cancelling_twice(self, stage: Stage, state: State) -> None:
        """The first request stands: a second one changes neither who asked nor why."""
        await stage.bring("a", state)
        await cancel(stage)
        before = await stage.read("a")
        await stage.elapse(1_000)
        assert await cancel(stage, reason="other") in {CancelAnswer.FINISHED, CancelAnswer.CANCELLED}
        assert await stage.read("a") == before

    async def test_cancelling_again_after_the_worker_has_vanished(self, stage: Stage) -> None:
        """The first request stands here, too."""
        await stage.bring("a", State.ACTIVE)
        await cancel(stage)
        asked = CancelRequest("ann", "too late", stage.now)
        await stage.elapse(2 * LOCK_MS)
        await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)
        assert await cancel(stage, reason="other") is CancelAnswer.CANCELLED
        await run_out(stage, stage.worker())
        stored = await stage.read("a")
        assert (stored.state, stored.failed_reason, stored.cancel) == (State.FAILED, "cancelled: too late", asked)

    async def test_while_the_queue_is_paused(self, stage: Stage) -> None:
        """A pause does not keep a job from being cancelled."""
        await stage.bring("a", State.WAITING)
        await stage.inspect.pause(QUEUE, now=stage.now)
        assert await cancel(stage) is CancelAnswer.CANCELLED
        assert (await stage.read("a")).cancelled

    @pytest.mark.parametrize("state", [State.DELAYED, State.ACTIVE])
    async def test_a_cancelled_job_can_be_replayed(self, stage: Stage, state: State) -> None:
        """Putting it back in line forgets the cancellation: it runs as if nobody had asked."""
        worker = await stage.bring("a", state)
        await cancel(stage)
        if state is State.ACTIVE:
            await worker.end("a", Cancelled("too late", "ann"))
        await stage.inspect.retry(QUEUE, ["a"], now=stage.now)
        fresh: Job = await stage.read("a")
        assert (fresh.cancelled, fresh.cancel, fresh.deferred_failure) == (False, None, None)
        answer = await worker.exchange(want=1)
        assert [(each.id, each.deferred_failure) for each in answer.jobs] == [("a", None)]
        assert answer.cancelled == ()
        assert await worker.end("a", Done("1")) is Code.OK
        assert await stage.state("a") is State.COMPLETED
