"""A job's events as frames for a client."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from toril.app import Toril
from toril.engine.ports.bus import Bus, Event
from toril.errors import ConfigError
from toril.jobs.model import Job
from toril.jobs.states import State
from toril.tasks.handle import JobEvent, JobHandle, Resync, Snapshot
from toril.tasks.watch import place
from toril.web.api.schemas import JobMessage, LogMessage, MomentMessage, ProgressMessage, StateMessage, Wire
from toril.web.api.stream import frame
from toril.web.api.views import STATUS, job_model, moment, progress

_STATES = frozenset(str(state) for state in State)


async def follow(toril: Toril, job: Job, last_event_id: str | None) -> AsyncGenerator[bytes, None] | None:
    """The frames of `job`, after the event of that id when there is one; None when it has ended and all was told.

    A Last-Event-ID that this store cannot have given counts as a gap: the client gets `resync` and what follows.
    """
    handle = toril.job(job.id, queue=job.queue)
    if last_event_id is None:
        return _frames(handle, handle.events(), first=None)
    if not await _is_given(toril.engine.bus, job.queue, last_event_id):
        return _frames(handle, _resynced(handle), first=None)
    events = handle.events(after=last_event_id)
    if not job.state.finished:
        return _frames(handle, events, first=None)
    first = await anext(events, None)
    return None if first is None else _frames(handle, events, first=first)


async def _is_given(bus: Bus, queue: str, event_id: str) -> bool:
    """False also for ids beyond the newest: they are from a store that has been replaced since."""
    try:
        await bus.read(queue, after=event_id, limit=1)
        return place(event_id) <= place(await bus.tail(queue))
    except ConfigError:
        return False


async def _resynced(handle: JobHandle[Any]) -> AsyncGenerator[JobEvent, None]:
    async with aclosing(handle.events()) as events:
        async for event in events:
            yield Resync(event.id, event.job, event.at) if isinstance(event, Snapshot) else event


async def _frames(
    handle: JobHandle[Any], events: AsyncGenerator[JobEvent, None], first: JobEvent | None
) -> AsyncGenerator[bytes, None]:
    told_end = False
    async with aclosing(events):
        if first is not None:
            told_end = _is_end(first)
            yield await _frame(handle, first)
        async for event in events:
            told_end = _is_end(event)
            yield await _frame(handle, event)
    if not told_end and (job := await handle.info()) is not None:
        # The job ended between two looks at it; the end is told with a look instead of an event.
        yield _told("resync", JobMessage(job=job_model(job)))


def _is_end(event: JobEvent) -> bool:
    if isinstance(event, Event):
        return event.kind in {State.COMPLETED, State.FAILED, "removed"}
    return event.job.state.finished


async def _frame(handle: JobHandle[Any], event: JobEvent) -> bytes:
    if not isinstance(event, Event):
        return _told(event.kind, JobMessage(job=job_model(event.job)), event.id)
    at = moment(event.at)
    match event.kind:
        case "progress":
            number, message = _progress_of(event.data.get("value"))
            return _told("progress", ProgressMessage(at=at, progress=number, progress_message=message), event.id)
        case "log":
            return _told("log", LogMessage(at=at, line=str(event.data.get("line", ""))), event.id)
        case kind if kind in _STATES:
            return _told("state", await _state(handle, event), event.id)
        case kind:
            return _told(kind, MomentMessage(at=at), event.id)


async def _state(handle: JobHandle[Any], event: Event) -> StateMessage:
    state, due = State(event.kind), event.data.get("due")
    job = await handle.info() if state.finished else None
    return StateMessage(
        at=moment(event.at),
        status=STATUS[state],
        due_at=moment(due) if isinstance(due, int) else None,
        job=None if job is None or job.state is not state else job_model(job),
    )


def _progress_of(value: Any) -> tuple[int | float, str | None]:
    message = value.get("message") if isinstance(value, dict) else None
    number = value.get("progress") if isinstance(value, dict) else value
    known = number if isinstance(number, int | float) and not isinstance(number, bool) else 0
    return progress(known), None if message is None else str(message)


def _told(event: str, message: Wire, id: str | None = None) -> bytes:
    return frame(event, message.model_dump_json(by_alias=True), id)
