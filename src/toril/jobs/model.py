"""Jobs as data. All times are milliseconds since 1970-01-01 UTC unless the name says otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from toril.jobs.states import State
from toril.jobs.unique import UniqueKey


class NewJob(NamedTuple):
    """A job on its way into an engine. `data` and `opts` are JSON text; `delay_ms` counts from the moment of adding;
    `unique` is the key that it wants to be the only job of.
    """

    id: str
    name: str
    data: str
    opts: str
    timestamp: int
    delay_ms: int = 0
    priority: int = 0
    lifo: bool = False
    unique: UniqueKey | None = None


class TakenJob(NamedTuple):
    """A job as a worker gets it.

    `attempts_made` are the finished attempts, `starts` the times started, this start included, `stalls` the times that
    its worker vanished. `deferred_failure` is a reason with which the worker must fail the job without running it.
    `schedule` is the id of the schedule that planned the job.
    """

    id: str
    name: str
    data: str
    opts: str
    timestamp: int
    attempts_made: int
    starts: int
    stalls: int
    deferred_failure: str | None
    schedule: str | None = None


class CancelRequest(NamedTuple):
    """Who asked for a cancellation, why and when."""

    by: str
    reason: str
    at: int


class AttemptRecord(NamedTuple):
    """One run of a job, as kept in its history. `outcome` is a `Cause`, `error` the reason of a run that did not
    succeed.
    """

    number: int
    worker: str
    started: int
    ended: int
    outcome: str
    error: str | None


class Counts(NamedTuple):
    """How many jobs of a queue are in each state."""

    waiting: int = 0
    prioritized: int = 0
    delayed: int = 0
    waiting_children: int = 0
    active: int = 0
    completed: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """All jobs of the queue."""
        return sum(self)

    def of(self, state: State) -> int:
        """The count of one state."""
        value: int = getattr(self, state.value.replace("-", "_"))
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One stored piece of work, as inspection shows it.

    `data`, `opts` and `result` are JSON text. `progress` is a number or `{"progress": number, "message": text}`.
    `due` is set while the job is delayed. `worker` is the worker of the last start. `spooled` jobs are not in the store
    yet: it is away, and they wait for it in a local file.
    """

    id: str
    queue: str
    name: str
    data: str
    opts: str
    state: State
    timestamp: int
    priority: int = 0
    due: int | None = None
    processed: int | None = None
    finished: int | None = None
    attempts_made: int = 0
    starts: int = 0
    stalls: int = 0
    progress: Any = 0
    result: str | None = None
    failed_reason: str | None = None
    stacktrace: tuple[str, ...] = ()
    worker: str | None = None
    cancel: CancelRequest | None = None
    deferred_failure: str | None = None
    history: tuple[AttemptRecord, ...] = field(default=())
    spooled: bool = False

    @property
    def cancelled(self) -> bool:
        """True when the job was cancelled: it failed for that, or is marked so that it can only fail for that."""
        return self.cancel is not None and (self.state is State.FAILED or self.deferred_failure is not None)

    @property
    def updated(self) -> int:
        """When the job last started or finished, else when it was created."""
        return self.finished or self.processed or self.timestamp

    @property
    def progress_number(self) -> float:
        """The progress as a number, 0 when none was reported."""
        value = self.progress.get("progress", 0) if isinstance(self.progress, dict) else self.progress
        return value if isinstance(value, int | float) and not isinstance(value, bool) else 0

    @property
    def progress_message(self) -> str:
        """The message of the last progress, or an empty text."""
        return str(self.progress.get("message") or "") if isinstance(self.progress, dict) else ""
