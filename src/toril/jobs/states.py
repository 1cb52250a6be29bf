"""The states of a job and the one table of transitions.

The names are BullMQ's. A cancelled job is `failed` with the reason `cancelled`.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a job is."""

    WAITING = "waiting"
    PRIORITIZED = "prioritized"
    DELAYED = "delayed"
    WAITING_CHILDREN = "waiting-children"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def finished(self) -> bool:
        """True for `completed` and `failed`."""
        return self is State.COMPLETED or self is State.FAILED


class Cause(StrEnum):
    """Why a job changes its state. The first eight are the outcomes of a run, the others are done to a job from
    outside.
    """

    DONE = "done"
    RETRY = "retry"
    FAILED = "failed"
    SNOOZE = "snooze"
    CANCELLED = "cancelled"
    RELEASED = "released"
    PARKED = "parked"
    LIMITED = "limited"
    TAKE = "take"
    DUE = "due"
    PROMOTE = "promote"
    STALL = "stall"
    CANCEL = "cancel"
    REPLAY = "replay"
    CHILDREN = "children"


_LINE = frozenset({State.WAITING, State.PRIORITIZED})
_AGAIN = _LINE | {State.DELAYED}

TRANSITIONS: dict[tuple[State, Cause], frozenset[State]] = {
    (State.WAITING, Cause.TAKE): frozenset({State.ACTIVE}),
    (State.PRIORITIZED, Cause.TAKE): frozenset({State.ACTIVE}),
    (State.DELAYED, Cause.DUE): _LINE,
    (State.DELAYED, Cause.PROMOTE): _LINE,
    (State.ACTIVE, Cause.DONE): frozenset({State.COMPLETED}),
    (State.ACTIVE, Cause.RETRY): _AGAIN,
    (State.ACTIVE, Cause.FAILED): frozenset({State.FAILED}),
    (State.ACTIVE, Cause.SNOOZE): _AGAIN,
    (State.ACTIVE, Cause.CANCELLED): frozenset({State.FAILED}),
    (State.ACTIVE, Cause.RELEASED): frozenset({State.WAITING}),
    # When its children have ended meanwhile there is nothing to wait for.
    (State.ACTIVE, Cause.PARKED): frozenset({State.WAITING_CHILDREN, State.WAITING}),
    # The last child has ended; or one failed in a way that the parent does not wait for the others, nor for its delay.
    (State.WAITING_CHILDREN, Cause.CHILDREN): _AGAIN,
    (State.DELAYED, Cause.CHILDREN): _LINE,
    (State.ACTIVE, Cause.LIMITED): _LINE,
    # A job that stalled goes to the front of the line, priority or not: it has waited its turn already.
    (State.ACTIVE, Cause.STALL): frozenset({State.WAITING}),
    # An engine that cannot take a job out of the line at once marks it, and the next worker fails it.
    (State.WAITING, Cause.CANCEL): frozenset({State.FAILED, State.WAITING}),
    (State.PRIORITIZED, Cause.CANCEL): frozenset({State.FAILED}),
    (State.DELAYED, Cause.CANCEL): frozenset({State.FAILED}),
    (State.WAITING_CHILDREN, Cause.CANCEL): frozenset({State.FAILED}),
    (State.ACTIVE, Cause.CANCEL): frozenset({State.ACTIVE}),
    (State.COMPLETED, Cause.REPLAY): _LINE,
    (State.FAILED, Cause.REPLAY): _LINE,
}


def allowed(state: State, cause: Cause) -> frozenset[State]:
    """The states that `cause` may lead to from `state`; empty when it is refused."""
    return TRANSITIONS.get((state, cause), frozenset())


def render() -> str:
    """The table as Markdown, for the documentation."""
    rows = ["| from | cause | to |", "|---|---|---|"]
    for (state, cause), targets in TRANSITIONS.items():
        to = ", ".join(f"`{target}`" for target in State if target in targets)
        rows.append(f"| `{state}` | {cause} | {to} |")
    return "\n".join(rows)
