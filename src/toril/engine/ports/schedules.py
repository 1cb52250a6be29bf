"""`ScheduleStore`: tasks that run again and again.

A schedule plans one run ahead, a job of its queue with the id `repeat:<schedule>:<ms>`. When that job becomes active
its worker calls `advance`, which plans the next one. The store keeps the rules for `every`; times by a cron expression
are worked out by the caller. `now` is the caller's wall time in ms. Every method raises EngineUnavailable when
the store is away.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from toril.jobs.schedule import NewSchedule, Schedule, Template


class Planned(NamedTuple):
    """A run that is planned: the id of its job, and when it is due (ms)."""

    id: str
    due: int


class ScheduleStore(Protocol):
    """The schedules of an engine."""

    async def upsert(
        self, queue: str, schedule: NewSchedule, template: Template, *, first: int | None, now: int
    ) -> Planned:
        """Store a schedule, or replace the one of that id, and plan its next run.

        A run that is planned and has not started is replaced; its time is kept when `every` is unchanged. A run that is
        active goes on. `first` is when the first run by a cron expression is due; with `every` it is None, and the run
        is due at `start`, at the offset, or at once. How many runs were planned so far is counted on. Raises
        ConfigError when a job of another run has that time already.
        """
        ...

    async def advance(
        self, queue: str, schedule: str, run: str, template: Template, *, following: int | None, now: int
    ) -> Planned | None:
        """Plan the run after `run`, a job's id. `following` is its time by a cron expression, None with `every`.

        None, and nothing is changed, when the schedule is gone, when `run` is not the one that it planned last (a
        retry, a stall, a run that was replaced), when it has ended, or when a cron expression gave no time. Name and
        data are those of the schedule; `template` gives the options, and the data where the schedule has none.
        """
        ...

    async def stuck(self, queue: str, *, now: int, limit: int = 1000) -> tuple[Schedule, ...]:
        """Schedules whose planned run is past, and ended or gone without another being planned: cancelled, say, or
        deleted. Those that have reached their limit or their end are not among them. Looks at `limit` schedules.
        """
        ...

    async def get(self, queue: str, id: str) -> Schedule | None:
        """One schedule, or None."""
        ...

    async def list(self, queue: str, *, start: int = 0, limit: int = 1000) -> tuple[Schedule, ...]:
        """Schedules of a queue by the time of their next run, from the `start`-th on."""
        ...

    async def remove(self, queue: str, id: str, *, now: int) -> bool:
        """Delete a schedule and its planned run while that is delayed; a run in line or active is still run. False when
        there is no such schedule.
        """
        ...
