"""`JobStore`, the hot path: everything that happens to a job while it is added and run.

What changes jobs works on many per call. The methods may be called from any thread's event loop. `now` is the caller's
wall time in milliseconds; engines read no clock for decisions about jobs. Every method raises EngineUnavailable when
the store is away, and EngineClosed after close.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from toril.jobs.model import CancelRequest, NewJob, TakenJob
from toril.jobs.options import Keep
from toril.jobs.outcome import Outcome
from toril.kernel import codec

BATCH_MEMORY_MS = 10 * 60_000
"""How long a store remembers a batch, unless it is told to remember it for longer."""
LONG_MEMORY_MS = 24 * 3_600_000
"""How long it remembers the batches of those who may be away for long before they ask again: spool and outbox."""


class Added(NamedTuple):
    """The answer to `add`. `ids[i]` is the job that stands for the i-th given one; `created[i]` is false when it
    existed: under that id, or as the one that has the unique key.
    """

    ids: tuple[str, ...]
    created: tuple[bool, ...]

    def remembered(self, given: Sequence[str]) -> str:
        """The answer as short text: 1 for a job that was made, 0 for one that was there under its own id, d for one
        that another stands for; then the ids of those others as a JSON array, if there are any.
        """
        if self.ids == tuple(given):
            return "".join("1" if made else "0" for made in self.created)
        pairs = list(zip(self.ids, given, strict=True))
        flags = (
            "1" if made else "0" if id_ == own else "d" for made, (id_, own) in zip(self.created, pairs, strict=True)
        )
        return "".join(flags) + codec.encode([id_ for id_, own in pairs if id_ != own])

    @classmethod
    def recalled(cls, given: Sequence[str], text: str) -> Added:
        """The other way round."""
        flags, bracket, rest = text.partition("[")
        others = iter(codec.decode(bracket + rest)) if bracket else iter(())
        ids = tuple(next(others) if flag == "d" else id_ for id_, flag in zip(given, flags, strict=True))
        return cls(ids, tuple(flag == "1" for flag in flags))


class Finish(NamedTuple):
    """One run's end, as handed in. `keep` says how long jobs that end this way are kept, None leaves it to `prune`.

    `started` and `ended` are wall times in milliseconds; `token` is the one the job was taken with.
    """

    id: str
    token: str
    outcome: Outcome
    started: int
    ended: int
    keep: Keep | None = None


class Code(StrEnum):
    """What became of one `Finish`. Only OK changed anything."""

    OK = "OK"
    MISSING = "MISSING"
    """No such job."""
    LOCK_LOST = "LOCK_LOST"
    """The lock is gone, has run out, or belongs to another token."""
    NOT_ACTIVE = "NOT_ACTIVE"
    """The job is locked by this token but not active."""
    PENDING_CHILDREN = "PENDING_CHILDREN"
    """The job cannot be completed: children of it have not ended."""
    FAILED_CHILDREN = "FAILED_CHILDREN"
    """The job cannot be completed or parked: a child has failed whose failure is its own."""
    BROKEN = "BROKEN"
    """The job's stored fields, or the handed-in values, cannot be used (text with a lone surrogate, say)."""


class Requested(NamedTuple):
    """A cancellation that somebody asked for of an active job."""

    id: str
    token: str
    request: CancelRequest


class Exchanged(NamedTuple):
    """The answer to `exchange`.

    `applied[i]` belongs to `finished[i]`. `jobs` are taken and locked with the given token, in the order in which they
    are to start. `next_due_ms` is the wall time at which the queue's next delayed job is due, None without one.
    `cancelled` are this worker's active jobs of the queue whose cancellation was requested, in every answer until they
    have ended. `limited_ms` is how long nothing more of the queue may start, whatever ends: its rate is used up, or a
    handler has stopped it. `full` says that jobs are in line which its queue-wide concurrency holds back until others
    end.
    """

    applied: tuple[Code, ...]
    jobs: tuple[TakenJob, ...]
    next_due_ms: int | None
    cancelled: tuple[Requested, ...]
    limited_ms: int = 0
    full: bool = False


class Lock(NamedTuple):
    """The right to finish a job: its queue, its id and the token that proves the right."""

    queue: str
    id: str
    token: str


class Renewed(NamedTuple):
    """The answer to `renew`: locks that are lost, and cancellations requested of the jobs whose lock was renewed."""

    lost: tuple[Lock, ...]
    cancelled: tuple[Requested, ...]


class Recovered(NamedTuple):
    """The answer to `recover`: jobs put back in line, and those of them which stalled too often and will fail."""

    requeued: tuple[str, ...]
    condemned: tuple[str, ...]


class Outlook(NamedTuple):
    """The answer to `look`: whether jobs are active, whether some could be taken now, and when the next delayed one is
    due (None when there is none, and when that was not asked).
    """

    active: bool
    in_line: bool
    next_due_ms: int | None


class CancelAnswer(StrEnum):
    """What `cancel` did."""

    CANCELLED = "cancelled"
    """The job is failed now, or marked so that it can only fail; it will not run."""
    REQUESTED = "requested"
    """The job is active: its worker has been told."""
    FOREIGN = "foreign"
    """The job is active on a worker that is not Toril's, which nobody can tell: nothing was changed."""
    FINISHED = "finished"
    """The job has already finished."""
    MISSING = "missing"
    """No such job."""


class Progress(NamedTuple):
    """A report of progress from a running job. `value` is JSON text, `at` wall time in milliseconds."""

    id: str
    token: str
    value: str
    at: int


