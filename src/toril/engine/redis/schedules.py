"""`ScheduleStore` on Redis: BullMQ's job schedulers, each method one call of one script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toril.engine.ports.schedules import Planned, ScheduleStore
from toril.engine.redis.clients import Clients
from toril.engine.redis.keys import Keys
from toril.engine.redis.records import text
from toril.engine.redis.registry import QueueRegistry
from toril.engine.redis.scripts import Script, load
from toril.errors import ConfigError
from toril.jobs.schedule import NewSchedule, Repeat, Schedule, Template, whole
from toril.kernel import codec

_UPSERT = load("schedules/upsert")
_ADVANCE = load("schedules/advance")
_READ = load("schedules/read")
_REMOVE = load("schedules/remove")


class RedisScheduleStore:
    """The schedules of one Redis. `wire` is `auto`, `bullmq5` or `bullmq6`."""

    def __init__(self, clients: Clients, keys: Keys, wire: str, registry: QueueRegistry) -> None:
        self._clients = clients
        self._keys = keys
        self._registry = registry
        self._wire = wire

    async def upsert(
        self, queue: str, schedule: NewSchedule, template: Template, *, first: int | None, now: int
    ) -> Planned:
        repeat = schedule.repeat
        await self._registry.note(queue)
        times = (repeat.every, repeat.pattern, repeat.tz, repeat.limit, repeat.start, repeat.end, repeat.offset, first)
        answer = await self._run(
            _UPSERT,
            queue,
            now,
            schedule.id,
            schedule.name,
            _unless_empty(schedule.data),
            _unless_empty(schedule.opts),
            *("" if value is None else value for value in times),
            *_run_args(schedule.id, template),
            template.data,
            self._registry.key,
            queue,
        )
        if len(answer) == 1:
            raise ConfigError(
                f"Schedule {schedule.id!r}: expected a time that no run has yet, found job {text(answer[0])}. "
                "Delete that job, or choose another id."
            )
        return Planned(text(answer[0]), int(answer[1]))

    async def advance(
        self, queue: str, schedule: str, run: str, template: Template, *, following: int | None, now: int
    ) -> Planned | None:
        answer = await self._run(
            _ADVANCE,
            queue,
            now,
            schedule,
            run,
            "" if following is None else following,
            template.name,
            template.data,
            *_run_args(schedule, template),
        )
        return None if answer is None else Planned(text(answer[0]), int(answer[1]))

    async def stuck(self, queue: str, *, now: int, limit: int = 1000) -> tuple[Schedule, ...]:
        return await self._read(queue, now, "stuck", limit)

    async def get(self, queue: str, id: str) -> Schedule | None:
        found = await self._read(queue, 0, "one", id)
        return found[0] if found else None

    async def list(self, queue: str, *, start: int = 0, limit: int = 1000) -> tuple[Schedule, ...]:
        return await self._read(queue, 0, "page", start, start + limit - 1) if limit > 0 else ()

    async def remove(self, queue: str, id: str, *, now: int) -> bool:
        return bool(await self._run(_REMOVE, queue, now, id))

    async def _read(self, queue: str, now: int, *args: str | int) -> tuple[Schedule, ...]:
        found = await self._run(_READ, queue, now, *args)
        return tuple(_schedule(text(id_), queue, int(due), flat) for id_, due, flat in found)

    async def _run(self, script: Script, queue: str, now: int, *args: str | int) -> Any:
        keys = self._keys.queue(queue)
        return await self._clients.run(script, keys.of("meta"), keys.base, keys.own, self._wire, now, *args)


def _run_args(schedule: str, template: Template) -> tuple[str | int, ...]:
    quoted = codec.encode(f"repeat:{schedule}:")[:-1]
    return (template.head, quoted, template.priority, 1 if template.lifo else 0)


def _unless_empty(text: str) -> str:
    """The layout leaves out an empty object."""
    return "" if text == "{}" else text


def _schedule(id: str, queue: str, due: int, flat: Sequence[bytes]) -> Schedule:
    fields = {text(flat[at]): text(flat[at + 1]) for at in range(0, len(flat), 2)}
    every = whole(fields.get("every"))
    return Schedule(
        id=id,
        queue=queue,
        name=fields.get("name", ""),
        repeat=Repeat(
            every=every,
            pattern=fields.get("pattern"),
            tz=fields.get("tz") or None,
            limit=whole(fields.get("limit")),
            start=whole(fields.get("startDate")),
            end=whole(fields.get("endDate")),
            offset=whole(fields.get("offset")) if every is not None else None,
        ),
        next=due,
        # Repeatable jobs of BullMQ 5 are not counted.
        count=whole(fields.get("ic")) or 1,
        data=fields.get("data", "{}"),
        opts=fields.get("opts", "{}"),
    )


_: type[ScheduleStore] = RedisScheduleStore
