"""Changing and deleting schedules, and what becomes of the run that is planned."""

from __future__ import annotations

import pytest

from toril.engine.ports.inspect import Changed
from toril.errors import ConfigError
from toril.jobs.outcome import Done
from toril.jobs.schedule import Repeat
from toril.jobs.states import State
from toril.testing.clock import START_MS
from toril.testing.conformance.schedules import (
    HOURLY,
    TICK,
    advance,
    planned_jobs,
    run_one,
    stored,
    upsert,
)
from toril.testing.conformance.stage import QUEUE, Cases, Stage


class RescheduleCases(Cases):
    """`upsert` of a schedule that is there, and `remove`."""

    # Replacing

    async def test_an_upsert_replaces(self, stage: Stage) -> None:
        """One id is one schedule: the run that was planned gives way to the new one."""  # S3-28
        await upsert(stage, HOURLY)
        planned = await upsert(stage, HOURLY._replace(pattern="30 * * * *"), data='{"b":2}')
        assert await planned_jobs(stage) == [planned.id]
        assert planned.due == START_MS + 1_000_000
        schedule = await stored(stage)
        assert (schedule.repeat.pattern, schedule.data, schedule.next) == ("30 * * * *", '{"b":2}', planned.due)

    async def test_the_same_interval_keeps_its_slot(self, stage: Stage) -> None:
        """An upsert with an unchanged `every` changes what runs, not when."""
        await upsert(stage)
        await run_one(stage)
        await stage.elapse(100)
        planned = await upsert(stage, data='{"b":2}')
        assert planned.due == START_MS + TICK
        assert await planned_jobs(stage) == [planned.id]
        assert (await stage.read(planned.id)).data == '{"b":2}'
        assert (await stored(stage)).count == 2

    async def test_another_interval_begins_anew(self, stage: Stage) -> None:
        """An upsert with another `every` plans its first run at once."""
        await upsert(stage)
        await run_one(stage)
        await stage.elapse(100)
        planned = await upsert(stage, Repeat(every=TICK * 2))
        assert planned.due == stage.now
        assert await planned_jobs(stage) == [planned.id]

    async def test_an_upsert_while_a_run_is_active(self, stage: Stage) -> None:
        """The active run goes on and plans nothing: the upsert has planned what comes next."""
        await upsert(stage)
        worker = stage.worker()
        [job] = await worker.take()
        planned = await upsert(stage)
        assert planned.due == START_MS + TICK
        assert await advance(stage, job) is None
        assert await planned_jobs(stage) == [planned.id]

    async def test_later_runs_have_the_new_data(self, stage: Stage) -> None:
        """The run after the next has the data of the schedule, too."""
        await upsert(stage)
        await upsert(stage, data='{"b":2}')
        planned = await run_one(stage)
        assert planned is not None
        assert (await stage.read(planned.id)).data == '{"b":2}'

    async def test_a_taken_slot_is_stepped_over(self, stage: Stage) -> None:
        """Where a job of that time is still there, an interval takes its next time."""
        await upsert(stage)
        worker = stage.worker()
        await worker.take()
        assert await stage.schedules.remove(QUEUE, "s", now=stage.now)
        assert (await upsert(stage)).due == START_MS + TICK

    async def test_a_taken_time_is_refused(self, stage: Stage) -> None:
        """Where a job of that time is still there, a cron schedule is not stored."""
        await upsert(stage, HOURLY, immediately=True)
        await stage.worker().take()
        with pytest.raises(ConfigError, match=f"repeat:s:{START_MS}"):
            await upsert(stage, HOURLY, immediately=True)
        assert await planned_jobs(stage) == []

    async def test_a_paused_queue_plans_all_the_same(self, stage: Stage) -> None:
        """A pause holds back runs: an upsert replaces the waiting one, and it runs once after the resume."""
        await stage.inspect.pause(QUEUE, now=stage.now)
        await upsert(stage)
        planned = await upsert(stage, data='{"b":2}')
        assert await planned_jobs(stage) == [planned.id]
        await stage.elapse(5 * TICK)
        await stage.inspect.resume(QUEUE, now=stage.now)
        await run_one(stage)
        assert len(await planned_jobs(stage)) == 1

    # Removing

    async def test_remove_deletes_the_planned_run(self, stage: Stage) -> None:
        """A delayed run goes with its schedule."""
        planned = await upsert(stage, HOURLY)
        before = (await stage.events())[-1].id
        assert await stage.schedules.remove(QUEUE, "s", now=stage.now)
        assert await stage.told(before) == [("removed", planned.id)]
        assert await stage.schedules.get(QUEUE, "s") is None
        assert await stage.inspect.get(planned.id, QUEUE) is None
        assert not await stage.schedules.remove(QUEUE, "s", now=stage.now)

    async def test_remove_keeps_a_run_that_waits(self, stage: Stage) -> None:
        """A run in line is still run, and plans nothing."""
        planned = await upsert(stage)
        assert await stage.schedules.remove(QUEUE, "s", now=stage.now)
        worker = stage.worker()
        [job] = await worker.take()
        assert job.id == planned.id
        assert await advance(stage, job) is None
        await worker.end(job.id, Done("1"))

    async def test_a_planned_run_cannot_be_removed(self, stage: Stage) -> None:
        """Nobody deletes the run that a schedule needs to go on; that of a removed schedule is a job like any other."""
        planned = await upsert(stage)
        assert await stage.inspect.remove(QUEUE, [planned.id], now=stage.now) == (Changed.REFUSED,)
        await stage.schedules.remove(QUEUE, "s", now=stage.now)
        assert await stage.inspect.remove(QUEUE, [planned.id], now=stage.now) == (Changed.OK,)

    async def test_drain_and_clean_spare_planned_runs(self, stage: Stage) -> None:
        """Emptying a queue ends no schedule."""
        planned = await upsert(stage, HOURLY)
        other = await upsert(stage, id="other")
        await stage.add("a")
        assert await stage.inspect.drain(QUEUE, delayed=True, now=stage.now) == 1
        for state in (State.WAITING, State.DELAYED):
            assert await stage.inspect.clean(QUEUE, state, before=stage.now, now=stage.now) == 0
        assert await planned_jobs(stage) == [other.id, planned.id]

    async def test_obliterate_ends_schedules(self, stage: Stage) -> None:
        """A queue is deleted with its schedules."""
        await upsert(stage)
        while not await stage.inspect.obliterate(QUEUE, force=False, now=stage.now):
            pass
        assert await stage.schedules.list(QUEUE) == ()
