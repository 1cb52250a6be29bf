"""`ScheduleStore` on SQLite, by the rules of BullMQ's job schedulers."""

from __future__ import annotations

import functools
from typing import Any

from toril.engine.ports.schedules import Planned, ScheduleStore
from toril.engine.sqlite.connection import SqliteThread
from toril.engine.sqlite.inserting import emit, queue_number
from toril.engine.sqlite.rows import DELAYED, PRIORITIZED, REMOVED, WAITING, line_place, line_state
from toril.engine.sqlite.statements import load
from toril.engine.sqlite.transaction import Transaction
from toril.errors import ConfigError
from toril.jobs.schedule import (
    NewSchedule,
    Repeat,
    Schedule,
    Template,
    next_interval,
    phase_of,
    run_id,
    run_opts,
)

_SQL = load("schedules")
_OURS = '"toril":{'
# How many times after a taken one are looked at, as BullMQ does.
_MOST_TAKEN = 32


class SqliteScheduleStore:
    """The schedules of one SQLite store."""

    def __init__(self, writer: SqliteThread, reader: SqliteThread) -> None:
        self._writer = writer
        self._reader = reader

    async def upsert(
        self, queue: str, schedule: NewSchedule, template: Template, *, first: int | None, now: int
    ) -> Planned:
        operation = functools.partial(_upsert, queue=queue, schedule=schedule, template=template, first=first, now=now)
        return await self._writer.run(operation)

    async def advance(
        self, queue: str, schedule: str, run: str, template: Template, *, following: int | None, now: int
    ) -> Planned | None:
        operation = functools.partial(
            _advance, queue=queue, id=schedule, run=run, template=template, following=following, now=now
        )
        return await self._writer.run(operation)

    async def stuck(self, queue: str, *, now: int, limit: int = 1000) -> tuple[Schedule, ...]:
        def operation(tx: Transaction) -> tuple[Schedule, ...]:
            queue_id = tx.value(_SQL["queue"], queue=queue)
            rows = [] if queue_id is None else tx.rows(_SQL["stuck"], queue=queue_id, now=now, limit=limit)
            return tuple(_schedule(row, queue) for row in rows)

        return await self._reader.run(operation)

    async def get(self, queue: str, id: str) -> Schedule | None:
        def operation(tx: Transaction) -> Schedule | None:
            row = tx.row(_SQL["whole"], queue=tx.value(_SQL["queue"], queue=queue), id=id)
            return None if row is None else _schedule(row, queue)

        return await self._reader.run(operation)

    async def list(self, queue: str, *, start: int = 0, limit: int = 1000) -> tuple[Schedule, ...]:
        def operation(tx: Transaction) -> tuple[Schedule, ...]:
            queue_id = tx.value(_SQL["queue"], queue=queue)
            rows = tx.rows(_SQL["page"], queue=queue_id, start=start, limit=limit)
            return tuple(_schedule(row, queue) for row in rows)

        return await self._reader.run(operation)

    async def remove(self, queue: str, id: str, *, now: int) -> bool:
        def operation(tx: Transaction) -> bool:
            queue_id = tx.value(_SQL["queue"], queue=queue)
            stored = _stored(tx, queue_id, queue, id)
            if stored is None:
                return False
            found = tx.row(_SQL["run"], id=stored.run_id, queue=queue_id)
            if found is not None and found[1] == DELAYED:
                tx.run(_SQL["drop_run"], seq=found[0])
                emit(tx, queue_id, [(REMOVED, stored.run_id, now, DELAYED, None)])
                tx.touched |= {f"w:{queue}", f"e:{queue}"}
            tx.run(_SQL["forget"], queue=queue_id, id=id)
            return True

        return await self._writer.run(operation)


