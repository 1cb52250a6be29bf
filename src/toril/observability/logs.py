"""Log lines from telemetry events, under the loggers `toril.worker`, `toril.jobs` and `toril.engine`.

Every line carries its facts as attributes of the record too (`extra`), for structured logs. Jobs that succeed are
logged at DEBUG only, so that a busy worker is quiet; an attempt that failed is a WARNING, a job that failed an ERROR.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from toril.kernel import telemetry as events
from toril.kernel.durations import human
from toril.kernel.telemetry import Telemetry

_worker = logging.getLogger("toril.worker")
_jobs = logging.getLogger("toril.jobs")
_engine = logging.getLogger("toril.engine")

LINES_PER_SECOND = 20
"""How many lines about single jobs are written per second; what is left out is counted."""

_LEVELS = {
    "retry": logging.WARNING,
    "failed": logging.ERROR,
    "snooze": logging.DEBUG,
    "cancelled": logging.INFO,
    "released": logging.INFO,
}


class Logs:
    """Turns events into log lines. `attach` begins; what it answers ends it."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._second = 0
        self._written = 0
        self._left_out = 0
        self._writers: dict[type[Any], Callable[[Any], None]] = {
            events.EngineLost: self._engine_lost,
            events.EngineBack: self._engine_back,
            events.LoopFailed: self._loop_failed,
            events.WorkerStarted: self._worker_started,
            events.WorkerStopped: self._worker_stopped,
            events.JobNotDone: self._job_not_done,
            events.JobLockLost: self._lock_lost,
            events.JobRefused: self._refused,
            events.HandlerStuck: self._stuck,
            events.LoopBlocked: self._blocked,
            events.ReportsDropped: self._reports_dropped,
            events.JobsRecovered: self._recovered,
            events.ScheduleHealed: self._schedule_healed,
            events.ScheduleBroken: self._schedule_broken,
            events.ProcessEnded: self._process_ended,
            events.ProcessReplaced: self._process_replaced,
            events.ReplacementFailed: self._replacement_failed,
            events.RollEnded: self._roll_ended,
            events.SourcesChanged: self._sources_changed,
        }
        self._hot_writers: dict[type[Any], Callable[[Any], None]] = {
            events.JobStarted: self._job_started,
            events.JobDone: self._job_done,
        }
        self._leave: list[Callable[[], None]] = []
        self._telemetry: Telemetry | None = None

    def attach(self, telemetry: Telemetry) -> Callable[[], None]:
        """Write lines for what `telemetry` tells, until the answered function is called."""
        self._telemetry = telemetry
        self._leave.append(telemetry.subscribe(self._write, *self._writers))
        self._attach_hot()
        return self._detach

    def _attach_hot(self) -> None:
        """At levels above DEBUG the hot path must not even build its events. Asked when a worker starts, since logging
        is often set up after the application was made.
        """
        if self._telemetry is not None and events.JobDone not in self._writers and _jobs.isEnabledFor(logging.DEBUG):
            self._writers.update(self._hot_writers)
            self._leave.append(self._telemetry.subscribe(self._write, *self._hot_writers))

    def _detach(self) -> None:
        while self._leave:
            self._leave.pop()()

    def _write(self, event: Any) -> None:
        self._writers[type(event)](event)

    def _about_job(self, level: int, event: Any, text: str, *arguments: object) -> None:
        """A line about one job, unless there are too many of them."""
        if not _jobs.isEnabledFor(level):
            return
        second = int(self._monotonic())
        if second != self._second:
            left_out, self._second, self._written, self._left_out = self._left_out, second, 0, 0
            if left_out:
                _jobs.warning("%d more lines about jobs were left out.", left_out, extra={"left_out": left_out})
        self._written += 1
        if self._written > LINES_PER_SECOND and level < logging.CRITICAL and not _jobs.isEnabledFor(logging.DEBUG):
            self._left_out += 1
            return
        _jobs.log(level, text, *arguments, extra=_extra(event))

    def _engine_lost(self, event: events.EngineLost) -> None:
        _engine.warning("The store cannot be reached, trying on: %s", event.reason, extra=_extra(event))

    def _engine_back(self, event: events.EngineBack) -> None:
        _engine.warning("The store is back after %s.", human(event.away_s), extra=_extra(event))

    def _loop_failed(self, event: events.LoopFailed) -> None:
        then = (
            "too often: tried again now and then" if event.restart_s is None else f"again in {human(event.restart_s)}"
        )
        _worker.error(
            "%s: the loop %r failed, %s.",
            event.service,
            event.loop,
            then,
            exc_info=event.error,
            extra={"service": event.service, "loop": event.loop, "restart_s": event.restart_s},
        )

    def _worker_started(self, event: events.WorkerStarted) -> None:
        self._attach_hot()
        _worker.info(
            "Worker %s runs jobs of %s, %d at a time.",
            event.worker,
            ", ".join(event.queues),
            event.concurrency,
            extra=_extra(event),
        )

    def _worker_stopped(self, event: events.WorkerStopped) -> None:
        _worker.info("Worker %s has stopped, %d jobs handed back.", event.worker, event.released, extra=_extra(event))

    def _job_started(self, event: events.JobStarted) -> None:
        self._about_job(logging.DEBUG, event, "%s %s: attempt %d begins.", event.name, event.job_id, event.attempt)

    def _job_done(self, event: events.JobDone) -> None:
        took = human(event.duration_s)
        self._about_job(logging.DEBUG, event, "%s %s: done in %s.", event.name, event.job_id, took)

    def _job_not_done(self, event: events.JobNotDone) -> None:
        then = f", again in {human(event.delay_s)}" if event.outcome in ("retry", "snooze") else ""
        trace = f"\n{event.stack.rstrip()}" if event.outcome == "failed" and event.stack else ""
        self._about_job(
            _LEVELS.get(event.outcome, logging.WARNING),
            event,
            "%s %s: attempt %d: %s after %s%s%s%s",
            event.name,
            event.job_id,
            event.attempt,
            event.outcome,
            human(event.duration_s),
            then,
            f": {event.reason}" if event.reason else ".",
            trace,
        )

    def _lock_lost(self, event: events.JobLockLost) -> None:
        text = (
            "%s %s: the lock is lost, the run is being stopped; another worker may have the job."
            if event.running
            else "%s %s: the lock was lost, the end of this run is not stored; another worker may have the job."
        )
        self._about_job(logging.WARNING, event, text, event.name, event.job_id)

    def _refused(self, event: events.JobRefused) -> None:
        self._about_job(logging.WARNING, event, "%s %s: the store answered %s.", event.name, event.job_id, event.code)

    def _stuck(self, event: events.HandlerStuck) -> None:
        why = {"loop": "it swallows its cancellation", "thread": "a thread cannot be stopped from outside"}
        self._about_job(
            logging.ERROR,
            event,
            "%s %s: told to stop (%s), but it goes on: %s. Its slot stays taken until it ends.",
            event.name,
            event.job_id,
            event.cause,
            why.get(event.pool, "its process does not end"),
        )

    def _blocked(self, event: events.LoopBlocked) -> None:
        by = f"job {event.job_id} ({event.name})" if event.job_id else "something that is no job"
        _worker.warning(
            "Event loop blocked for %s by %s; use a plain function or await more often.\n%s",
            human(event.duration_s),
            by,
            event.stack,
            extra=_extra(event),
        )

    def _reports_dropped(self, event: events.ReportsDropped) -> None:
        _jobs.warning(
            "Queue %s: %d reports of progress and log lines were dropped: %s",
            event.queue,
            event.number,
            event.reason,
            extra=_extra(event),
        )

    def _recovered(self, event: events.JobsRecovered) -> None:
        _worker.warning(
            "Queue %s: %d jobs of a vanished worker are back in line, %d of them stalled too often and will fail.",
            event.queue,
            event.requeued,
            event.condemned,
            extra=_extra(event),
        )

    def _schedule_healed(self, event: events.ScheduleHealed) -> None:
        _worker.warning(
            "Queue %s: schedule %s had lost its planned run (cancelled or deleted); it goes on.",
            event.queue,
            event.schedule,
            extra=_extra(event),
        )

    def _schedule_broken(self, event: events.ScheduleBroken) -> None:
        _worker.error(
            "Queue %s: schedule %s stops, its next run cannot be planned: %s",
            event.queue,
            event.schedule,
            event.reason,
            extra=_extra(event),
        )

    def _process_ended(self, event: events.ProcessEnded) -> None:
        if event.restart_s is None:
            _worker.debug("%s process %d ended.", event.role, event.pid, extra=_extra(event))
            return
        _worker.error(
            "Worker process %d ended with code %s, a new one starts in %s.",
            event.pid,
            event.code,
            human(event.restart_s),
            extra=_extra(event),
        )

    def _process_replaced(self, event: events.ProcessReplaced) -> None:
        _worker.info(
            "Worker process %d is replaced by %d: %s.", event.pid, event.successor, event.reason, extra=_extra(event)
        )

    def _replacement_failed(self, event: events.ReplacementFailed) -> None:
        _worker.error(
            "Worker process %d should have replaced %d (%s), but did not get ready and ended with code %s: the old one "
            "goes on.",
            event.successor,
            event.pid,
            event.reason,
            event.code,
            extra=_extra(event),
        )

    def _roll_ended(self, event: events.RollEnded) -> None:
        if event.kept:
            _worker.error(
                "The rolling restart is broken off: %d processes are new, %d old ones go on.",
                event.replaced,
                event.kept,
                extra=_extra(event),
            )
        else:
            _worker.info("The rolling restart is done: %d processes are new.", event.replaced, extra=_extra(event))

    def _sources_changed(self, event: events.SourcesChanged) -> None:
        more = f" and {len(event.files) - 1} more" if len(event.files) > 1 else ""
        _worker.info("Changed: %s%s.", event.files[0] if event.files else "?", more, extra=_extra(event))


def _extra(event: Any) -> dict[str, Any]:
    """The facts of an event as attributes of a log record; `name` is taken there, so it becomes `task`."""
    return {("task" if key == "name" else key): value for key, value in event._asdict().items() if key != "stack"}
