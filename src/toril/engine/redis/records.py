"""A job's hash and records of ours, in both directions. What another producer wrote is read leniently, field by field:
an odd value counts as not given, and never makes a job invisible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from toril.engine.ports.bus import Event
from toril.jobs.model import AttemptRecord, CancelRequest, Job
from toril.jobs.states import State
from toril.kernel import codec

MOST_STACKS = 10
HISTORY = "toril:h"
CANCEL = "toril:cancel"

# Keys of the layout that hold jobs, and the state that a reader sees.
_PLACES = {"wait": State.WAITING, "paused": State.WAITING} | {state.value: state for state in State}
_SCORE_STEP = 4096
_PLAIN = frozenset({"active", "completed", "stalled", "paused", "resumed", "waiting-children"})


def cancel_entry(request: CancelRequest) -> str:
    """A cancellation request as the JSON of the field `toril:cancel`."""
    return codec.encode(request._asdict())


def cancel_of(text: str | None) -> CancelRequest | None:
    """The other way round; None for what is no request."""
    value = _decoded(text)
    if not isinstance(value, dict):
        return None
    return CancelRequest(str(value.get("by", "")), str(value.get("reason", "")), whole(value.get("at")) or 0)


def history_entry(record: AttemptRecord) -> str:
    """One run as JSON. Its number is not in it: the field that it lies in, `toril:h<number>`, carries it."""
    _, worker, started, ended, outcome, error = record
    if error is None and worker.isalnum():
        # The common case, written out: this runs for every job.
        return f'{{"w":"{worker}","s":{started},"e":{ended},"o":"{outcome}"}}'
    entry: dict[str, Any] = {"w": worker, "s": started, "e": ended, "o": str(outcome)}
    if error is not None:
        entry["err"] = error
    return codec.encode(entry)


def job_of(id: str, queue: str, place: str, score: str, flat: Sequence[bytes]) -> Job:
    """A job from where it was found and its hash, a flat list of fields and values."""
    fields = {text(flat[at]): text(flat[at + 1]) for at in range(0, len(flat), 2)}
    state = _PLACES.get(place, State.WAITING)
    due = whole(score)
    return Job(
        id=id,
        queue=queue,
        name=fields.get("name", ""),
        data=fields.get("data", "{}"),
        opts=fields.get("opts", "{}"),
        state=state,
        timestamp=whole(fields.get("timestamp")) or 0,
        priority=whole(fields.get("priority")) or 0,
        due=due // _SCORE_STEP if state is State.DELAYED and due is not None else None,
        processed=whole(fields.get("processedOn")),
        finished=whole(fields.get("finishedOn")) if state.finished else None,
        attempts_made=whole(fields.get("atm", fields.get("attemptsMade"))) or 0,
        starts=whole(fields.get("ats")) or 0,
        stalls=whole(fields.get("stc")) or 0,
        progress=_progress(fields.get("progress")),
        result=_result(fields.get("returnvalue")) if state is State.COMPLETED else None,
        failed_reason=fields.get("failedReason"),
        stacktrace=_stacks(fields.get("stacktrace")),
        worker=fields.get("pb"),
        cancel=cancel_of(fields.get(CANCEL)),
        deferred_failure=fields.get("defa"),
        history=_history(fields),
    )


def event_of(id: str, queue: str, fields: Mapping[str, str]) -> Event | None:
    """An entry of the stream `events`; None for a kind that readers of the port do not know."""
    kind = fields.get("event", "")
    data: dict[str, Any] = {}
    if kind == "waiting" or kind == "removed":
        prev = _PLACES.get(fields.get("prev", ""))
        data = {} if prev is None else {"prev": prev.value}
    elif kind == "delayed":
        due = whole(fields.get("delay"))
        data = {} if due is None else {"due": due}
    elif kind == "failed":
        data = {"reason": fields.get("failedReason", "")}
    elif kind == "progress":
        data = {"value": _decoded(fields.get("data"))}
    elif kind == "log":
        data = {"line": fields.get("line", "")}
    elif kind not in _PLAIN:
        return None
    return Event(id, queue, kind, fields.get("jobId", ""), int(id.partition("-")[0]), data)


def due_of(first: Sequence[Any]) -> int | None:
    """When the first job of the set `delayed` is due, from what ZRANGE answers WITHSCORES; None for an empty set."""
    if not first:
        return None
    # RESP3 answers pairs, RESP2 a flat list.
    score = first[0][1] if isinstance(first[0], list) else first[1]
    return int(float(score)) // _SCORE_STEP


def text(value: bytes) -> str:
    """Stored bytes as text; what is no UTF-8 is shown as such."""
    return value.decode("utf-8", "replace")


def whole(value: object) -> int | None:
    """A whole number out of a field of any making; None for what is none."""
    try:
        # Through a float only when it must be: scores have more digits than a float keeps.
        return int(value) if isinstance(value, str) and value.isdecimal() else int(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def _decoded(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return codec.decode(text)
    except ValueError:
        return None


def _progress(text: str | None) -> Any:
    value = _decoded(text)
    return 0 if value is None else value


def _result(text: str | None) -> str | None:
    """The stored result; what is no JSON becomes a JSON text of it, so that readers can go on."""
    if text is None:
        return None
    try:
        codec.decode(text)
    except ValueError:
        return codec.encode(text)
    return text


def _stacks(text: str | None) -> tuple[str, ...]:
    entries = _decoded(text)
    if not isinstance(entries, list):
        return ()
    return tuple(entry for entry in entries if isinstance(entry, str) and entry)[-MOST_STACKS:]


def _history(fields: Mapping[str, str]) -> tuple[AttemptRecord, ...]:
    records = []
    for name, value in fields.items():
        number = name.removeprefix(HISTORY)
        entry = _decoded(value) if name.startswith(HISTORY) and number.isdecimal() else None
        if isinstance(entry, dict):
            error = entry.get("err")
            records.append(
                AttemptRecord(
                    int(number),
                    str(entry.get("w", "")),
                    whole(entry.get("s")) or 0,
                    whole(entry.get("e")) or 0,
                    str(entry.get("o", "")),
                    error if isinstance(error, str) else None,
                )
            )
    return tuple(sorted(records))
