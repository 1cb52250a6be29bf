"""`toril.schedules`: tasks that run again and again, for applications and operators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from toril.engine.protocol import Engine
from toril.errors import ConfigError
from toril.jobs.cron import check_cron, check_zone
from toril.jobs.model import NewJob
from toril.jobs.options import HIGHEST_PRIORITY_NUMBER
from toril.jobs.schedule import (
    NewSchedule,
    Repeat,
    Schedule,
    check_interval,
    check_schedule_id,
    first_time,
    plain_opts,
    template_of,
    whole,
)
from toril.kernel import codec
from toril.kernel.clock import Clock
from toril.kernel.durations import Duration
from toril.kernel.ids import JobIds, token_hex
from toril.tasks.call import Call
from toril.tasks.handle import Desk, JobHandle, handle_of
from toril.tasks.registry import Registry

_PAGE = 500
_MOST_RUNS = 1_000_000_000


class Schedules:
    """The schedules of an application; made by `Toril` as `toril.schedules`. Every method raises EngineUnavailable when
    the store is away.
    """

    def __init__(
        self,
        open_store: Callable[[], Awaitable[Engine]],
        registry: Registry,
        clock: Clock,
        ids: JobIds,
        desk: Desk,
    ) -> None:
        self._open = open_store
        self._registry = registry
        self._clock = clock
        self._ids = ids
        self._desk = desk

    async def upsert(
        self,
        id: str,
        *,
        call: Call[Any],
        cron: str | None = None,
        every: Duration | None = None,
        tz: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        limit: int | None = None,
        immediately: bool = False,
    ) -> Schedule:
        """Run `call` again and again, from now on until the schedule is removed; a schedule of that id is replaced.

        Either `cron`, five fields or six with seconds in front, read in the time zone `tz` (UTC by default), or
        `every`, an interval: its first run is due at once, or at `start`. No run is due before `start` or after `end`
        (aware datetimes); `limit` is the most runs. `immediately` lets a cron schedule begin with a run at once.
        Replacing a schedule keeps the time of its next run when `every` is unchanged.

        Raises ConfigError for anything that cannot be, before it is stored.
        """
        now = self._clock.now_ms()
        repeat = _repeat(cron, every, tz, start, end, limit)
        if immediately and start is not None:
            raise ConfigError("immediately and start are both given: expected one of them.")
        first = first_time(repeat, now, immediately=immediately)
        if (repeat.end is not None and repeat.end < now) or (repeat.every is None and first is None):
            raise ConfigError(f"Schedule {id!r}: expected a run before its end, found that none is due any more.")
        schedule = NewSchedule(check_schedule_id(id), repeat, call.name, call.data, _options(call))
        engine = await self._open()
        template = template_of(schedule, count=1, now=now)
        await engine.schedules.upsert(call.queue, schedule, template, first=first, now=now)
        stored = await engine.schedules.get(call.queue, id)
        if stored is None:
            raise ConfigError(f"Schedule {id!r}: expected it to be stored, found that somebody removed it at once.")
        return stored

    async def list(self, queue: str | None = None) -> list[Schedule]:
        """The schedules of a queue, or of all queues, the one that is due next first."""
        engine = await self._open()
        names = await self._queues(engine, queue)
        found: list[Schedule] = []
        for name in names:
            start = 0
            while page := await engine.schedules.list(name, start=start, limit=_PAGE):
                found += page
                start += _PAGE
        return sorted({(one.queue, one.id): one for one in found}.values(), key=lambda one: (one.next, one.id))

    async def get(self, id: str, queue: str | None = None) -> Schedule | None:
        """One schedule, or None. Without `queue` all queues are searched."""
        engine = await self._open()
        for name in await self._queues(engine, queue):
            found = await engine.schedules.get(name, id)
            if found is not None:
                return found
        return None

    async def remove(self, id: str, queue: str | None = None) -> bool:
        """Delete a schedule and its planned run; a run that is in line or active is still run. False when there is no
        such schedule. Without `queue` all queues are searched.

        A schedule that a task declares comes back when a worker starts: take it out of the code.
        """
        found = await self.get(id, queue)
        if found is None:
            return False
        engine = await self._open()
        return await engine.schedules.remove(found.queue, id, now=self._clock.now_ms())

    async def run(self, id: str, queue: str | None = None) -> JobHandle[Any]:
        """Run what is scheduled once more, now; the schedule goes on as planned. Raises ConfigError when there is no
        such schedule.
        """
        found = await self.get(id, queue)
        if found is None:
            where = "any queue" if queue is None else f"queue {queue!r}"
            raise ConfigError(f"Expected a schedule {id!r} in {where}, found none.")
        engine, now = await self._open(), self._clock.now_ms()
        opts = plain_opts(found.opts)
        priority = min(max(0, whole(opts.get("priority")) or 0), HIGHEST_PRIORITY_NUMBER)
        job = NewJob(self._ids.new(), found.name, found.data, codec.encode(opts), now, priority=priority)
        added = await engine.jobs.add(found.queue, [job], batch=token_hex(), now=now)
        return handle_of(added.ids[0], found.queue, self._desk)

    async def _queues(self, engine: Engine, queue: str | None) -> Sequence[str]:
        """The queues to look at. Those of our tasks too, whose jobs may all have been added by others."""
        if queue is not None:
            return [queue]
        return sorted({info.name for info in await engine.inspect.queues()} | self._registry.queues())


def _repeat(
    cron: str | None,
    every: Duration | None,
    tz: str | None,
    start: datetime | None,
    end: datetime | None,
    limit: int | None,
) -> Repeat:
    if (cron is None) == (every is None):
        raise ConfigError("Expected either cron or every, got " + ("both." if cron is not None else "neither."))
    if every is not None and tz is not None:
        raise ConfigError("tz: an interval has no time zone; give it with cron.")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= _MOST_RUNS):
        raise ConfigError(f"limit: expected a whole number from 1 on, got {limit!r}.")
    first, last = _moment(start, "start"), _moment(end, "end")
    if first is not None and last is not None and last < first:
        raise ConfigError(f"end: expected a time after start ({start}), got {end}.")
    if every is not None:
        return Repeat(every=check_interval(every), limit=limit, start=first, end=last)
    # Without a zone a Node worker would read the expression in its own.
    zone = check_zone("UTC" if tz is None else tz)
    return Repeat(pattern=check_cron(cron or ""), tz=zone, limit=limit, start=first, end=last)


def _moment(value: datetime | None, what: str) -> int | None:
    if value is None:
        return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ConfigError(f"{what}: expected a datetime with a time zone, got {value!r}.")
    return round(value.timestamp() * 1000)


def _options(call: Call[Any]) -> str:
    options = call.plan.options
    for name in ("id", "delay", "run_at"):
        if getattr(options, name) is not None:
            raise ConfigError(f"call: {name} belongs to one job; a schedule says itself when its runs are due.")
    if options.unique is not None:
        raise ConfigError("call: unique is for jobs that are enqueued; each run of a schedule is there once anyway.")
    return call.plan.stored_options
