"""Every outcome in every state."""

from __future__ import annotations

import pytest

from toril.engine.ports.jobs import Code
from toril.jobs.outcome import Cancelled, Done, Failed, Limited, Outcome, Released, Retry, Snooze
from toril.jobs.states import TRANSITIONS, Cause, State, allowed
from toril.testing.conformance.stage import LOCK_MS, QUEUE, REACHABLE, Cases, Stage, job

OUTCOMES: tuple[Outcome, ...] = (
    Done('{"n":1}'),
    Retry("again", "Error: again", 0),
    Retry("again", "Error: again", 5_000),
    Failed("broken", "Error: broken"),
    Snooze(0),
    Snooze(5_000),
    Cancelled("enough", "me"),
    Released(),
    Limited(5_000),
)
COUNTED = {Cause.DONE, Cause.RETRY, Cause.FAILED}


def described(value: object) -> str:
    """A short name for a parameter."""
    if isinstance(value, Retry | Snooze):
        return f"{value.cause}-{'later' if value.delay_ms else 'now'}"
    return str(value.cause) if isinstance(value, Outcome) else str(value)


def target(outcome: Outcome, priority: int) -> State:
    """Where an active job of that priority goes."""
    if isinstance(outcome, Limited):
        return State.PRIORITIZED if priority else State.WAITING
    if isinstance(outcome, Retry | Snooze):
        if outcome.delay_ms:
            return State.DELAYED
        return State.PRIORITIZED if priority else State.WAITING
    [state] = allowed(State.ACTIVE, outcome.cause)
    return state


