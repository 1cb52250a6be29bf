"""Turning ended runs into rows: which outcome leads where. Pure functions; `jobs.py` reads before and writes after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from toril.engine.ports.jobs import Code, Finish
from toril.engine.sqlite.rows import (
    ACTIVE,
    COMPLETED,
    DELAYED,
    FAILED,
    WAITING,
    WAITING_CHILDREN,
    cancel_entry,
    cancel_of,
    history_entry,
    line_place,
    line_state,
    sayable,
)
from toril.jobs import outcome as out
from toril.jobs.model import AttemptRecord, CancelRequest
from toril.jobs.options import Keep
from toril.jobs.states import Cause
from toril.kernel import codec

ENDS = (out.Done, out.Failed, out.Cancelled)
_COUNTED = frozenset({Cause.DONE, Cause.RETRY, Cause.FAILED})
NOTHING_BLOCKED: Mapping[int, Code] = {}


class Stored(NamedTuple):
    """What the database holds of a job that is to be finished."""

    id: str
    seq: int
    state: int
    place: int
    token: str | None
    priority: int
    attempts: int
    starts: int
    cancel: str | None
    unique_key: str | None
    lifo: bool
    kin: int


class Plan(NamedTuple):
    """What to write: `rows` for the statement `finish`; `back` and `front` count the places in line that they need.

    `kept` are the retentions to apply, by state; `gone` are jobs that are not kept at all; `stop_ms` is how long
    nothing of the queue may start, because handlers said so.
    """

    codes: tuple[Code, ...]
    endings: tuple[tuple[Stored, Finish], ...]
    kept: dict[int, Keep]
    gone: tuple[int, ...]
    stop_ms: int


def plan(
    finished: Sequence[Finish], stored: Iterable[Sequence[Any]], now: int, blocked: Mapping[int, Code] = NOTHING_BLOCKED
) -> Plan:
    """Check every ended run by itself, before anything is written. `blocked` says which jobs cannot be completed."""
    by_id = {row[0]: Stored(*row) for row in stored}
    codes: list[Code] = []
    endings: list[tuple[Stored, Finish]] = []
    kept: dict[int, Keep] = {}
    gone: list[int] = []
    used: set[str] = set()
    stop_ms = 0
    for finish in finished:
        job = by_id.get(finish.id)
        # The lock is used up by the first of several outcomes of one run.
        code = Code.LOCK_LOST if finish.id in used else _check(job, finish, now, blocked)
        codes.append(code)
        if job is None or code is not Code.OK:
            continue
        used.add(finish.id)
        if isinstance(finish.outcome, out.Limited):
            stop_ms = max(stop_ms, finish.outcome.delay_ms)
        if job.cancel is not None:
            finish = _with_pending_cancel(job, finish)
        if isinstance(finish.outcome, out.Parked) and job.seq not in blocked:
            finish = finish._replace(outcome=out.Released())
        endings.append((job, finish))
        if finish.keep is not None and isinstance(finish.outcome, ENDS):
            if finish.keep.count == 0:
                gone.append(job.seq)
            else:
                kept[COMPLETED if isinstance(finish.outcome, out.Done) else FAILED] = finish.keep
    return Plan(tuple(codes), tuple(endings), kept, tuple(gone), stop_ms)


def _check(job: Stored | None, finish: Finish, now: int, blocked: Mapping[int, Code]) -> Code:
    if job is None:
        return Code.MISSING
    refused = blocked.get(job.seq) if blocked else None
    if refused is not None and (
        isinstance(finish.outcome, out.Done)
        or (isinstance(finish.outcome, out.Parked) and refused is Code.FAILED_CHILDREN)
    ):
        return refused
    if job.token != finish.token or (job.state == ACTIVE and job.place <= now):
        return Code.LOCK_LOST
    if job.state != ACTIVE:
        return Code.NOT_ACTIVE
    if isinstance(finish.outcome, out.Done):
        try:
            codec.decode(finish.outcome.result)
        except (ValueError, TypeError):
            return Code.BROKEN
    return Code.OK


def _with_pending_cancel(job: Stored, finish: Finish) -> Finish:
    """A job whose cancellation was requested does not go back in line, whatever its worker made of it."""
    request = cancel_of(job.cancel)
    if request is None or not isinstance(
        finish.outcome, out.Retry | out.Snooze | out.Released | out.Parked | out.Limited
    ):
        return finish
    return finish._replace(outcome=out.Cancelled(request.reason, request.by))


def places_needed(endings: Sequence[tuple[Stored, Finish]]) -> tuple[int, int]:
    """How many places at the back and at the front of the line the outcomes need."""
    back = front = 0
    for job, finish in endings:
        if isinstance(finish.outcome, out.Released | out.Limited) or _goes_ahead(job, finish):
            front += 1
        elif isinstance(finish.outcome, out.Retry | out.Snooze) and finish.outcome.delay_ms <= 0:
            back += 1
    return back, front


def _goes_ahead(job: Stored, finish: Finish) -> bool:
    """Last in, first out: a job that is retried at once is the last one in."""
    outcome = finish.outcome
    return bool(job.lifo) and isinstance(outcome, out.Retry) and outcome.delay_ms <= 0 and not job.priority


def rows(
    endings: Sequence[tuple[Stored, Finish]], *, worker: str, now: int, back: int, front: int
) -> list[tuple[Any, ...]]:
    """Parameters for the statement `finish`. `back` and `front` are the first free places at either end of the line."""
    result = []
    # Released jobs stand foremost, then those that are last in, the last one first.
    ahead = front + places_needed(endings)[1] - 1
    for job, finish in endings:
        outcome = finish.outcome
        state, place = WAITING, 0
        ended: int | None = None
        answer: str | None = None
        reason: str | None = None
        cancel: str | None = None
        if isinstance(outcome, out.Done):
            state, place, ended, answer = COMPLETED, finish.ended, finish.ended, outcome.result
        elif isinstance(outcome, out.Failed):
            state, place, ended, reason = FAILED, finish.ended, finish.ended, sayable(outcome.reason)
        elif isinstance(outcome, out.Cancelled):
            state, place, ended = FAILED, finish.ended, finish.ended
            reason = sayable(out.failed_reason(outcome.reason))
            cancel = cancel_entry(CancelRequest(sayable(outcome.by), sayable(outcome.reason), now))
        elif isinstance(outcome, out.Released):
            place, front = front, front + 1
        elif isinstance(outcome, out.Parked):
            state, place = WAITING_CHILDREN, now
        elif isinstance(outcome, out.Limited):
            state, place, front = line_state(job.priority), line_place(job.priority, front), front + 1
        else:
            reason = sayable(outcome.reason) if isinstance(outcome, out.Retry) else None
            if outcome.delay_ms > 0:
                state, place = DELAYED, now + outcome.delay_ms
            elif _goes_ahead(job, finish):
                place, ahead = ahead, ahead - 1
            else:
                state, place, back = line_state(job.priority), line_place(job.priority, back), back + 1
        counted = 1 if outcome.cause in _COUNTED else 0
        stack = sayable(outcome.stack) if isinstance(outcome, out.Retry | out.Failed) else ""
        record = AttemptRecord(job.starts, worker, finish.started, finish.ended, outcome.cause, reason)
        kept_cancel = job.cancel if job.cancel is not None else cancel
        result.append(
            (job.seq, state, place, now, ended, counted, answer, reason, kept_cancel, history_entry(record, stack))
        )
    return result