class LogLine(NamedTuple):
    """A line for a job's log. `at` is wall time in milliseconds. `keep` is the most lines a job keeps, oldest go
    first.
    """

    id: str
    token: str
    line: str
    at: int
    keep: int = 1000


class JobStore(Protocol):
    """The hot path of an engine."""

    async def add(
        self, queue: str, jobs: Sequence[NewJob], *, batch: str, now: int, remember_ms: int = BATCH_MEMORY_MS
    ) -> Added:
        """Store jobs, all or none, in the given order: `delay_ms` > 0 in `delayed`, else `priority` > 0 in
        `prioritized`, else `waiting`.

        A job whose id is stored already in this queue is left as it is, and answered with `created` false. A repeated
        `batch` answers the same and adds nothing, for at least `remember_ms` after the first time, also when the jobs
        have been run and pruned meanwhile; `remember_ms` is BATCH_MEMORY_MS or LONG_MEMORY_MS, and the repetition asks
        for no less than the first time. `lifo` jobs go to the front of the line; with a priority or a delay `lifo`
        means nothing.

        A job whose `unique` key another has is not stored: the other's id is answered. With `replace` it takes the
        place of a delayed one; with `keep_last` the last such job is remembered while the other is active, and added
        when that ends. A key is free when its window is over; without a window when its job has ended. The key of a job
        that was deleted is free, unless retention deleted it within its window.

        Raises ValueError for text that cannot be stored (a lone surrogate).
        """
        ...

    async def exchange(
        self,
        queue: str,
        *,
        worker: str,
        seq: int,
        token: str,
        finished: Sequence[Finish],
        want: int,
        lock_ms: int,
        now: int,
    ) -> Exchanged:
        """Hand in ended runs and take up to `want` jobs, in one transaction.

        In order: each `Finish` is checked and applied by itself; delayed jobs that are due are put in line (1,000 at
        most); unless the queue is paused, jobs are taken: waiting ones first-in first-out, then prioritized ones by
        number, and locked with `token` for `lock_ms`. A job that comes back in line (due, retried, snoozed) goes behind
        those that are there, by its priority, unless it is retried without a delay and its stored options say `lifo`:
        then it goes to the front; released ones go to the very front, in the given order. A run whose
        cancellation was requested does not lead back in line: Retry, Snooze, Released, Parked
        and Limited then end as Cancelled.

        The queue's limits (`JobInspector.set_limits`) hold over all workers and exactly: never more active jobs than
        its concurrency, never more started in a window than its rate; a window begins with the first job that starts in
        it, and jobs that can only fail do not count. Limited puts its job in front, and nothing of the queue is taken
        for `delay_ms`; of several the longest counts.

        `seq` counts up per `worker` and queue: a repeated `seq` answers as the first time and changes nothing, for at
        least two lock times; jobs of the first answer that the worker has lost meanwhile are left out.
        """
        ...

    async def renew(self, locks: Sequence[Lock], *, lock_ms: int, now: int) -> Renewed:
        """Prolong locks to `now + lock_ms`. A lock that has run out (recovered already or not), that is held by another
        token, or whose job is not active any more, is lost.
        """
        ...

    async def recover(self, queue: str, *, max_stalls: int, now: int, limit: int = 1000) -> Recovered:
        """Put active jobs whose lock has run out back at the front of the line, and count a stall for each.

        A job that stalled more than `max_stalls` times, or whose cancellation was requested, is put back with a
        deferred failure, so that the next worker fails it. Several keep the order in which their locks ran out.
        """
        ...

    async def look(self, queue: str, *, due: bool = True) -> Outlook:
        """What there is to do in a queue. Costs next to nothing when that is nothing. Jobs of a paused queue, or of one
        whose concurrency is used up, are not in line; its rate is not looked at.
        """
        ...

    async def prune(
        self, queue: str, *, completed: Keep | None, failed: Keep | None, events: int, now: int, limit: int = 1000
    ) -> int:
        """Delete finished jobs of Toril's own that are past their bounds, oldest first, at most `limit` of each state,
        and all but about the newest `events` events. Answers how many jobs were deleted."""
        ...

    async def cancel(self, queue: str, id: str, *, by: str, reason: str, now: int) -> CancelAnswer:
        """Cancel a job. One that is not active fails with the reason `cancelled[: reason]` and will not run, and no
        attempt is counted.
        """
        ...

    async def report(self, queue: str, progress: Sequence[Progress], lines: Sequence[LogLine]) -> None:
        """Store progress and log lines of running jobs, in order. What comes with a token that does not hold the job is
        dropped."""
        ...

    async def attend(self, worker: str, queues: Sequence[str]) -> None:
        """Say that a worker serves these queues, to whoever counts workers by other means than Toril's presence
        entries. Lasts until `leave`, or the end of the process. Attending twice is once.

        Called in the event loop that will wait for work. Waits for nothing: a store that is away is told when it is
        back.
        """
        ...

    async def leave(self, worker: str) -> None:
        """Take back what `attend` said, in the same event loop. A worker that never attended may leave."""
        ...

    async def wait_for_work(self, queues: Sequence[str], *, timeout: float) -> frozenset[str]:
        """Wait until some of `queues` may have work, or `timeout` seconds have passed. Answers which may; may wake for
        nothing.

        Work added (delayed work too: the next due time may be nearer now), retried, released, recovered or promoted, a
        resumed queue, and a requested cancellation wake waiters, in this process and in others. A change between
        the last `exchange` of a queue and this call is not missed.
        """
        ...
