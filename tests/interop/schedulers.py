"""The recorded operations on job schedulers, done by Toril's port."""

from __future__ import annotations

import json
from typing import Any

from tests.interop.recorded import START_MS
from toril.engine.protocol import Engine
from toril.jobs.model import TakenJob
from toril.jobs.schedule import NewSchedule, Repeat, Schedule, first_time, run_after, template_of
from toril.testing.clock import ManualClock

Step = dict[str, Any]


class SchedulerOperations:
    """Steps on schedulers, and what a worker does with a run of one."""

    clock: ManualClock
    _engine: Engine

    async def _upsertScheduler(self, step: Step) -> None:  # noqa: N802 - the recorded name
        given, template, now = step["repeat"], step.get("template", {}), self.clock.now_ms()
        dates = {name: START_MS + given[name] for name in ("startDate", "endDate") if name in given}
        repeat = Repeat(
            given.get("every"), given.get("pattern"), given.get("tz"), given.get("limit"),
            dates.get("startDate"), dates.get("endDate"), given.get("offset"),
        )  # fmt: skip
        data, opts = _json(template.get("data", {})), _json(template.get("opts", {}))
        schedule = NewSchedule(step["id"], repeat, template.get("name", step["id"]), data, opts)
        first = first_time(repeat, now, immediately=given.get("immediately", False))
        planned = await self._engine.schedules.upsert(
            step.get("queue", "q"), schedule, template_of(schedule, count=1, now=now), first=first, now=now
        )
        assert planned.id == step["result"]

    async def _removeScheduler(self, step: Step) -> None:  # noqa: N802
        removed = await self._engine.schedules.remove(step.get("queue", "q"), step["id"], now=self.clock.now_ms())
        assert removed is step["result"]

    async def _schedulers(self, step: Step) -> None:
        found = await self._engine.schedules.list(step.get("queue", "q"))
        assert [_shown(schedule) for schedule in found] == step["result"]

    async def plan_next(self, queue: str, jobs: tuple[TakenJob, ...]) -> None:
        """What a worker does with runs that it has taken, before it runs them."""
        now = self.clock.now_ms()
        for job in jobs:
            due = run_after(job, now)
            if due is not None and job.schedule is not None:
                await self._engine.schedules.advance(
                    queue, job.schedule, job.id, due.template, following=due.following, now=now
                )


def _shown(schedule: Schedule) -> dict[str, Any]:
    """A schedule as BullMQ's getter shows it."""
    repeat = schedule.repeat
    shown = {
        "key": schedule.id, "name": schedule.name, "next": schedule.next, "iterationCount": schedule.count,
        "every": repeat.every, "offset": repeat.offset or 0, "limit": repeat.limit, "startDate": repeat.start,
        "endDate": repeat.end, "tz": repeat.tz, "pattern": repeat.pattern,
    }  # fmt: skip
    template = {"data": json.loads(schedule.data), "opts": json.loads(schedule.opts)}
    shown["template"] = {name: value for name, value in template.items() if value} or None
    return {name: value for name, value in shown.items() if value is not None}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