def _upsert(
    tx: Transaction, *, queue: str, schedule: NewSchedule, template: Template, first: int | None, now: int
) -> Planned:
    queue_id = queue_number(tx, queue)
    repeat = schedule.repeat
    stored = _stored(tx, queue_id, queue, schedule.id)
    same = stored is not None and repeat.every is not None and stored.repeat.every == repeat.every
    phase = repeat.offset or None
    if phase is None and same and stored is not None:
        phase = stored.repeat.offset
    if repeat.every is not None:
        previous = stored.next if same and stored is not None else None
        due = next_interval(repeat.every, phase or 0, previous=previous, start=repeat.start, now=now)
    else:
        due = max(now, first or 0)
    replaced = stored is not None and _drop_pending(tx, queue_id, stored)
    if replaced and same and stored is not None:
        due = stored.next
    due = _free_time(tx, queue_id, schedule, due)
    if repeat.every is not None and phase is None:
        phase = phase_of(due, repeat.every)
    tx.run(
        _SQL["put"],
        queue=queue_id,
        id=schedule.id,
        next=due,
        planned=1 if stored is None else stored.count,
        name=schedule.name,
        data=schedule.data,
        opts=schedule.opts,
        every=repeat.every,
        pattern=repeat.pattern,
        tz=repeat.tz,
        most=repeat.limit,
        start=repeat.start,
        until=repeat.end,
        phase=phase or 0,
    )
    _plan(tx, queue_id, queue, schedule.id, template, due, pattern=repeat.pattern is not None, now=now)
    return Planned(run_id(schedule.id, due), due)


def _advance(
    tx: Transaction, *, queue: str, id: str, run: str, template: Template, following: int | None, now: int
) -> Planned | None:
    queue_id = tx.value(_SQL["queue"], queue=queue)
    stored = _stored(tx, queue_id, queue, id)
    if stored is None or stored.run_id != run:
        return None
    repeat = stored.repeat
    if repeat.every is None:
        due = following
    else:
        due = next_interval(repeat.every, repeat.offset or 0, previous=stored.next, start=repeat.start, now=now)
        if repeat.end is not None and due > repeat.end:
            due = None
    if due is None or tx.row(_SQL["run"], id=run_id(id, due), queue=queue_id) is not None:
        return None
    tx.run(_SQL["move"], queue=queue_id, id=id, next=due)
    template = template._replace(name=stored.name, data=stored.data)
    _plan(tx, queue_id, queue, id, template, due, pattern=repeat.pattern is not None, now=now)
    return Planned(run_id(id, due), due)


def _drop_pending(tx: Transaction, queue_id: int, stored: Schedule) -> bool:
    """Delete the planned run if it has not started. Answers whether it did."""
    found = tx.row(_SQL["run"], id=stored.run_id, queue=queue_id)
    if found is None or found[1] not in (WAITING, PRIORITIZED, DELAYED):
        return False
    tx.run(_SQL["drop_run"], seq=found[0])
    return True


def _free_time(tx: Transaction, queue_id: int, schedule: NewSchedule, due: int) -> int:
    """The first time from `due` on that no other run has."""
    step = schedule.repeat.every
    for number in range(_MOST_TAKEN if step else 1):
        moment = due + number * (step or 0)
        if tx.row(_SQL["run"], id=run_id(schedule.id, moment), queue=queue_id) is None:
            return moment
    raise ConfigError(
        f"Schedule {schedule.id!r}: expected a time that no run has yet, found job {run_id(schedule.id, due)}. "
        "Delete that job, or choose another id."
    )


def _plan(
    tx: Transaction, queue_id: int, queue: str, id: str, template: Template, due: int, *, pattern: bool, now: int
) -> None:
    opts = run_opts(template, id, due, pattern=pattern, now=now)
    if due > now:
        state, place = DELAYED, due
    elif template.lifo and not template.priority:
        state, place = WAITING, tx.value(_SQL["front_of_line"], queue=queue_id)
    else:
        position = tx.value(_SQL["back_of_line"], queue=queue_id)
        state, place = line_state(template.priority), line_place(template.priority, position)
    tx.run(
        _SQL["plan_run"],
        id=run_id(id, due),
        queue=queue_id,
        state=state,
        place=place,
        name=template.name,
        data=template.data,
        opts=opts,
        foreign=0 if _OURS in opts else 1,
        priority=template.priority,
        now=now,
        schedule=id,
    )
    tx.touched |= {f"w:{queue}", f"e:{queue}"}


def _stored(tx: Transaction, queue_id: int | None, queue: str, id: str) -> Schedule | None:
    row = tx.row(_SQL["whole"], queue=queue_id, id=id)
    return None if row is None else _schedule(row, queue)


def _schedule(row: tuple[Any, ...], queue: str) -> Schedule:
    id_, next_, planned, name, data, opts, every, pattern, tz, most, start, until, phase = row
    return Schedule(
        id=id_,
        queue=queue,
        name=name,
        repeat=Repeat(every, pattern, tz, most, start, until, phase if every is not None else None),
        next=next_,
        count=planned,
        data=data,
        opts=opts,
    )


_: type[ScheduleStore] = SqliteScheduleStore
