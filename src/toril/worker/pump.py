"""The exchange loop of one queue: hands in outcomes, takes jobs. The only writer of final states."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from toril.engine.ports.jobs import Code, Exchanged, Finish, JobStore, Lock, Outlook
from toril.errors import EngineUnavailable
from toril.jobs.model import TakenJob
from toril.jobs.outcome import Cancelled, Done, Failed, Limited, Outcome, Parked, Released, Retry, Snooze
from toril.kernel.clock import Clock
from toril.kernel.telemetry import JobDone, JobLockLost, JobNotDone, JobRefused, ScheduleBroken, Telemetry
from toril.worker.call import Call, batch_of
from toril.worker.executor import Executor
from toril.worker.options import WorkerOptions
from toril.worker.outage import Outage
from toril.worker.planning import RunPlanner
from toril.worker.reports import Reports
from toril.worker.run import Run, Runs, Stop
from toril.worker.slots import Slots

# How soon a worker that runs jobs looks whether a cancellation was requested.
LOOK_EVERY_S = 0.5
# How soon a worker whom a limit stops looks whether somebody has changed it.
LOOK_AT_LIMITS_S = 5.0
CHILD_FAILED = "a child of the job failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What the pumps of one worker share."""

    worker: str
    store: JobStore
    options: WorkerOptions
    clock: Clock
    telemetry: Telemetry
    slots: Slots
    runs: Runs
    executor: Executor
    outage: Outage
    seqs: Iterator[int]
    on_finished: Callable[[str], None]
    planner: RunPlanner | None = None


