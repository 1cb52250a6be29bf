"""Every call once more, as after a lost reply: the repetition changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from toril.engine.ports.inspect import Changed
from toril.engine.ports.jobs import BATCH_MEMORY_MS, LONG_MEMORY_MS, Added, CancelAnswer, Code, Exchanged
from toril.jobs.options import Keep
from toril.jobs.outcome import Cancelled, Done, Failed, Limited, Outcome, Released, Retry, Snooze
from toril.jobs.states import State
from toril.testing.conformance.stage import LOCK_MS, MINUTE, QUEUE, Cases, Stage, ids_of, job

OUTCOMES: tuple[Outcome, ...] = (
    Done("1"),
    Retry("no", "Error: no", 0),
    Retry("no", "", 5_000),
    Failed("no", "Error: no"),
    Snooze(0),
    Cancelled("late", "ann"),
    Released(),
    Limited(5_000),
)


class LostReplyCases(Cases):
    """What a worker may do that never got its answer."""

    @pytest.mark.parametrize("outcome", OUTCOMES, ids=str)
    async def test_a_run_is_handed_in_once(self, stage: Stage, outcome: Outcome) -> None:
        """The same finish in the same exchange is answered OK again, and is applied once."""
        worker = await stage.bring("a", State.ACTIVE)
        first = await worker.exchange(worker.ended("a", outcome))
        before, tail = await stage.read("a"), await stage.bus.tail(QUEUE)
        await stage.elapse(1_000)
        assert (await worker.repeat()).applied == first.applied == (Code.OK,)
        assert await stage.read("a") == before
        assert await stage.events(tail) == []

    async def test_a_deleted_job_was_handed_in_all_the_same(self, stage: Stage) -> None:
        """The repetition says OK of a job that its end has deleted."""
        worker = await stage.bring("a", State.ACTIVE)
        await worker.exchange(worker.ended("a", Done("1"), keep=Keep(None, 0)))
        assert (await worker.repeat()).applied == (Code.OK,)
        assert (await stage.counts()).total == 0

    async def test_refusals_are_repeated(self, stage: Stage) -> None:
        """Codes are those of the first time, though the jobs have changed meanwhile."""
        worker = await stage.bring("a", State.ACTIVE)
        await stage.add("c")
        finishes = [worker.ended("a", Done("1")), worker.ended("b", Done("1")), worker.ended("c", Done("1"))]
        first = await worker.exchange(*finishes)
        assert first.applied == (Code.OK, Code.MISSING, Code.LOCK_LOST)
        await stage.add("b")
        await stage.inspect.remove(QUEUE, ["a", "c"], now=stage.now)
        assert (await worker.repeat()).applied == first.applied

    async def test_a_batch_of_a_spool_is_remembered_for_a_day(self, stage: Stage) -> None:
        """It is added once, though its jobs have been deleted since, and whatever was asked for the first time."""
        given = [job("a"), job("b")]
        for batch, first_ms, later_ms in (
            ("long", LONG_MEMORY_MS, LONG_MEMORY_MS - MINUTE),
            ("short", BATCH_MEMORY_MS, BATCH_MEMORY_MS - MINUTE),
        ):
            first = await stage.jobs.add(QUEUE, given, batch=batch, now=stage.now, remember_ms=first_ms)
            await stage.inspect.remove(QUEUE, ["a", "b"], now=stage.now)
            await stage.elapse(later_ms)
            again = await stage.jobs.add(QUEUE, given, batch=batch, now=stage.now, remember_ms=LONG_MEMORY_MS)
            assert again == first == Added(("a", "b"), (True, True))
            assert (await stage.counts()).total == 0

    async def test_jobs_are_taken_once(self, stage: Stage) -> None:
        """The repetition answers the same jobs in the same order, with the same token, and starts none again."""
        await stage.add("a", job("p", priority=1), "b", "c")
        worker = stage.worker()
        first = await worker.exchange(want=3)
        tokens = dict(worker.tokens)
        await stage.elapse(1_000)
        assert (await worker.repeat()).jobs == first.jobs
        assert worker.tokens == tokens
        assert [(await stage.read(name)).starts for name in "abc"] == [1, 1, 1]
        assert await stage.line() == ["p"]
        answer = await worker.exchange(*(worker.ended(name, Done("1")) for name in "abc"))
        assert answer.applied == (Code.OK,) * 3

    async def test_what_is_lost_is_not_given_again(self, stage: Stage) -> None:
        """A repetition that comes after the job was recovered and given to another does not give it once more."""
        await stage.add("a", "b")
        worker, other = stage.worker(), stage.worker()
        await worker.exchange(want=1)
        await stage.elapse(LOCK_MS + 1_000)
        await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)
        assert ids_of(await other.take()) == ["a"]
        assert (await worker.repeat()).jobs == ()
        assert await other.end("a", Done("1")) is Code.OK
        assert await stage.line() == ["b"]

    async def test_repetitions_at_the_same_time(self, stage: Stage) -> None:
        """Eight equal exchanges at once are one exchange."""
        await stage.add("a", "b", "c", "d")
        worker = stage.worker()
        await worker.take()
        call = (worker.ended("a", Done("1")),)
        first, *others = await asyncio.gather(
            worker.exchange(*call, want=1), *(self.late(worker.repeat) for _ in range(7))
        )
        assert [(each.applied, each.jobs) for each in others] == [(first.applied, first.jobs)] * 7
        assert await stage.line() == ["c", "d"]

    async def late(self, call: Callable[[], Awaitable[Exchanged]]) -> Exchanged:
        """Call after the others have been asked."""
        await asyncio.sleep(0)
        return await call()

    async def test_a_batch_is_added_once_whatever_became_of_it(self, stage: Stage) -> None:
        """Each job of the batch is in another state by the time of the repetition, or gone."""
        batch = [job(name) for name in ("done", "broken", "later", "running", "waiting", "removed")]
        first = await stage.jobs.add(QUEUE, batch, batch="one", now=stage.now)
        worker = stage.worker()
        await worker.take(4)
        await worker.exchange(
            worker.ended("done", Done("1")),
            worker.ended("broken", Failed("no", "")),
            worker.ended("later", Retry("no", "", 5_000)),
        )
        await stage.inspect.remove(QUEUE, ["removed"], now=stage.now)
        await stage.jobs.prune(QUEUE, completed=Keep(None, 0), failed=None, events=10_000, now=stage.now)
        before = await stage.pages(*State)
        assert await stage.jobs.add(QUEUE, batch, batch="one", now=stage.now) == first
        assert await stage.pages(*State) == before

    async def test_pruning_forgets_nothing_too_early(self, stage: Stage) -> None:
        """Maintenance may not drop what a repetition needs."""
        await stage.jobs.add(QUEUE, [job("a"), job("b")], batch="one", now=stage.now)
        worker = stage.worker()
        first = await worker.exchange(want=1)
        await stage.elapse(LOCK_MS)
        await stage.jobs.prune(QUEUE, completed=Keep(None, 0), failed=Keep(None, 0), events=0, now=stage.now)
        assert (await worker.repeat()).jobs == first.jobs
        await stage.elapse(9 * 60_000)
        await stage.jobs.prune(QUEUE, completed=Keep(None, 0), failed=Keep(None, 0), events=0, now=stage.now)
        await stage.inspect.remove(QUEUE, ["b"], now=stage.now)
        await stage.jobs.add(QUEUE, [job("a"), job("b")], batch="one", now=stage.now)
        assert await stage.state("b") is None

    async def test_renewing_twice(self, stage: Stage) -> None:
        """The same renewal again answers the same."""
        worker = await stage.bring("a", State.ACTIVE)
        locks = [worker.lock("a"), worker.lock("b", "any:1")]
        first = await stage.jobs.renew(locks, lock_ms=LOCK_MS, now=stage.now)
        assert await stage.jobs.renew(locks, lock_ms=LOCK_MS, now=stage.now) == first

    async def test_the_other_calls_twice(self, stage: Stage) -> None:
        """Cancelling, putting back, promoting, removing, pausing: the second time finds it done."""
        await stage.bring("later", State.DELAYED)
        await stage.bring("broken", State.FAILED)
        await stage.bring("gone", State.COMPLETED)
        await stage.bring("late", State.DELAYED)
        now = stage.now
        for cancelled in (CancelAnswer.CANCELLED, CancelAnswer.FINISHED):
            assert await stage.jobs.cancel(QUEUE, "late", by="", reason="", now=now) is cancelled
        for changed in (Changed.OK, Changed.REFUSED):
            assert await stage.inspect.retry(QUEUE, ["broken"], now=now) == (changed,)
            assert await stage.inspect.promote(QUEUE, ["later"], now=now) == (changed,)
        for changed in (Changed.OK, Changed.MISSING):
            assert await stage.inspect.remove(QUEUE, ["gone"], now=now) == (changed,)
        tail = await stage.bus.tail(QUEUE)
        for _ in range(2):
            await stage.inspect.pause(QUEUE, now=now)
        assert await stage.told(tail) == [("paused", "")]
        assert await stage.line() == ["broken", "later"]
