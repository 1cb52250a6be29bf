"""Schedules: one run planned ahead, whatever happens to the runs and however many workers there are."""

from __future__ import annotations

import asyncio
import json

from toril.engine.ports.schedules import Planned
from toril.jobs.model import TakenJob
from toril.jobs.outcome import Done, Failed, Released, Retry
from toril.jobs.schedule import NewSchedule, Repeat, Schedule, first_time, run_after, run_instead, template_of
from toril.jobs.states import State
from toril.testing.clock import START_MS
from toril.testing.conformance.stage import LOCK_MS, MINUTE, QUEUE, Cases, HandWorker, Stage, ids_of

TICK = 10_000
EVERY = Repeat(every=TICK)
# 2023-11-14 22:13:20 UTC is 46 min 40 s before the next full hour.
HOURLY = Repeat(pattern="0 * * * *", tz="UTC")
FIRST_HOUR = START_MS + 2_800_000
HOUR = 60 * MINUTE


async def upsert(
    stage: Stage,
    repeat: Repeat = EVERY,
    *,
    id: str = "s",
    data: str = '{"a":1}',
    opts: str = '{"attempts":2,"toril":{"v":1}}',
    immediately: bool = False,
) -> Planned:
    """Store a schedule as an application does."""
    schedule = NewSchedule(id, repeat, "tick", data, opts)
    template = template_of(schedule, count=1, now=stage.now)
    first = first_time(repeat, stage.now, immediately=immediately)
    return await stage.schedules.upsert(QUEUE, schedule, template, first=first, now=stage.now)


async def advance(stage: Stage, job: TakenJob) -> Planned | None:
    """Plan what comes after a run, as its worker does."""
    due = run_after(job, stage.now)
    if due is None or job.schedule is None:
        return None
    return await stage.schedules.advance(
        QUEUE, job.schedule, job.id, due.template, following=due.following, now=stage.now
    )


async def run_one(stage: Stage, worker: HandWorker | None = None) -> Planned | None:
    """Take one run, plan the next, and end it well."""
    worker = worker or stage.worker()
    [job] = await worker.take()
    planned = await advance(stage, job)
    await worker.end(job.id, Done("1"))
    return planned


async def stored(stage: Stage, id: str = "s") -> Schedule:
    """A schedule that must be there."""
    found = await stage.schedules.get(QUEUE, id)
    assert found is not None
    return found


async def planned_jobs(stage: Stage) -> list[str]:
    """The jobs that have not begun."""
    return await stage.ids(State.WAITING, State.PRIORITIZED, State.DELAYED)


