"""Deleting jobs: some, many, all."""

from __future__ import annotations

import pytest

from toril.engine.ports.inspect import Changed
from toril.engine.ports.jobs import Code, LogLine
from toril.errors import JobLocked
from toril.jobs.outcome import Done
from toril.jobs.states import State
from toril.testing.conformance.stage import LOCK_MS, MINUTE, QUEUE, REACHABLE, Cases, Stage, job


async def fill(stage: Stage) -> None:
    """One job in each state, named after it, but not as a store may call one of its own keys."""
    for state in (State.PRIORITIZED, State.DELAYED, State.ACTIVE, State.COMPLETED, State.FAILED, State.WAITING):
        await stage.bring(f"j-{state}", state)


class RemovalCases(Cases):
    """`JobInspector.remove`, `drain`, `clean` and `obliterate`."""

    @pytest.mark.parametrize("state", REACHABLE)
    async def test_what_can_be_removed(self, stage: Stage, state: State) -> None:
        """Every job that no worker is running."""
        await stage.bring("a", state)
        [changed] = await stage.inspect.remove(QUEUE, ["a"], now=stage.now)
        assert changed is (Changed.LOCKED if state is State.ACTIVE else Changed.OK)
        assert await stage.state("a") is (State.ACTIVE if state is State.ACTIVE else None)

    async def test_each_removed_job_is_answered(self, stage: Stage) -> None:
        """One answer per id, in order; the others of the queue stay."""
        await stage.add("a", "b", "c")
        answers = await stage.inspect.remove(QUEUE, ["b", "nobody", "a", "b"], now=stage.now)
        assert answers[:3] == (Changed.OK, Changed.MISSING, Changed.OK)
        assert answers[3] in {Changed.MISSING, Changed.REFUSED}
        assert await stage.line() == ["c"]

    async def test_a_removed_job_takes_its_log_along(self, stage: Stage) -> None:
        """A new job of the same id begins without lines."""
        worker = await stage.bring("a", State.ACTIVE)
        await stage.jobs.report(QUEUE, [], [LogLine("a", worker.tokens["a"], "hello", stage.now)])
        await worker.end("a", Done("1"))
        await stage.inspect.remove(QUEUE, ["a"], now=stage.now)
        assert (await stage.inspect.logs(QUEUE, "a")).total == 0
        await stage.add("a")
        assert (await stage.inspect.logs(QUEUE, "a")).lines == ()

    async def test_drain_empties_the_line(self, stage: Stage) -> None:
        """Waiting and prioritized jobs go; delayed ones only when asked for; others never."""
        await fill(stage)
        assert await stage.inspect.drain(QUEUE, delayed=False, now=stage.now) == 2
        assert await stage.ids(*State) == ["j-delayed", "j-active", "j-completed", "j-failed"]
        assert await stage.inspect.drain(QUEUE, delayed=True, now=stage.now) == 1
        assert await stage.ids(*State) == ["j-active", "j-completed", "j-failed"]
        assert await stage.inspect.drain(QUEUE, delayed=True, now=stage.now) == 0

    async def test_drain_is_bounded(self, stage: Stage) -> None:
        """At most `limit` jobs go per call, whatever their state."""
        await stage.add(*(job(f"a{number}") for number in range(6)))
        await stage.add(*(job(f"p{number}", priority=1) for number in range(6)))
        await stage.add(*(job(f"d{number}", delay_ms=5) for number in range(6)))
        drained = [await stage.inspect.drain(QUEUE, delayed=True, now=stage.now, limit=7) for _ in range(4)]
        assert drained == [7, 7, 4, 0]

    async def test_drain_is_per_queue(self, stage: Stage) -> None:
        """Other queues keep their jobs, and an unknown one has none."""
        await stage.add("a")
        assert await stage.inspect.drain("other", delayed=True, now=stage.now) == 0
        assert await stage.line() == ["a"]

    @pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED])
    async def test_clean_by_finish_time(self, stage: Stage, state: State) -> None:
        """Finished jobs go when they finished at or before the given time, however old they are."""
        await stage.bring("a", state)
        await stage.elapse(MINUTE)
        middle = stage.now
        await stage.bring("b", state)
        await stage.elapse(MINUTE)
        await stage.bring("c", state)
        assert await stage.inspect.clean(QUEUE, state, before=middle - 1, now=stage.now) == 1
        assert await stage.inspect.clean(QUEUE, state, before=middle, now=stage.now) == 1
        assert await stage.ids(state) == ["c"]

    @pytest.mark.parametrize("state", [State.WAITING, State.PRIORITIZED, State.DELAYED])
    async def test_clean_by_creation(self, stage: Stage, state: State) -> None:
        """Unfinished jobs go when they were created at or before the given time."""
        start = stage.now
        for name in ("a", "b", "c"):
            await stage.bring(name, state)
            await stage.elapse(10)
        assert await stage.inspect.clean(QUEUE, state, before=start - 1, now=stage.now) == 0
        assert await stage.inspect.clean(QUEUE, state, before=start + 10, now=stage.now) == 2
        assert await stage.ids(state) == ["c"]

    async def test_clean_touches_one_state(self, stage: Stage) -> None:
        """Jobs of the other states stay."""
        await fill(stage)
        assert await stage.inspect.clean(QUEUE, State.FAILED, before=stage.now, now=stage.now) == 1
        assert (await stage.counts()).total == 5

    async def test_clean_spares_jobs_that_run(self, stage: Stage) -> None:
        """An active job goes only when its lock has run out; its worker then finds it missing."""
        lost = await stage.bring("lost", State.ACTIVE)
        await stage.elapse(2 * LOCK_MS)
        await stage.bring("runs", State.ACTIVE)
        assert await stage.inspect.clean(QUEUE, State.ACTIVE, before=stage.now, now=stage.now) == 1
        assert await stage.ids(State.ACTIVE) == ["runs"]
        assert await lost.end("lost", Done("1")) is Code.MISSING

    async def test_clean_is_bounded_oldest_first(self, stage: Stage) -> None:
        """At most `limit` jobs go per call."""
        for number in range(8):
            await stage.bring(f"j{number}", State.COMPLETED)
            await stage.elapse(1)
        assert await stage.inspect.clean(QUEUE, State.COMPLETED, before=stage.now, now=stage.now, limit=5) == 5
        assert await stage.ids(State.COMPLETED) == ["j5", "j6", "j7"]
        assert await stage.inspect.clean(QUEUE, State.COMPLETED, before=stage.now, now=stage.now, limit=5) == 3

    async def test_obliterate_leaves_nothing(self, stage: Stage) -> None:
        """After it the queue is unknown: no job, no count, no pause; other queues are untouched."""
        await fill(stage)
        await stage.inspect.drain(QUEUE, delayed=False, now=stage.now)
        await stage.add("keep", queue="other")
        while not await stage.inspect.obliterate(QUEUE, force=True, now=stage.now, limit=2):
            pass
        assert (await stage.counts()).total == 0
        assert [each.name for each in await stage.inspect.queues()] == ["other"]
        assert not await stage.inspect.is_paused(QUEUE)
        assert await stage.inspect.get("j-failed", QUEUE) is None
        assert (await stage.read("keep", "other")).state is State.WAITING

    async def test_obliterate_spares_running_jobs(self, stage: Stage) -> None:
        """Without `force` active jobs keep the queue from being deleted, and it stays paused."""
        worker = await stage.bring("a", State.ACTIVE)
        await stage.add("b")
        with pytest.raises(JobLocked):
            await stage.inspect.obliterate(QUEUE, force=False, now=stage.now)
        assert await stage.inspect.is_paused(QUEUE)
        assert await stage.state("a") is State.ACTIVE
        assert await worker.end("a", Done("1")) is Code.OK
        while not await stage.inspect.obliterate(QUEUE, force=False, now=stage.now):
            pass
        assert await stage.inspect.queues() == ()

    async def test_obliterate_is_bounded(self, stage: Stage) -> None:
        """A call deletes a part; the queue is paused until nothing is left."""
        await stage.add(*(job(f"a{number}") for number in range(50)))
        assert await stage.inspect.obliterate(QUEUE, force=False, now=stage.now, limit=20) is False
        assert await stage.inspect.is_paused(QUEUE)
        left = (await stage.counts()).total
        assert 0 < left < 50
        calls = 1
        while not await stage.inspect.obliterate(QUEUE, force=False, now=stage.now, limit=20):
            calls += 1
            assert calls < 20
        assert (await stage.counts()).total == 0

    async def test_a_forced_obliterate_takes_the_lock_away(self, stage: Stage) -> None:
        """A worker whose queue was deleted finds its job missing, and nothing comes back."""
        worker = await stage.bring("a", State.ACTIVE)
        while not await stage.inspect.obliterate(QUEUE, force=True, now=stage.now):
            pass
        assert await worker.end("a", Done("1")) is Code.MISSING
        assert (await stage.counts()).total == 0

    async def test_an_obliterated_queue_can_be_used_again(self, stage: Stage) -> None:
        """The same ids are new jobs, and who read its events before sees the new ones."""
        await stage.add("a", "b")
        tail = await stage.bus.tail(QUEUE)
        while not await stage.inspect.obliterate(QUEUE, force=False, now=stage.now):
            pass
        assert (await stage.add("a", "b")).created == (True, True)
        assert await stage.line() == ["a", "b"]
        assert ("waiting", "b") in await stage.told(tail)

    async def test_obliterating_nothing_is_done_at_once(self, stage: Stage) -> None:
        """An unknown queue has nothing left."""
        assert await stage.inspect.obliterate("nowhere", force=False, now=stage.now) is True
        assert await stage.inspect.queues() == ()
