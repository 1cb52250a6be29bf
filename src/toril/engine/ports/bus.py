"""`Bus`: what happened to jobs, as a bounded log per queue that can be read again from any point.

The kinds, and what their `data` holds: `waiting` {prev?} · `delayed` {due: ms} · `waiting-children` {} · `active` {} ·
`completed` {} · `failed` {reason} · `stalled` {} · `progress` {value} · `log` {line} · `removed` {prev?} ·
`paused` {} · `resumed` {}.
`prev` is the state before; a job that was just added has none. A job that is put in line by its priority is `waiting`,
too. The `value` of progress is what its JSON says. A stalled job is `waiting` and `stalled`. `paused` and `resumed`
have an empty `job_id`.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol


class Event(NamedTuple):
    """One thing that happened. `id` grows along the log of a queue; `at` is wall time in milliseconds."""

    id: str
    queue: str
    kind: str
    job_id: str
    at: int
    data: dict[str, Any]


class EventPage(NamedTuple):
    """Events in order. `gap` is true when events after the given id have been pruned, so that some are missing
    before these.
    """

    events: tuple[Event, ...]
    gap: bool


class Bus(Protocol):
    """Reads the event log that the job ports write."""

    async def tail(self, queue: str) -> str:
        """The id of the newest event: `read(after=…)` it gives only what comes later. `"0"` for an empty log."""
        ...

    async def read(self, queue: str, *, after: str, limit: int = 1000) -> EventPage:
        """Events after an id, oldest first. Raises ConfigError for an id that is none of this engine's."""
        ...

    async def wait(self, queue: str, *, after: str, timeout: float) -> bool:
        """Wait until there is an event after the given id, or `timeout` seconds have passed. May wake for nothing."""
        ...