class ScheduleCases(Cases):
    """`upsert`, `advance`, `stuck`, `get`, `list`, `remove`."""

    # The first run

    async def test_every_begins_at_once(self, stage: Stage) -> None:
        """The first run of an interval is due now, and is a job like any other."""
        planned = await upsert(stage)
        assert planned == (f"repeat:s:{START_MS}", START_MS)
        stored_job = await stage.read(planned.id)
        assert (stored_job.state, stored_job.name, stored_job.data) == (State.WAITING, "tick", '{"a":1}')
        opts = json.loads(stored_job.opts)
        assert opts["repeat"] == {"every": TICK, "count": 1}
        assert (opts["repeatJobKey"], opts["jobId"], opts["attempts"]) == ("s", planned.id, 2)
        [job] = await stage.worker().take()
        assert (job.id, job.schedule) == (planned.id, "s")

    async def test_other_jobs_have_no_schedule(self, stage: Stage) -> None:
        """A job that was added says of no schedule that it planned it."""
        await stage.add("a")
        [job] = await stage.worker().take()
        assert job.schedule is None

    async def test_every_begins_at_its_start(self, stage: Stage) -> None:
        """With a start the first run is due then, and later ones keep its phase."""
        planned = await upsert(stage, Repeat(every=TICK, start=START_MS + 25_000))
        assert planned.due == START_MS + 25_000
        await stage.elapse(25_000)
        assert await run_one(stage) == (f"repeat:s:{START_MS + 35_000}", START_MS + 35_000)

    async def test_a_start_that_is_past_is_now(self, stage: Stage) -> None:
        """A schedule does not begin in the past."""
        assert (await upsert(stage, Repeat(every=TICK, start=START_MS - 500))).due == START_MS

    async def test_every_begins_at_its_offset(self, stage: Stage) -> None:
        """With an offset runs are due at the multiples of the interval, plus the offset."""
        assert (await upsert(stage, Repeat(every=TICK, offset=3_000))).due == START_MS + 3_000

    async def test_a_cron_schedule_begins_at_its_next_time(self, stage: Stage) -> None:
        """The first run of a cron schedule is delayed until it is due."""
        planned = await upsert(stage, HOURLY)
        assert planned.due == FIRST_HOUR
        job = await stage.read(planned.id)
        assert (job.state, job.due) == (State.DELAYED, FIRST_HOUR)
        assert json.loads(job.opts)["prevMillis"] == FIRST_HOUR

    async def test_a_cron_schedule_can_begin_immediately(self, stage: Stage) -> None:
        """Asked to, it runs at once, and then at its times."""
        assert (await upsert(stage, HOURLY, immediately=True)).due == START_MS
        assert await run_one(stage) == (f"repeat:s:{FIRST_HOUR}", FIRST_HOUR)

    async def test_a_run_has_the_priority_of_its_schedule(self, stage: Stage) -> None:
        """The options of a schedule are those of its runs, the later ones too."""
        opts = '{"attempts":7,"priority":3,"toril":{"v":1,"owner":"ann"}}'
        planned = await upsert(stage, opts=opts)
        assert await stage.state(planned.id) is State.PRIORITIZED
        following = await run_one(stage)
        assert following is not None
        job = await stage.read(following.id)
        kept = json.loads(job.opts)
        assert (kept["attempts"], kept["toril"], job.priority) == (7, {"v": 1, "owner": "ann"}, 3)

    # What comes after

    async def test_the_next_run_is_planned_when_one_starts(self, stage: Stage) -> None:
        """One interval after the planned time, not after the start."""
        await upsert(stage)
        await stage.elapse(4_000)
        planned = await run_one(stage)
        assert planned == (f"repeat:s:{START_MS + TICK}", START_MS + TICK)
        assert (await stage.read(planned.id)).due == START_MS + TICK
        schedule = await stored(stage)
        assert (schedule.next, schedule.count, schedule.run_id) == (START_MS + TICK, 2, planned.id)
        assert json.loads((await stage.read(planned.id)).opts)["repeat"]["count"] == 2

    async def test_an_interval_catches_up(self, stage: Stage) -> None:
        """After a long halt the run that waited is run once, and the next is due at the next time of the same phase."""
        await stage.elapse(1_234)
        await upsert(stage)
        await run_one(stage)
        await stage.elapse(10 * TICK)
        planned = await run_one(stage)
        assert planned is not None
        assert planned.due == START_MS + 1_234 + 11 * TICK

    async def test_a_cron_schedule_leaves_out_what_has_passed(self, stage: Stage) -> None:
        """After a long halt the run that waited is run once, and the next is due at the next time that comes."""
        await upsert(stage, HOURLY)
        await stage.elapse(5 * HOUR)
        planned = await run_one(stage)
        assert planned is not None
        assert planned.due == FIRST_HOUR + 5 * HOUR

    async def test_a_clock_set_back_plans_no_slot_twice(self, stage: Stage) -> None:
        """A worker whose clock is behind plans what comes after its run all the same."""
        await upsert(stage, HOURLY)
        await stage.elapse(HOUR)
        [job] = await stage.worker().take()
        await stage.elapse(-HOUR)
        planned = await advance(stage, job)
        assert planned is not None
        assert planned.due == FIRST_HOUR + HOUR

    async def test_one_run_per_slot_however_many_workers(self, stage: Stage) -> None:
        """Twenty workers and a hundred slots: each slot is run exactly once."""  # S3-11
        await upsert(stage)
        workers = [stage.worker() for _ in range(20)]
        run: list[str] = []
        for _ in range(100):
            for taken in await asyncio.gather(*(worker.take() for worker in workers)):
                for job in taken:
                    run.append(job.id)
                    planned = await asyncio.gather(advance(stage, job), advance(stage, job))
                    assert sum(each is not None for each in planned) == 1
            await stage.elapse(TICK)
        assert run == [f"repeat:s:{START_MS + number * TICK}" for number in range(100)]
        assert (await stored(stage)).count == 101

    async def test_a_retry_does_not_multiply(self, stage: Stage) -> None:
        """A run that is tried again plans nothing more."""
        await upsert(stage)
        worker = stage.worker()
        [job] = await worker.take()
        assert await advance(stage, job) is not None
        await worker.end(job.id, Retry("no", "", 0))
        [again] = await worker.take()
        assert (again.id, again.schedule) == (job.id, "s")
        assert await advance(stage, again) is None
        await worker.end(job.id, Failed("no", ""))
        assert await planned_jobs(stage) == [f"repeat:s:{START_MS + TICK}"]

    async def test_a_stall_does_not_multiply(self, stage: Stage) -> None:
        """A run whose worker vanished is run again, and plans nothing more."""
        await upsert(stage, Repeat(every=HOUR))
        [job] = await stage.worker().take()
        assert await advance(stage, job) is not None
        await stage.elapse(LOCK_MS + 1)
        await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)
        [again] = await stage.worker().take()
        assert again.id == job.id
        assert await advance(stage, again) is None

    async def test_a_worker_that_vanished_before_planning(self, stage: Stage) -> None:
        """Nothing is lost when a worker takes a run and dies at once: who gets the run next plans."""
        await upsert(stage, Repeat(every=HOUR))
        await stage.worker().take()
        await stage.elapse(LOCK_MS + 1)
        await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)
        [again] = await stage.worker().take()
        assert await advance(stage, again) is not None

    async def test_a_released_run_does_not_multiply(self, stage: Stage) -> None:
        """A run that is handed back is run by another worker, and plans nothing more."""
        await upsert(stage)
        worker = stage.worker()
        [job] = await worker.take()
        await advance(stage, job)
        await worker.end(job.id, Released())
        [again] = await worker.take()
        assert await advance(stage, again) is None

    # Limits

    async def test_a_limit_is_the_most_runs(self, stage: Stage) -> None:
        """After as many runs as the limit says nothing more is planned, and the schedule stays to be looked at."""
        await upsert(stage, Repeat(every=TICK, limit=2))
        assert await run_one(stage) is not None
        await stage.elapse(TICK)
        assert await run_one(stage) is None
        assert await planned_jobs(stage) == []
        assert (await stored(stage)).count == 2
        await stage.elapse(HOUR)
        assert await stage.schedules.stuck(QUEUE, now=stage.now) == ()

    async def test_nothing_is_due_after_the_end(self, stage: Stage) -> None:
        """The last run of an interval is the last one that is due before the end."""
        await upsert(stage, Repeat(every=TICK, end=START_MS + TICK + 5))
        assert await run_one(stage) is not None
        await stage.elapse(TICK)
        assert await run_one(stage) is None
        assert await planned_jobs(stage) == []

    async def test_no_cron_time_is_after_the_end(self, stage: Stage) -> None:
        """The last run by a cron expression is the last one that is due before the end."""
        await upsert(stage, HOURLY._replace(end=FIRST_HOUR + HOUR))
        await stage.elapse(FIRST_HOUR - START_MS)
        assert await run_one(stage) is not None
        await stage.elapse(HOUR)
        assert await run_one(stage) is None

    # Healing

    async def test_a_cancelled_run_does_not_end_its_schedule(self, stage: Stage) -> None:
        """A delayed run is cancelled: once its time has passed the schedule is found, and goes on."""
        planned = await upsert(stage, HOURLY)
        await stage.jobs.cancel(QUEUE, planned.id, by="", reason="", now=stage.now)
        assert await stage.schedules.stuck(QUEUE, now=stage.now) == ()
        await stage.elapse(2 * HOUR)
        [stuck] = await stage.schedules.stuck(QUEUE, now=stage.now)
        due = run_instead(stuck, stage.now)
        assert due is not None
        healed = await stage.schedules.advance(
            QUEUE, "s", stuck.run_id, due.template, following=due.following, now=stage.now
        )
        assert healed == (f"repeat:s:{FIRST_HOUR + 2 * HOUR}", FIRST_HOUR + 2 * HOUR)
        assert await stage.schedules.stuck(QUEUE, now=stage.now) == ()

    async def test_a_run_that_waits_long_is_not_stuck(self, stage: Stage) -> None:
        """A schedule whose run is in line or active is not stuck."""
        await upsert(stage)
        await stage.elapse(HOUR)
        assert await stage.schedules.stuck(QUEUE, now=stage.now) == ()
        await stage.worker().take()
        assert await stage.schedules.stuck(QUEUE, now=stage.now) == ()

    # Looking

    async def test_a_schedule_is_read_as_it_was_stored(self, stage: Stage) -> None:
        """Every field comes back."""
        repeat = Repeat(pattern="0 30 9 * * *", tz="America/New_York", limit=2, start=START_MS + 5, end=START_MS * 2)
        planned = await upsert(stage, repeat, data='{"ü":[1,"x"]}')
        schedule = await stored(stage)
        assert (schedule.id, schedule.queue, schedule.name) == ("s", QUEUE, "tick")
        assert schedule.repeat == repeat
        assert (schedule.next, schedule.count, schedule.run_id) == (planned.due, 1, planned.id)
        assert json.loads(schedule.data) == {"ü": [1, "x"]}
        assert json.loads(schedule.opts) == {"attempts": 2, "toril": {"v": 1}}

    async def test_schedules_are_listed_by_their_next_run(self, stage: Stage) -> None:
        """Page by page, the nearest first."""
        assert await stage.schedules.list(QUEUE) == ()
        for number in (3, 1, 2):
            await upsert(stage, Repeat(every=TICK, start=START_MS + number), id=f"s{number}")
        assert [each.id for each in await stage.schedules.list(QUEUE)] == ["s1", "s2", "s3"]
        assert [each.id for each in await stage.schedules.list(QUEUE, start=1, limit=1)] == ["s2"]
        assert await stage.schedules.get(QUEUE, "s4") is None
        assert await stage.schedules.get("other", "s1") is None

    async def test_two_schedules_do_not_meet(self, stage: Stage) -> None:
        """Schedules of one task are as many lines of runs."""
        await upsert(stage, id="a")
        await upsert(stage, id="b")
        worker = stage.worker()
        jobs = await worker.take(2)
        assert ids_of(jobs) == [f"repeat:a:{START_MS}", f"repeat:b:{START_MS}"]
        for job in jobs:
            await advance(stage, job)
        assert await planned_jobs(stage) == [f"repeat:a:{START_MS + TICK}", f"repeat:b:{START_MS + TICK}"]
