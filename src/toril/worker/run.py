"""One run of a job in this process, and all of them together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Protocol

from toril.engine.ports.jobs import Lock, Requested
from toril.jobs.model import TakenJob
from toril.jobs.options import RunOptions
from toril.kernel.telemetry import HandlerStuck, JobLockLost, Telemetry
from toril.tasks.context import Reporter


class Stop(StrEnum):
    """Why a handler is told to stop."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"
    SHUTDOWN = "shutdown"
    LOCK_LOST = "lock_lost"


class Owner(Protocol):
    """Who took the job and hands in its outcome."""

    queue: str

    @property
    def reports(self) -> Reporter: ...

    def give_up(self, run: Run) -> None:
        """The handler does not end: decide the outcome without it."""
        ...


class Run:
    """One run. `task` is the asyncio task, `stop` why it was told to stop, `settled` that its outcome is decided."""

    __slots__ = (
        "abandoned",
        "begun",
        "by",
        "insisted",
        "job",
        "options",
        "owner",
        "pool",
        "reason",
        "saw_stop",
        "settled",
        "started",
        "stop",
        "task",
        "timer",
        "token",
    )

    def __init__(self, owner: Owner, job: TakenJob, token: str, started: int) -> None:
        self.owner = owner
        self.job = job
        self.token = token
        self.started = started
        self.task: asyncio.Task[None] | None = None
        self.options: RunOptions | None = None
        self.pool = "loop"
        self.stop: Stop | None = None
        self.reason = ""
        self.by = ""
        self.begun = False
        self.insisted = False
        self.saw_stop = False
        self.settled = False
        self.abandoned = False
        self.timer: asyncio.TimerHandle | None = None

    def is_cancelled(self) -> bool:
        """What `Context.is_cancelled` answers. Remembers that the handler knows: what it returns then is no result."""
        if self.stop is None:
            return False
        self.saw_stop = True
        return True

    def disarm(self) -> None:
        """No timer shall touch this run any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Runs:
    """Every job that this worker has locked: running, or ended and not yet handed in.

    Belongs to the worker's event loop; other threads may only read `locks`.
    """

    def __init__(self, worker: str, telemetry: Telemetry, *, grace_s: float) -> None:
        self._worker = worker
        self._telemetry = telemetry
        self._grace_s = grace_s
        self._held: dict[tuple[str, str], Run] = {}
        self._stuck: set[Run] = set()

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._held.values()))

    def add(self, run: Run) -> None:
        """A job was taken."""
        self._held[run.job.id, run.token] = run

    def drop(self, id: str, token: str) -> Run | None:
        """The engine knows how the run ended, or the lock is lost: nothing is left to renew."""
        return self._held.pop((id, token), None)

    def locks(self) -> list[Lock]:
        """What must be renewed. May be called from any thread."""
        return [Lock(run.owner.queue, run.job.id, run.token) for run in list(self._held.values())]

    def unsettled(self) -> list[Run]:
        """Runs whose outcome is open."""
        return [run for run in self._held.values() if not run.settled]

    def stuck(self) -> list[Run]:
        """Runs whose handler goes on although their outcome is decided or their lock is lost."""
        return list(self._stuck)

    def arm(self, run: Run, timeout_s: float) -> None:
        """Stop the run when it is still going on after `timeout_s`."""
        if run.stop is None:
            run.timer = asyncio.get_running_loop().call_later(timeout_s, self.stop, run, Stop.TIMEOUT)

    def stop(self, run: Run, why: Stop, reason: str = "", by: str = "") -> None:
        """Tell the handler to stop. It may clean up for the grace time; then its outcome is decided without it."""
        if run.settled or run.stop is not None:
            if why is Stop.LOCK_LOST and not run.settled:
                run.stop = why
            return
        run.disarm()
        run.stop, run.reason, run.by = why, reason, by
        # A task that is cancelled before its first step never runs at all; such a run sees `stop` when it begins.
        if run.begun and run.task is not None:
            run.task.cancel()
            run.timer = run.task.get_loop().call_later(self._patience(run), self._insist, run)

    def cancel_requested(self, requests: Sequence[Requested]) -> None:
        """Somebody asked to cancel these jobs."""
        for request in requests:
            run = self._held.get((request.id, request.token))
            if run is not None:
                self.stop(run, Stop.CANCEL, request.request.reason, request.request.by)

    def locks_lost(self, locks: Sequence[Lock]) -> None:
        """Another run of these jobs may have begun: ours must not be stored."""
        for lock in locks:
            run = self._held.get((lock.id, lock.token))
            if run is None or run.settled or run.stop is Stop.LOCK_LOST:
                continue
            job = run.job
            self._telemetry.emit(JobLockLost(self._worker, lock.queue, job.id, job.name, running=True))
            self.stop(run, Stop.LOCK_LOST)
            self._held.pop((lock.id, lock.token), None)
            self._stuck.add(run)

    def ended(self, run: Run) -> None:
        """The handler is really over."""
        run.disarm()
        self._stuck.discard(run)

    def abandon(self) -> list[Run]:
        """Stop waiting for handlers that do not end; answers those that had not been decided."""
        undecided = self.unsettled()
        for run in [*undecided, *self._stuck]:
            run.disarm()
            run.abandoned = True
            if run.task is not None and run.begun:
                run.task.cancel()
        return undecided

    def _patience(self, run: Run) -> float:
        # A process is killed after the grace time, and its end must still arrive.
        return self._grace_s + 2.0 if run.pool == "process" else self._grace_s

    def _insist(self, run: Run) -> None:
        """The grace time is over and the handler goes on."""
        if run.task is None or run.task.done():
            return
        if not run.insisted:
            run.insisted = True
            self._stuck.add(run)
            queue, job = run.owner.queue, run.job
            self._telemetry.emit(HandlerStuck(self._worker, queue, job.id, job.name, run.pool, str(run.stop)))
            if not run.settled and run.stop is not Stop.LOCK_LOST:
                run.owner.give_up(run)
        run.task.cancel()
        run.timer = run.task.get_loop().call_later(max(self._grace_s, 0.05), self._insist, run)
