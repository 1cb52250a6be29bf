"""`SchedulePlanner`: plans run after run, for workers."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from toril.engine.protocol import Engine
from toril.errors import ConfigError
from toril.jobs.model import TakenJob
from toril.jobs.schedule import NewSchedule, Schedule, first_time, run_after, run_instead, template_of
from toril.kernel import codec
from toril.kernel.clock import Clock
from toril.kernel.telemetry import ScheduleBroken, ScheduleHealed, Telemetry
from toril.tasks.registry import Registry
from toril.tasks.task import Task

# What was declared last is kept beside the schedules; ten years are for ever, and every start of a worker renews them.
_REMEMBERED_MS = 10 * 365 * 86_400_000


class SchedulePlanner:
    """The schedules of one application, as its workers see them."""

    def __init__(
        self, open_store: Callable[[], Awaitable[Engine]], registry: Registry, clock: Clock, telemetry: Telemetry
    ) -> None:
        self._open = open_store
        self._registry = registry
        self._clock = clock
        self._telemetry = telemetry
        self._told: set[tuple[str, str]] = set()

    async def plan(self, queue: str, job: TakenJob) -> None:
        """Plan the run after this one. A schedule that cannot be read is reported, and its run is run all the same."""
        if job.schedule is None:
            return
        now = self._clock.now_ms()
        try:
            due = run_after(job, now)
        except (ConfigError, ValueError) as error:
            self._broken(queue, job.schedule, error)
            return
        if due is not None:
            engine = await self._open()
            await engine.schedules.advance(queue, job.schedule, job.id, due.template, following=due.following, now=now)

    async def heal(self, queue: str) -> None:
        """Go on with schedules whose planned run was cancelled, deleted or lost."""
        engine = await self._open()
        for stuck in await engine.schedules.stuck(queue, now=self._clock.now_ms()):
            await self._heal(engine, stuck)

    async def declare(self, queues: Sequence[str]) -> None:
        """Store what tasks declare, if it is new, has changed or is gone; delete what they no longer declare.

        A schedule that was edited since, by an operator say, stays as it is until the declaration changes.
        """
        tasks = [task for task in self._registry if task.queue in queues]
        if not tasks:
            return
        engine = await self._open()
        now = self._clock.now_ms()
        keys = [f"schedule:{task.queue}:{task.name}" for task in tasks]
        remembered = await engine.keyvalue.get(keys, now=now)
        for task, key, before in zip(tasks, keys, remembered, strict=True):
            schedule = declared(task)
            if schedule is not None:
                mark = _mark(schedule)
                if before != mark or await engine.schedules.get(task.queue, schedule.id) is None:
                    await self._store(engine, task.queue, schedule, now)
                await engine.keyvalue.set([(key, mark)], ttl_ms=_REMEMBERED_MS, now=now)
            elif before is not None:
                await engine.schedules.remove(task.queue, task.name, now=now)
                await engine.keyvalue.delete([key])

    async def _store(self, engine: Engine, queue: str, schedule: NewSchedule, now: int) -> None:
        first = first_time(schedule.repeat, now)
        if schedule.repeat.every is None and first is None:
            self._broken(queue, schedule.id, ConfigError("it is due at no time that is near enough"))
            return
        template = template_of(schedule, count=1, now=now)
        try:
            await engine.schedules.upsert(queue, schedule, template, first=first, now=now)
        except ConfigError as error:
            self._broken(queue, schedule.id, error)

    async def _heal(self, engine: Engine, stuck: Schedule) -> None:
        now = self._clock.now_ms()
        try:
            due = run_instead(stuck, now)
        except (ConfigError, ValueError) as error:
            self._broken(stuck.queue, stuck.id, error)
            return
        if due is None:
            return
        planned = await engine.schedules.advance(
            stuck.queue, stuck.id, stuck.run_id, due.template, following=due.following, now=now
        )
        if planned is not None:
            self._telemetry.emit(ScheduleHealed(stuck.queue, stuck.id, stuck.next, planned.due))

    def _broken(self, queue: str, schedule: str, error: Exception) -> None:
        # Looked at again and again, told once.
        if (queue, schedule) not in self._told:
            self._told.add((queue, schedule))
            self._telemetry.emit(ScheduleBroken(queue, schedule, str(error)))


def declared(task: Task[Any, Any]) -> NewSchedule | None:
    """The schedule that a task declares; its id is the task's name."""
    if task.schedule is None:
        return None
    return NewSchedule(task.name, task.schedule.repeat(), task.name, task.signature.bind((), {}), task.stored_options)


def _mark(schedule: NewSchedule) -> bytes:
    """What tells one declaration from another."""
    return hashlib.sha256(codec.encode(list(schedule)).encode()).hexdigest().encode()
