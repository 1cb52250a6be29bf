"""Rows of the database and records of ours, in both directions. The only place where state and kind numbers are
spelled.
"""

from __future__ import annotations

from typing import Any

from toril.engine.ports.bus import Event
from toril.jobs.model import AttemptRecord, CancelRequest, Job
from toril.jobs.states import State
from toril.kernel import codec

WAITING, PRIORITIZED, DELAYED, WAITING_CHILDREN, ACTIVE, COMPLETED, FAILED = range(7)
STALLED, PROGRESS, LOG, REMOVED, PAUSED, RESUMED = range(7, 13)

STATES = (
    State.WAITING,
    State.PRIORITIZED,
    State.DELAYED,
    State.WAITING_CHILDREN,
    State.ACTIVE,
    State.COMPLETED,
    State.FAILED,
)
NUMBERS = {state: number for number, state in enumerate(STATES)}
# Prioritized is a place in line, not a kind of event: a job that may run now is "waiting", as on the BullMQ wire.
KINDS = (
    "waiting",
    "waiting",
    "delayed",
    "waiting-children",
    "active",
    "completed",
    "failed",
    "stalled",
    "progress",
    "log",
    "removed",
    "paused",
    "resumed",
)
MOST_STACKS = 10

# A prioritized job's place is its priority above its place in line; the middle leaves room for jobs put in front.
_PRIORITY_STEP = 1 << 41
_MIDDLE = 1 << 40


def line_state(priority: int) -> int:
    """The state of a job of that priority which may run now."""
    return PRIORITIZED if priority else WAITING


def line_place(priority: int, position: int) -> int:
    """Its place there, from its position: counted upwards at the back of the line, downwards at the front."""
    return priority * _PRIORITY_STEP + _MIDDLE + position if priority else position


def sayable(text: str) -> str:
    """Text as the database can hold it: without NUL and lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\N{REPLACEMENT CHARACTER}")


def history_entry(record: AttemptRecord, stack: str = "") -> str:
    """One run of a job as the JSON object that its history keeps."""
    if record.error is None and not stack:
        # The common case, written out: worker ids and outcomes need no escaping, and this runs for every job.
        number, worker, started, ended, outcome, _ = record
        if worker.isalnum():
            return f'{{"n":{number},"w":"{worker}","s":{started},"e":{ended},"o":"{outcome}"}}'
    entry: dict[str, Any] = {
        "n": record.number,
        "w": record.worker,
        "s": record.started,
        "e": record.ended,
        "o": str(record.outcome),
    }
    if record.error is not None:
        entry["err"] = record.error
    if stack:
        entry["st"] = stack
    return codec.encode(entry)


def cancel_entry(request: CancelRequest) -> str:
    """A cancellation request as JSON."""
    return codec.encode(request._asdict())


def cancel_of(text: str | None) -> CancelRequest | None:
    """The other way round."""
    if text is None:
        return None
    value = codec.decode(text)
    return CancelRequest(value["by"], value["reason"], value["at"])


def job_of(row: tuple[Any, ...]) -> Job:
    """A row of the statement `whole` (inspect.sql) as a job."""
    (id_, queue, state, place, name, data, opts, priority, created, processed, finished, attempts, starts) = row[:13]
    (stalls, worker, progress, result, reason, deferred, cancel, history) = row[13:]
    entries: list[dict[str, Any]] = codec.decode(f"[{history}]") if history else []
    return Job(
        id=id_,
        queue=queue,
        name=name,
        data=data,
        opts=opts,
        state=STATES[state],
        timestamp=created,
        priority=priority,
        due=place if state == DELAYED else None,
        processed=processed,
        finished=finished,
        attempts_made=attempts,
        starts=starts,
        stalls=stalls,
        progress=0 if progress is None else codec.decode(progress),
        result=result if state == COMPLETED else None,
        failed_reason=reason,
        stacktrace=_last([entry["st"] for entry in entries if "st" in entry], _stacks_kept(opts)),
        worker=worker,
        cancel=cancel_of(cancel),
        deferred_failure=deferred,
        history=tuple(AttemptRecord(e["n"], e["w"], e["s"], e["e"], e["o"], e.get("err")) for e in entries),
    )


def _stacks_kept(opts: str) -> int:
    """How many stack traces a job keeps; BullMQ's producers may say so."""
    if '"stackTraceLimit"' not in opts:
        return MOST_STACKS
    try:
        limit = codec.decode(opts).get("stackTraceLimit")
    except (ValueError, AttributeError):
        return MOST_STACKS
    return limit if isinstance(limit, int) and 0 <= limit <= MOST_STACKS else MOST_STACKS


def _last(entries: list[str], number: int) -> tuple[str, ...]:
    return tuple(entries[len(entries) - min(number, len(entries)) :])


def event_of(row: tuple[Any, ...], queue: str) -> Event:
    """A row (id, kind, job, at, prev, data) of the event log as an event."""
    id_, kind, job, at, prev, data = row
    content: dict[str, Any] = {} if data is None else codec.decode(data)
    if prev is not None and kind in (WAITING, PRIORITIZED, REMOVED):
        content["prev"] = STATES[prev].value
    return Event(str(id_), queue, KINDS[kind], job, at, content)