class Pump:
    """One queue of a worker."""

    def __init__(self, queue: str, reports: Reports, bench: Bench) -> None:
        self.queue = queue
        self.reports = reports
        self.hungry = True
        self.held = 0
        self.turn = 0
        self.closing = False
        self.leaving = False
        self.released = 0
        self.lost = 0
        self._bench = bench
        self._loop = asyncio.get_running_loop()
        self._gathered: list[Finish] = []
        self._call: Call | None = None
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._woken = False
        self._look = False
        self._look_timer: asyncio.TimerHandle | None = None
        self._due_timer: asyncio.TimerHandle | None = None
        self._due_at: int | None = None
        self._limit_timer: asyncio.TimerHandle | None = None
        # Jobs wait for others to end: a run that ends makes room.
        self._full = False
        # Slots of the open exchange that others have, because it takes long.
        self._lent = 0
        self._last_exchange = 0.0
        bench.slots.join(self)

    @property
    def is_empty(self) -> bool:
        """True when every outcome has been handed in and no exchange is open."""
        return not self._gathered and self._call is None

    @property
    def owes(self) -> bool:
        """True while the store has not been told of an end of a run."""
        return bool(self._gathered or (self._call is not None and self._call.finished))

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    def close(self) -> None:
        """Take no more jobs; hand in what still ends. `run` returns when no job is held any more."""
        self.closing = True
        self.hungry = False
        for timer in (self._due_timer, self._limit_timer):
            if timer is not None:
                timer.cancel()
        self.wake()

    def leave(self) -> None:
        """Do not wait for handlers any more: `run` returns as soon as all outcomes are handed in."""
        self.leaving = True
        self.wake()

    async def run(self) -> None:
        """Exchange for as long as the queue is open, and until nothing is left."""
        while True:
            call = self._call or self._next_call()
            if call is not None:
                await self._exchange(call)
            elif self.closing and (self.held <= 0 or self.leaving) and self.is_empty:
                return
            else:
                self._wake.clear()
                self._look_later()
                if not self.hungry and not self.closing and self._limit_timer is None:
                    self._idle.set()
                await self._wake.wait()

    async def listen(self) -> None:
        """Wait for work whenever the queue is idle."""
        store, listen_s = self._bench.store, self._bench.options.listen_s
        while True:
            await self._idle.wait()
            self._idle.clear()
            while not await self._bench.outage.endure(
                "listen", lambda: store.wait_for_work([self.queue], timeout=listen_s)
            ):
                if self.closing:
                    return
            self._ask()

    def notice(self, outlook: Outlook) -> None:
        """What somebody saw who looked by itself: a wake-up may have been missed, or died with who had it."""
        due = outlook.next_due_ms
        if outlook.in_line or (due is not None and due <= self._bench.clock.now_ms()):
            self._ask()
        elif due is not None and (self._due_timer is None or self._due_at is None or due < self._due_at):
            self._wait_for_due(due)

    # one exchange

    def _next_call(self) -> Call | None:
        if self._full and self._gathered and not self.closing:
            self.hungry = True
        want = 0 if self.closing else self._bench.slots.reserve(self, self._bench.options.most_taken)
        if not (want or self._gathered or self._look):
            return None
        seq = next(self._bench.seqs)
        token = f"{self._bench.worker}:{seq}"
        self._call = Call(seq, token, batch_of(self._gathered), want, self._loop.time())
        return self._call

    async def _exchange(self, call: Call) -> None:
        self._woken = self._look = False
        if call.finished and self.reports.busy:
            await self.reports.flush()
        bench = self._bench

        async def send() -> Exchanged:
            try:
                return await bench.store.exchange(
                    self.queue,
                    worker=bench.worker,
                    seq=call.seq,
                    token=call.token,
                    finished=call.finished,
                    want=call.want,
                    lock_ms=bench.options.lock_ms,
                    now=bench.clock.now_ms(),
                )
            except EngineUnavailable as error:
                if error.partial and call.want and not self._lent:
                    # Other queues, whose part of the store is there, have the slots meanwhile.
                    self._lent, self.hungry = call.want, False
                    bench.slots.give_back(self, call.want)
                raise

        reply = await bench.outage.endure("exchange", send)
        jobs = await self._still_ours(call, reply.jobs)
        self._call = None
        self._last_exchange = self._loop.time()
        self._absorb(call, reply, jobs)

    async def _still_ours(self, call: Call, jobs: tuple[TakenJob, ...]) -> tuple[TakenJob, ...]:
        """The jobs of a reply, without those whose lock ran out while the reply was lost."""
        bench = self._bench
        if not jobs or self._loop.time() - call.began < bench.options.lock_ms / 3000:
            return jobs
        locks = [Lock(self.queue, job.id, call.token) for job in jobs]
        renewed = await bench.outage.endure(
            "exchange",
            lambda: bench.store.renew(locks, lock_ms=bench.options.lock_ms, now=bench.clock.now_ms()),
        )
        lost = {lock.id for lock in renewed.lost}
        return tuple(job for job in jobs if job.id not in lost)

    def _absorb(self, call: Call, reply: Exchanged, jobs: tuple[TakenJob, ...]) -> None:
        bench = self._bench
        del self._gathered[: len(call.finished)]
        for finish, code in zip(call.finished, reply.applied, strict=True):
            run = bench.runs.drop(finish.id, finish.token)
            if code is not Code.OK:
                self._refused(finish, code, run)
        if call.finished:
            bench.on_finished(self.queue)
        started = bench.clock.now_ms()
        if call.want:
            more = len(reply.jobs) >= call.want and not reply.full
            self.hungry = not self.closing and (more or self._woken)
            if self._lent:
                self._lent, room = 0, bench.slots.seize(self, len(jobs))
                for job in jobs[room:]:
                    self._hand_back(job, call.token, started)
                jobs = jobs[:room]
            else:
                bench.slots.give_back(self, call.want - len(jobs))
        for job in jobs:
            self._begin(job, call.token, started)
        bench.runs.cancel_requested(reply.cancelled)
        self._full = reply.full
        if not self.closing:
            self._wait_for_due(reply.next_due_ms)
            self._wait_for_limit(reply.limited_ms)

    def _refused(self, finish: Finish, code: Code, run: Run | None) -> None:
        bench = self._bench
        name = "" if run is None else run.job.name
        if code is Code.PENDING_CHILDREN and run is not None:
            # It came up because one of its children failed, and waits for the others now.
            bench.runs.add(run)
            self._gathered.append(finish._replace(outcome=Parked(), keep=None))
            return
        if code is Code.FAILED_CHILDREN and run is not None:
            bench.runs.add(run)
            keep = None if run.options is None else run.options.keep_failed
            self._gathered.append(finish._replace(outcome=Failed(CHILD_FAILED, ""), keep=keep))
            return
        if code is Code.BROKEN and run is not None and not isinstance(finish.outcome, Failed):
            # Handed in as it is it would be refused for ever, and the job would come back as stalled.
            bench.runs.add(run)
            reason = f"The outcome of the run could not be stored ({finish.outcome.cause})."
            self._gathered.append(finish._replace(outcome=Failed(reason, "")))
        elif code is Code.LOCK_LOST or code is Code.NOT_ACTIVE or code is Code.MISSING:
            self.lost += 1
            bench.telemetry.emit(JobLockLost(bench.worker, self.queue, finish.id, name, running=False))
        bench.telemetry.emit(JobRefused(bench.worker, self.queue, finish.id, name, code.value))

    # runs

    def _hand_back(self, job: TakenJob, token: str, started: int) -> None:
        run = Run(self, job, token, started)
        self._bench.runs.add(run)
        self.settle(run, Released())

    def _begin(self, job: TakenJob, token: str, started: int) -> None:
        if self.closing:
            self._hand_back(job, token, started)
            self._slot_free()
            return
        run = Run(self, job, token, started)
        self._bench.runs.add(run)
        run.task = self._loop.create_task(self._carry(run))

    async def _carry(self, run: Run) -> None:
        if run.job.schedule is not None and not await self._plan_next(run):
            outcome = self._bench.executor.undecided(run)
        else:
            outcome = await self._bench.executor.run(run)
        if run.timer is not None or run.stop is not None:
            self._bench.runs.ended(run)
        if outcome is not None and not run.settled:
            self.settle(run, outcome)
        self._slot_free()

    async def _plan_next(self, run: Run) -> bool:
        """Plan what comes after a run of a schedule, before its handler runs. False when the run was told to stop
        meanwhile; whoever gets it next plans then.
        """
        planner, bench = self._bench.planner, self._bench
        if planner is None or run.stop in (Stop.SHUTDOWN, Stop.LOCK_LOST):
            return True
        # From now on a stop cancels this task, also while the store is away.
        run.begun = True
        try:
            await bench.outage.endure("plan", lambda: planner.plan(self.queue, run.job))
        except asyncio.CancelledError:
            if run.stop is None:
                raise
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, the run that is due must not suffer for the next one
            bench.telemetry.emit(ScheduleBroken(self.queue, run.job.schedule or "", str(error)))
        return True

    def _slot_free(self) -> None:
        self._bench.slots.give_back(self, 1)
        self._wake.set()

    def give_up(self, run: Run) -> None:
        """The handler does not end: decide the outcome without it. Its slot stays taken."""
        outcome = self._bench.executor.undecided(run)
        if outcome is not None:
            self.settle(run, outcome)
            self._wake.set()

    def settle(self, run: Run, outcome: Outcome) -> None:
        """The run's outcome is decided: hand it in with the next exchange."""
        run.settled = True
        ended = self._bench.clock.now_ms()
        keep = None
        options = run.options
        if isinstance(outcome, Done):
            keep = None if options is None else options.keep_completed
            if self._bench.telemetry.wants(JobDone):
                self._tell_done(run, ended)
        else:
            if options is not None and isinstance(outcome, Failed | Cancelled):
                keep = options.keep_failed
            self._tell_not_done(run, outcome, ended)
        self._gathered.append(Finish(run.job.id, run.token, outcome, run.started, ended, keep))

    def _tell_done(self, run: Run, ended: int) -> None:
        job, bench = run.job, self._bench
        duration_s = (ended - run.started) / 1000
        bench.telemetry.emit(JobDone(bench.worker, self.queue, job.id, job.name, job.attempts_made + 1, duration_s))

    def _tell_not_done(self, run: Run, outcome: Outcome, ended: int) -> None:
        job, bench = run.job, self._bench
        if isinstance(outcome, Released):
            self.released += 1
        bench.telemetry.emit(
            JobNotDone(
                bench.worker,
                self.queue,
                job.id,
                job.name,
                job.attempts_made + 1,
                (ended - run.started) / 1000,
                outcome.cause.value,
                outcome.reason if isinstance(outcome, Retry | Failed | Cancelled) else "",
                outcome.stack if isinstance(outcome, Retry | Failed) else "",
                outcome.delay_ms / 1000 if isinstance(outcome, Retry | Snooze | Limited) else 0.0,
            )
        )

    # looking by itself

    def _wait_for_due(self, due_ms: int | None) -> None:
        """Look again when the queue's next delayed job is due."""
        if due_ms == self._due_at and self._due_timer is not None:
            return
        if self._due_timer is not None:
            self._due_timer.cancel()
            self._due_timer = None
        self._due_at = due_ms
        if due_ms is not None:
            wait_s = max(0.0, (due_ms - self._bench.clock.now_ms()) / 1000)
            self._due_timer = self._loop.call_later(wait_s, self._due)

    def _due(self) -> None:
        self._due_timer = None
        self._ask()

    def _ask(self) -> None:
        """Ask for jobs, unless a limit has to be waited for anyway."""
        if self._limit_timer is None and not self.closing:
            self._woken = self.hungry = True
            self.wake()

    def _wait_for_limit(self, limited_ms: int) -> None:
        """Ask for nothing while the queue's limit lets nothing start; look now and then, since limits may change."""
        if self._limit_timer is not None:
            self._limit_timer.cancel()
            self._limit_timer = None
            self.hungry = True
        if limited_ms > 0:
            self.hungry = False
            wait_s = min(limited_ms / 1000, self._bench.options.poll_s, LOOK_AT_LIMITS_S)
            self._limit_timer = self._loop.call_later(wait_s, self._limit_over)

    def _limit_over(self) -> None:
        self._limit_timer = None
        self._ask()

    def _look_later(self) -> None:
        """A cancellation that is requested of a running job must be seen even if nothing else wakes this worker."""
        if self._look_timer is None and self.held > 0:
            self._look_timer = self._loop.call_later(LOOK_EVERY_S, self._look_now)

    def _look_now(self) -> None:
        self._look_timer = None
        if self._loop.time() - self._last_exchange >= LOOK_EVERY_S:
            self._look = True
            self.wake()
        else:
            self._look_later()
