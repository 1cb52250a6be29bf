"""Putting finished jobs back in line, and delayed jobs in line early."""

from __future__ import annotations

import pytest

from toril.engine.ports.inspect import Changed
from toril.engine.ports.jobs import Code, LogLine
from toril.jobs.outcome import Done, Failed, Retry
from toril.jobs.states import Cause, State, allowed
from toril.testing.conformance.stage import MINUTE, QUEUE, REACHABLE, Cases, Stage, ids_of, job

REFUSING = {Changed.REFUSED, Changed.LOCKED}


class ReplayCases(Cases):
    """`JobInspector.retry` and `promote`."""

    @pytest.mark.parametrize("state", REACHABLE)
    async def test_what_can_be_retried(self, stage: Stage, state: State) -> None:
        """Finished jobs go back in line, all others are refused and stay as they are."""
        await stage.bring("a", state)
        before = await stage.read("a")
        [changed] = await stage.inspect.retry(QUEUE, ["a"], now=stage.now)
        if allowed(state, Cause.REPLAY):
            assert changed is Changed.OK
            assert await stage.state("a") is State.WAITING
        else:
            assert changed in REFUSING
            assert await stage.read("a") == before

    @pytest.mark.parametrize("state", REACHABLE)
    async def test_what_can_be_promoted(self, stage: Stage, state: State) -> None:
        """Delayed jobs go in line, all others are refused and stay as they are."""
        await stage.bring("a", state)
        before = await stage.read("a")
        [changed] = await stage.inspect.promote(QUEUE, ["a"], now=stage.now)
        if allowed(state, Cause.PROMOTE):
            assert changed is Changed.OK
            stored = await stage.read("a")
            assert (stored.state, stored.due) == (State.WAITING, None)
        else:
            assert changed in REFUSING
            assert await stage.read("a") == before

    async def test_a_retried_job_starts_afresh(self, stage: Stage) -> None:
        """Attempts count from zero; result, error and times are cleared."""
        worker = await stage.bring("a", State.ACTIVE)
        await worker.exchange(worker.ended("a", Retry("one", "Error: one", 0)), want=1)
        await worker.end("a", Failed("two", "Error: two"))
        await stage.inspect.retry(QUEUE, ["a"], now=stage.now)
        stored = await stage.read("a")
        assert (stored.state, stored.attempts_made) == (State.WAITING, 0)
        assert (stored.result, stored.failed_reason) == (None, None)
        assert (stored.processed, stored.finished) == (None, None)
        [taken] = await worker.take()
        assert taken.attempts_made == 0
        await worker.end("a", Done("1"))
        assert (await stage.read("a")).attempts_made == 1

    async def test_a_completed_job_forgets_its_result(self, stage: Stage) -> None:
        """A completed job can be run again, too."""
        worker = await stage.bring("a", State.COMPLETED)
        await stage.inspect.retry(QUEUE, ["a"], now=stage.now)
        assert (await stage.read("a")).result is None
        await worker.take()
        assert await worker.end("a", Done('"new"')) is Code.OK
        assert (await stage.read("a")).result == '"new"'

    async def test_history_and_logs_stay(self, stage: Stage) -> None:
        """What happened before remains on record."""
        worker = await stage.bring("a", State.ACTIVE)
        await stage.jobs.report(QUEUE, [], [LogLine("a", worker.tokens["a"], "hello", stage.now)])
        await worker.end("a", Failed("no", ""))
        before = await stage.read("a")
        await stage.inspect.retry(QUEUE, ["a"], now=stage.now)
        assert (await stage.read("a")).history == before.history
        assert (await stage.inspect.logs(QUEUE, "a")).lines == ("hello",)
        await worker.take()
        await worker.end("a", Done("1"))
        assert [record.outcome for record in (await stage.read("a")).history] == ["failed", "done"]

    async def test_a_retried_job_is_in_line_by_its_priority(self, stage: Stage) -> None:
        """A job that had a priority has it still, behind its equals."""
        await stage.bring("a", State.FAILED, priority=4)
        await stage.add(job("b", priority=4), job("c", priority=5))
        await stage.inspect.retry(QUEUE, ["a"], now=stage.now)
        assert await stage.state("a") is State.PRIORITIZED
        assert await stage.line() == ["b", "a", "c"]

    async def test_each_job_of_a_call_is_answered(self, stage: Stage) -> None:
        """One answer per id, in order; a job that is named twice is changed once."""
        await stage.bring("broken", State.FAILED)
        await stage.bring("done", State.COMPLETED)
        await stage.bring("later", State.DELAYED)
        answers = await stage.inspect.retry(QUEUE, ["broken", "nobody", "done", "later", "broken"], now=stage.now)
        assert answers == (Changed.OK, Changed.MISSING, Changed.OK, Changed.REFUSED, Changed.REFUSED)
        assert await stage.line() == ["broken", "done"]
        assert await stage.inspect.retry(QUEUE, [], now=stage.now) == ()

    async def test_promoting_several(self, stage: Stage) -> None:
        """They join the line in the order of the call, behind those that wait, by their priority."""
        await stage.add(job("d1", delay_ms=MINUTE), job("d2", delay_ms=MINUTE), job("p", delay_ms=5, priority=1), "a")
        answers = await stage.inspect.promote(QUEUE, ["d2", "p", "d1", "nobody", "a"], now=stage.now)
        assert answers == (Changed.OK, Changed.OK, Changed.OK, Changed.MISSING, Changed.REFUSED)
        assert await stage.line() == ["a", "d2", "d1", "p"]
        assert (await stage.worker().exchange()).next_due_ms is None

    async def test_another_queues_job_is_missing(self, stage: Stage) -> None:
        """Bulk operations see their own queue only."""
        await stage.add(job("a", delay_ms=MINUTE), queue="other")
        assert await stage.inspect.promote(QUEUE, ["a"], now=stage.now) == (Changed.MISSING,)
        assert await stage.inspect.retry(QUEUE, ["a"], now=stage.now) == (Changed.MISSING,)
        assert await stage.inspect.remove(QUEUE, ["a"], now=stage.now) == (Changed.MISSING,)
        assert (await stage.read("a", "other")).state is State.DELAYED

    async def test_many_failed_jobs_are_replayed(self, stage: Stage) -> None:
        """A thousand jobs in one call."""
        names = [f"j{number}" for number in range(1_000)]
        await stage.add(*names)
        worker = stage.worker()
        await worker.take(1_000)
        await worker.exchange(*(worker.ended(name, Failed("no", "")) for name in names))
        answers = await stage.inspect.retry(QUEUE, names, now=stage.now)
        assert set(answers) == {Changed.OK}
        assert ids_of(await worker.take(1_000)) == names
