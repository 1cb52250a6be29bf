"""`JobInspector`, the cold path: looking at jobs and queues, and what an operator does to them.

`now` is wall time in milliseconds. Methods that change many jobs are bounded by `limit` and answer what they did, so
that callers loop. Every method raises EngineUnavailable when the store is away.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from toril.jobs.limits import QueueLimits
from toril.jobs.model import Counts, Job
from toril.jobs.states import State
from toril.jobs.telling import Told


class JobPage(NamedTuple):
    """A page of jobs. `cursor` goes into the next call; None on the last page."""

    jobs: tuple[Job, ...]
    cursor: str | None


class LogPage(NamedTuple):
    """Log lines, oldest first, and how many the job has."""

    lines: tuple[str, ...]
    total: int


class QueueInfo(NamedTuple):
    """A queue at a glance."""

    name: str
    paused: bool
    counts: Counts


class Changed(StrEnum):
    """What became of one job of a bulk operation."""

    OK = "ok"
    MISSING = "missing"
    LOCKED = "locked"
    """A worker is running it."""
    REFUSED = "refused"
    """Its state does not allow the operation."""


class JobInspector(Protocol):
    """The cold path of an engine."""

    async def get(self, id: str, queue: str | None = None) -> Job | None:
        """One job, whole, or None. Without `queue` all queues are searched."""
        ...

    async def list(
        self,
        queue: str,
        states: Sequence[State],
        *,
        limit: int = 50,
        cursor: str | None = None,
        newest_first: bool = False,
        name: str | None = None,
        owner: str | None = None,
    ) -> JobPage:
        """Jobs of the given states, page by page: state after state as given; inside a state in the order of the line
        (next to run first), of the due time, or of finishing. `newest_first` turns the order inside each state round.
        A job that stays in its state is shown exactly once, whatever is added or removed meanwhile. Raises ConfigError
        for a cursor of another listing.
        """
        ...

    async def logs(self, queue: str, id: str, *, start: int = 0, limit: int = 1000) -> LogPage:
        """Log lines of a job from the `start`-th on; an empty page when there are none."""
        ...

    async def counts(self, queue: str) -> Counts:
        """How many jobs are in each state; all 0 for an unknown queue. Its cost does not grow with the jobs."""
        ...

    async def queues(self) -> tuple[QueueInfo, ...]:
        """Every known queue, by name."""
        ...

    async def pause(self, queue: str, *, now: int) -> None:
        """From now on `exchange` takes nothing from the queue. Running jobs go on. Pausing twice is once."""
        ...

    async def resume(self, queue: str, *, now: int) -> None:
        """End a pause, and wake workers."""
        ...

    async def is_paused(self, queue: str) -> bool:
        """True while the queue is paused."""
        ...

    async def limits(self, queue: str) -> QueueLimits:
        """The queue-wide limits; none for an unknown queue."""
        ...

    async def set_limits(self, queue: str, limits: QueueLimits, *, now: int, declared: bool = False) -> bool:
        """Set the queue-wide limits, and wake workers. Running jobs go on.

        With `declared` they are what an application says of its queue when it starts: nothing changes when the same was
        declared last, so that what an operator has set since then stays. Answers whether they were set.
        """
        ...

    async def told(self, queue: str) -> Told:
        """Which events of the queue are written to its log; all for an unknown queue."""
        ...

    async def set_told(self, queue: str, told: Told, *, now: int, declared: bool = False) -> bool:
        """Set which events are written from now on. `declared` means the same as for limits. Answers whether it was
        set.
        """
        ...

    async def retry(self, queue: str, ids: Sequence[str], *, now: int) -> tuple[Changed, ...]:
        """Put finished jobs back in line, with attempts and stalls counted from zero and result, error and times
        cleared; history, stack traces and logs stay. A cancellation and a deferred failure are forgotten. The jobs go
        behind those in line, in the given order, by their priority.
        """
        ...

    async def promote(self, queue: str, ids: Sequence[str], *, now: int) -> tuple[Changed, ...]:
        """Put delayed jobs in line now, behind those that are there, in the given order, by their priority."""
        ...

    async def remove(self, queue: str, ids: Sequence[str], *, now: int) -> tuple[Changed, ...]:
        """Delete jobs that no worker is running; an active job whose lock has run out is one of them."""
        ...

    async def drain(self, queue: str, *, delayed: bool, now: int, limit: int = 1000) -> int:
        """Delete jobs that are waiting or prioritized, and with `delayed` the delayed ones. Answers how many, at
        most `limit`.
        """
        ...

    async def clean(self, queue: str, state: State, *, before: int, now: int, limit: int = 1000) -> int:
        """Delete jobs of a state that finished (or, unfinished, were created) at or before `before` (ms), oldest first.

        Active jobs are deleted only when their lock has run out. Answers how many, at most `limit`.
        """
        ...

    async def obliterate(self, queue: str, *, force: bool, now: int, limit: int = 1000) -> bool:
        """Pause the queue and delete it with all that belongs to it, a part per call. True when nothing is left.

        Raises JobLocked when jobs are active, unless `force`; the queue stays paused then.
        """
        ...
