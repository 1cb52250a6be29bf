"""What a look at a queue tells."""

from __future__ import annotations

from toril.engine.ports.jobs import Outlook
from toril.jobs.limits import QueueLimits
from toril.jobs.outcome import Done
from toril.jobs.states import State
from toril.testing.conformance.stage import MINUTE, QUEUE, Cases, Stage, job

DONE = Done("null")
NOTHING = Outlook(active=False, in_line=False, next_due_ms=None)


class LookingCases(Cases):
    """`JobStore.look`."""

    async def test_a_look_at_nothing(self, stage: Stage) -> None:
        """An unknown queue, and one whose jobs have all ended, have nothing to do."""
        assert await stage.jobs.look(QUEUE) == NOTHING
        await stage.bring("a", State.COMPLETED)
        await stage.bring("b", State.FAILED)
        assert await stage.jobs.look(QUEUE) == NOTHING

    async def test_a_look_at_the_line(self, stage: Stage) -> None:
        """Waiting and prioritized jobs are in line, until they are taken."""
        for state in (State.WAITING, State.PRIORITIZED):
            await stage.bring(f"job-{state}", state)
            assert await stage.jobs.look(QUEUE) == (False, True, None)
            worker = stage.worker()
            await worker.take()
            assert await stage.jobs.look(QUEUE) == (True, False, None)
            await worker.end(f"job-{state}", DONE)
        assert await stage.jobs.look(QUEUE) == NOTHING

    async def test_a_look_at_delayed_jobs(self, stage: Stage) -> None:
        """The earliest time counts, also when it has passed; who does not ask is not told."""
        await stage.add(job("late", timestamp=stage.now, delay_ms=MINUTE))
        await stage.add(job("soon", timestamp=stage.now, delay_ms=5_000, priority=3))
        due = stage.now + 5_000
        assert await stage.jobs.look(QUEUE) == (False, False, due)
        assert await stage.jobs.look(QUEUE, due=False) == NOTHING
        await stage.elapse(6_000)
        assert await stage.jobs.look(QUEUE) == (False, False, due)
        await stage.add("now")
        assert await stage.jobs.look(QUEUE) == (False, True, due)
        assert await stage.jobs.look(QUEUE, due=False) == (False, True, None)

    async def test_a_look_at_what_may_not_start(self, stage: Stage) -> None:
        """Jobs of a paused queue, or behind its concurrency, are not in line."""
        await stage.add("a", "b")
        await stage.inspect.pause(QUEUE, now=stage.now)
        assert await stage.jobs.look(QUEUE) == NOTHING
        await stage.inspect.resume(QUEUE, now=stage.now)
        await stage.inspect.set_limits(QUEUE, QueueLimits(concurrency=1), now=stage.now)
        assert await stage.jobs.look(QUEUE) == (False, True, None)
        worker = stage.worker()
        await worker.take()
        assert await stage.jobs.look(QUEUE) == (True, False, None)
        await worker.end("a", DONE)
        assert await stage.jobs.look(QUEUE) == (False, True, None)
