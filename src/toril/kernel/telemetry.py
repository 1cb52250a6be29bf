"""What happens inside, for logs, metrics and traces: one seam, and this page is its catalogue.

Events are named tuples. Times called `duration_s` are seconds. A handler is called in the thread where the event
happens and must be quick; what it raises is logged and goes no further.

    engine     PortCalled           one call of an engine's port has ended
               EngineLost           a loop cannot reach the store and keeps trying
               EngineBack           the same loop reached it again
    service    LoopFailed           a supervised loop raised and is started again, or has used up its restarts
    worker     WorkerStarted        it takes jobs from now on
               WorkerStopped        it has stopped, and how many jobs it handed back
               JobStarted           hot: an attempt begins
               JobDone              hot: an attempt succeeded
               JobNotDone           an attempt ended in another way: retry, failed, snooze, cancelled, released
               JobLockLost          the worker's right to finish a job ran out; its result is not stored
               JobRefused           the engine did not accept the end of a run for another reason
               HandlerStuck         a handler goes on after it was told to stop; its slot stays taken until it ends
               LoopBlocked          a handler blocks the event loop (its jobs keep their locks)
               ReportsDropped       progress or log lines could not be stored
               JobsRecovered        jobs of a vanished worker are back in line
               JobsPruned           finished jobs were deleted by retention
    schedules  ScheduleHealed       a schedule had lost its planned run, and goes on
               ScheduleBroken       a schedule cannot be read, or planned, and stops
    processes  ProcessStarted       a worker process of a supervisor, or of a pool, was started
               ProcessEnded         it ended, expected or not
               ProcessReplaced      another one has taken its place, and it is asked to stop
               ReplacementFailed    another one should have taken its place and did not get ready: it goes on
               RollEnded            a rolling restart is over
               SourcesChanged       code has changed on disk, and a rolling restart begins
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

_log = logging.getLogger("toril.telemetry")


class PortCalled(NamedTuple):
    """`port` is `jobs`, `inspect`, `keyvalue`, `bus`, `schedules` or `engine`; `error` the code of what was raised, or
    None.
    """

    port: str
    method: str
    duration_s: float
    error: str | None


class EngineLost(NamedTuple):
    """`loop` names who noticed, `reason` is for people."""

    worker: str
    loop: str
    reason: str


class EngineBack(NamedTuple):
    """`away_s` is how long the loop tried."""

    worker: str
    loop: str
    away_s: float


class LoopFailed(NamedTuple):
    """`restart_s` is the wait until the loop is started again, None when its budget is used up: then its service counts
    as failed, and tries again now and then until it is stopped.
    """

    service: str
    loop: str
    error: BaseException
    restart_s: float | None


class WorkerStarted(NamedTuple):
    """`queues` in the order in which they were given."""

    worker: str
    queues: tuple[str, ...]
    concurrency: int


class WorkerStopped(NamedTuple):
    """`released` are the jobs that were handed back unfinished."""

    worker: str
    released: int


class JobStarted(NamedTuple):
    """`attempt` counts from 1."""

    worker: str
    queue: str
    job_id: str
    name: str
    attempt: int


class JobDone(NamedTuple):
    """The attempt succeeded."""

    worker: str
    queue: str
    job_id: str
    name: str
    attempt: int
    duration_s: float


class JobNotDone(NamedTuple):
    """`outcome` is the cause of what ended the run, other than done: retry, failed, snooze, …; `delay_s` the wait that
    it asks for.
    """

    worker: str
    queue: str
    job_id: str
    name: str
    attempt: int
    duration_s: float
    outcome: str
    reason: str
    stack: str
    delay_s: float


class JobLockLost(NamedTuple):
    """`running` says whether the handler was still at work and is being cancelled."""

    worker: str
    queue: str
    job_id: str
    name: str
    running: bool


class JobRefused(NamedTuple):
    """`code` is the engine's answer to the end of a run."""

    worker: str
    queue: str
    job_id: str
    name: str
    code: str


class HandlerStuck(NamedTuple):
    """`cause` is timeout, cancel, shutdown or lock_lost; `pool` is loop, thread or process."""

    worker: str
    queue: str
    job_id: str
    name: str
    pool: str
    cause: str


class LoopBlocked(NamedTuple):
    """`job_id` and `name` are empty when no job could be made out."""

    worker: str
    queue: str
    job_id: str
    name: str
    duration_s: float
    stack: str


class ReportsDropped(NamedTuple):
    """How many reports of progress and log lines were lost, and why."""

    queue: str
    number: int
    reason: str


class JobsRecovered(NamedTuple):
    """`condemned` of them stalled too often and will fail."""

    queue: str
    requeued: int
    condemned: int


class JobsPruned(NamedTuple):
    """How many finished jobs were deleted."""

    queue: str
    number: int


class ScheduleHealed(NamedTuple):
    """`lost` is when the run that was planned was due, `due` when the next one is; both in ms."""

    queue: str
    schedule: str
    lost: int
    due: int


class ScheduleBroken(NamedTuple):
    """Why it stops."""

    queue: str
    schedule: str
    reason: str


class ProcessStarted(NamedTuple):
    """`role` is `worker` or `pool`."""

    role: str
    pid: int


class ProcessEnded(NamedTuple):
    """`restart_s` is the wait until its successor starts, None when there will be none."""

    role: str
    pid: int
    code: int | None
    restart_s: float | None


class ProcessReplaced(NamedTuple):
    """`reason` is for people: why the process was replaced."""

    pid: int
    successor: int
    reason: str


class ReplacementFailed(NamedTuple):
    """`code` is what the process that was to be the successor ended with."""

    pid: int
    successor: int
    code: int | None
    reason: str


class RollEnded(NamedTuple):
    """`replaced` processes are new ones; `kept` are old ones that go on, because a successor did not get ready."""

    replaced: int
    kept: int


class SourcesChanged(NamedTuple):
    """Names of files."""

    files: tuple[str, ...]


Handler = Callable[[Any], None]


class Telemetry:
    """The seam. Safe to share between threads; costs one dictionary look-up per event without subscribers."""

    def __init__(self) -> None:
        self._handlers: dict[type[Any], tuple[Handler, ...]] = {}
        self._lock = threading.Lock()

    def subscribe(self, handler: Handler, *kinds: type[Any]) -> Callable[[], None]:
        """Call `handler` with every event of the given classes. Answers a function that ends the subscription."""

        def unsubscribe() -> None:
            self._change(kinds, lambda present: tuple(h for h in present if h is not handler))

        self._change(kinds, lambda present: (*present, handler))
        return unsubscribe

    def wants(self, kind: type[Any]) -> bool:
        """True when somebody subscribes to `kind`: hot paths ask before they build an event."""
        return kind in self._handlers

    def emit(self, event: Any) -> None:
        """Hand `event` to its subscribers."""
        for handler in self._handlers.get(type(event), ()):
            try:
                handler(event)
            except Exception:  # noqa: BLE001 - a broken subscriber must not stop what it watches
                _log.exception("A telemetry handler failed on %s.", type(event).__name__)

    def _change(self, kinds: tuple[type[Any], ...], edit: Callable[[tuple[Handler, ...]], tuple[Handler, ...]]) -> None:
        # The table is replaced, never changed: readers take no lock.
        with self._lock:
            table = dict(self._handlers)
            for kind in kinds:
                table[kind] = edit(table.get(kind, ()))
            self._handlers = {kind: handlers for kind, handlers in table.items() if handlers}