class OutcomeCases(Cases):
    """What each `Finish` does to a job, by the table of transitions."""

    @pytest.mark.parametrize("priority", [0, 4], ids=["plain", "prioritized"])
    @pytest.mark.parametrize("outcome", OUTCOMES, ids=described)
    async def test_an_active_job_goes_where_the_table_says(self, stage: Stage, outcome: Outcome, priority: int) -> None:
        """Each outcome leads from active to the one state that the table allows, and gives the lock back."""
        worker = await stage.bring("a", State.ACTIVE, priority=priority)
        assert await worker.end("a", outcome) is Code.OK
        stored = await stage.read("a")
        assert stored.state is target(outcome, priority)
        assert stored.state in TRANSITIONS[State.ACTIVE, outcome.cause]
        assert stored.attempts_made == (1 if outcome.cause in COUNTED else 0)
        assert stored.starts == 1
        assert stored.due == (stage.now + 5_000 if stored.state is State.DELAYED else None)
        assert stored.finished == (stage.now if stored.state.finished else None)
        assert (await stage.jobs.renew([worker.lock("a")], lock_ms=1_000, now=stage.now)).lost == (worker.lock("a"),)

    @pytest.mark.parametrize("state", [state for state in REACHABLE if state is not State.ACTIVE], ids=described)
    @pytest.mark.parametrize("outcome", OUTCOMES, ids=described)
    async def test_any_other_job_is_left_alone(self, stage: Stage, outcome: Outcome, state: State) -> None:
        """A job that is not active is held by no lock, so that no outcome can move it."""
        assert not allowed(state, outcome.cause)
        worker = await stage.bring("a", state)
        before, tail = await stage.read("a"), await stage.bus.tail(QUEUE)
        assert await worker.end("a", outcome) is Code.LOCK_LOST
        assert await stage.read("a") == before
        assert await stage.events(tail) == []

    @pytest.mark.parametrize("outcome", OUTCOMES, ids=described)
    async def test_a_missing_job_is_missing(self, stage: Stage, outcome: Outcome) -> None:
        """An outcome for a job that is not stored makes none."""
        await stage.add("b")
        assert await stage.worker().end("a", outcome, token="any:1") is Code.MISSING
        assert await stage.state("a") is None

    async def test_done_keeps_the_result(self, stage: Stage) -> None:
        """A job that is done shows its result and no error."""
        worker = await stage.bring("a", State.ACTIVE)
        await stage.elapse(700)
        await worker.end("a", Done('{"pages":12}'))
        stored = await stage.read("a")
        assert (stored.result, stored.failed_reason, stored.stacktrace) == ('{"pages":12}', None, ())
        assert (stored.finished, stored.updated) == (stage.now, stage.now)

    async def test_done_leaves_no_failure_behind(self, stage: Stage) -> None:
        """A job that was to fail and was run all the same is completed, and nothing else."""
        worker = await stage.bring("a", State.ACTIVE)
        await stage.elapse(2 * LOCK_MS)
        await stage.jobs.recover(QUEUE, max_stalls=0, now=stage.now)
        [taken] = await worker.take()
        assert taken.deferred_failure is not None
        await worker.end("a", Done("1"))
        assert (await stage.read("a")).deferred_failure is None

    async def test_failed_keeps_the_reason(self, stage: Stage) -> None:
        """A job that failed shows its reason and its stack trace, and no result."""
        worker = await stage.bring("a", State.ACTIVE)
        await worker.end("a", Failed("no luck", "Error: no luck\n  at home"))
        stored = await stage.read("a")
        assert (stored.failed_reason, stored.stacktrace) == ("no luck", ("Error: no luck\n  at home",))
        assert (stored.result, stored.cancelled) == (None, False)

    async def test_an_empty_stack_is_none(self, stage: Stage) -> None:
        """A failure without a stack trace stores none."""
        worker = await stage.bring("a", State.ACTIVE)
        await worker.end("a", Failed("no luck", ""))
        assert (await stage.read("a")).stacktrace == ()

    @pytest.mark.parametrize(("reason", "shown"), [("", "cancelled"), ("too late", "cancelled: too late")])
    async def test_cancelled_is_failed_with_a_name(self, stage: Stage, reason: str, shown: str) -> None:
        """A run that was stopped on request fails its job as cancelled, and remembers who asked."""
        worker = await stage.bring("a", State.ACTIVE)
        await worker.end("a", Cancelled(reason, "ann"))
        stored = await stage.read("a")
        assert (stored.state, stored.failed_reason, stored.cancelled) == (State.FAILED, shown, True)
        assert stored.cancel is not None
        assert (stored.cancel.by, stored.cancel.reason) == ("ann", reason)

    async def test_the_history_tells_every_run(self, stage: Stage) -> None:
        """Each run leaves a record: its number, worker, start, end, outcome and error."""  # S1-20
        # S0-18
        worker = await stage.bring("a", State.ACTIVE)
        expected: list[tuple[object, ...]] = []
        for outcome, error in ((Retry("first", "", 0), "first"), (Retry("second", "", 0), "second"), (Done("1"), None)):
            started = stage.now
            await stage.elapse(300)
            finish = worker.ended("a", outcome)._replace(started=started)
            expected.append((len(expected) + 1, worker.name, started, stage.now, str(outcome.cause), error))
            await worker.exchange(finish, want=1)
        assert [tuple(record) for record in (await stage.read("a")).history] == expected

    async def test_the_history_is_bounded(self, stage: Stage) -> None:
        """A job that comes back again and again remembers its newest 100 runs, whether they ended or stalled."""  # A05
        worker = await stage.bring("a", State.ACTIVE)
        for _ in range(102):
            await worker.exchange(worker.ended("a", Snooze(0)), want=1)
        history = (await stage.read("a")).history
        assert [record.number for record in history] == list(range(3, 103))
        await stage.elapse(LOCK_MS + 1_000)
        await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)
        history = (await stage.read("a")).history
        assert [record.number for record in history] == list(range(4, 104))
        assert (history[-2].outcome, history[-1].outcome) == ("snooze", "stall")

    @pytest.mark.parametrize("outcome", [Snooze(0), Released(), Cancelled("", "")], ids=described)
    async def test_uncounted_runs_are_in_the_history_too(self, stage: Stage, outcome: Outcome) -> None:
        """A run that does not count as an attempt is remembered all the same."""
        worker = await stage.bring("a", State.ACTIVE)
        await worker.end("a", outcome)
        assert [record.outcome for record in (await stage.read("a")).history] == [str(outcome.cause)]

    @pytest.mark.parametrize(("limit", "kept"), [(2, ("s2", "s3")), (0, ()), (None, ("s1", "s2", "s3"))])
    async def test_a_job_may_bound_its_stack_traces(
        self, stage: Stage, limit: int | None, kept: tuple[str, ...]
    ) -> None:
        """BullMQ's option `stackTraceLimit` keeps the last ones, or none."""
        opts = "{}" if limit is None else f'{{"attempts":9,"stackTraceLimit":{limit}}}'
        await stage.add(job("a", opts=opts))
        worker = stage.worker()
        for outcome in (Retry("no", "s1", 0), Retry("no", "s2", 0), Failed("no", "s3")):
            await worker.take()
            await worker.end("a", outcome)
        assert (await stage.read("a")).stacktrace == kept

    async def test_stack_traces_gather(self, stage: Stage) -> None:
        """The stack trace of each failed attempt is kept, oldest first."""
        worker = await stage.bring("a", State.ACTIVE)
        await worker.exchange(worker.ended("a", Retry("one", "Error: one", 0)), want=1)
        await worker.exchange(worker.ended("a", Retry("two", "Error: two", 0)), want=1)
        await worker.end("a", Failed("three", "Error: three"))
        assert (await stage.read("a")).stacktrace == ("Error: one", "Error: two", "Error: three")

    async def test_attempts_and_starts_are_told_apart(self, stage: Stage) -> None:
        """A worker sees finished attempts and starts: a snooze and a release only start again."""
        worker = await stage.bring("a", State.ACTIVE)
        seen = []
        for outcome in (Snooze(0), Retry("no", "", 0), Released(), Retry("no", "", 0)):
            [taken] = (await worker.exchange(worker.ended("a", outcome), want=1)).jobs
            seen.append((taken.attempts_made, taken.starts))
        assert seen == [(0, 2), (1, 3), (1, 4), (2, 5)]

    async def test_attempts_do_not_bind_the_engine(self, stage: Stage) -> None:
        """Whether another attempt is left is the worker's decision: a retry is a retry."""
        await stage.add(job("a", opts='{"attempts":1}'))
        worker = stage.worker()
        await worker.take()
        assert await worker.end("a", Retry("again", "", 0)) is Code.OK
        assert await stage.state("a") is State.WAITING
