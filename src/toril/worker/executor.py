"""Runs one job: resolve → decode → context → timeout → middleware → call → classify. The engine is not known here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from toril.errors import InvalidArguments, InvalidResult, JobTimeout, NeverRetry, PayloadTooLarge, Signal
from toril.jobs.model import TakenJob
from toril.jobs.options import decode
from toril.jobs.outcome import Cancelled, Done, Failed, Limited, Outcome, Released, Retry, Snooze
from toril.jobs.signals import RateLimited
from toril.jobs.signals import Retry as RetrySignal
from toril.jobs.signals import Snooze as SnoozeSignal
from toril.kernel.clock import Clock
from toril.kernel.durations import human
from toril.kernel.telemetry import JobStarted, Telemetry
from toril.tasks.children import ChildReader
from toril.tasks.context import MOST_LOG_LINES, Context
from toril.tasks.guarded import Guarded
from toril.tasks.middleware import around_run
from toril.tasks.registry import Registry
from toril.tasks.task import Task
from toril.worker.options import WorkerOptions
from toril.worker.pools import ThreadPool
from toril.worker.processes import ProcessPool, RemoteError
from toril.worker.run import Run, Runs, Stop
from toril.worker.stack import MOST_REASON_CHARS, clean, reason_of, shorten_stack, stack_of

CANCELLED = "cancelled"


class Plan(NamedTuple):
    """What is needed of a task for every run of it, looked up once."""

    task: Task[Any, Any]
    function: Callable[..., Any]
    load: Callable[[str], dict[str, Any]]
    dump: Callable[[Any], str]
    wants_context: bool
    pool: str
    guard: Guarded | None


class Executor:
    """The steps of a run. One per worker."""

    def __init__(
        self,
        *,
        worker: str,
        registry: Registry,
        options: WorkerOptions,
        clock: Clock,
        telemetry: Telemetry,
        runs: Runs,
        threads: ThreadPool,
        processes: ProcessPool,
        children: ChildReader,
    ) -> None:
        self._worker = worker
        self._registry = registry
        self._options = options
        self._clock = clock
        self._telemetry = telemetry
        self._runs = runs
        self._threads = threads
        self._processes = processes
        self._children = children
        self._plans: dict[str, Plan] = {}
        # A result of this many characters is within the limit whatever it is encoded to.
        self._surely_small = options.result_limit // 4

    async def run(self, run: Run) -> Outcome | None:
        """Run a job to its end. None when nothing may be handed in, because the lock is lost."""
        run.begun = True
        try:
            plan = self._resolve(run)
            if not isinstance(plan, Plan):
                return plan
            if run.stop is not None:
                return self._after_stop(run, None, None)
            if self._telemetry.wants(JobStarted):
                self._tell_started(run.owner.queue, run.job)
            middleware = self._registry.run_middleware
            if plan.guard is not None:
                middleware = (*middleware, plan.guard)
            if plan.pool == "process" and not middleware:
                text = await self._processes.run(run, plan.task, run.job.data)
                return self._done(run, text) if run.stop is None else self._after_stop(run, None, text)
            try:
                arguments = plan.load(run.job.data)
            except InvalidArguments as error:
                # The same data would fail in the same way again.
                return Failed(reason_of(error), stack_of(error))
            options = run.options
            if options is not None and options.timeout_s is not None and plan.pool != "process":
                self._runs.arm(run, options.timeout_s)
            if middleware:
                value = await around_run(middleware, partial(self._call, plan, run))(self._context(run), arguments)
            elif plan.pool == "loop" and not plan.wants_context:
                value = await plan.function(**arguments)
            else:
                value = await self._call(plan, run, self._context(run), arguments)
            return self._returned(plan, run, value)
        except GeneratorExit:
            raise
        # SystemExit and KeyboardInterrupt too: a handler may end itself, never the worker.
        except BaseException as error:  # noqa: BLE001
            return self._raised(run, error)

    def undecided(self, run: Run) -> Outcome | None:
        """The outcome of a run whose handler does not end, decided without it."""
        return self._after_stop(run, None, None)

    # resolve

    def _resolve(self, run: Run) -> Plan | Outcome:
        job = run.job
        if job.deferred_failure is not None:
            return _deferred(job.deferred_failure)
        plan = self._plans.get(job.name)
        if plan is None:
            task = self._registry.get(job.name)
            if task is None:
                return self._unknown(job)
            plan = self._plans[job.name] = _plan(task)
        try:
            run.options = decode(job.opts)
        except ValueError as error:
            return Failed(f"The job's options cannot be read: {reason_of(error)}", "")
        run.pool = plan.pool
        return plan

    def _unknown(self, job: TakenJob) -> Outcome:
        options = self._options
        age_s = (self._clock.now_ms() - job.timestamp) / 1000
        if options.unknown == "snooze" and age_s < options.unknown_after_s:
            return Snooze(round(options.unknown_snooze_s * 1000))
        known = ", ".join(sorted(task.name for task in self._registry)) or "none"
        text = f"unknown_task: expected a registered task ({known}), found {job.name!r}; import its module."
        return Failed(clean(text, MOST_REASON_CHARS), "")

    # context and call

    def _context(self, run: Run) -> Context:
        return Context(
            run.job,
            queue=run.owner.queue,
            token=run.token,
            worker=self._worker,
            started_ms=run.started,
            reporter=run.owner.reports,
            is_cancelled=run.is_cancelled,
            children=self._children,
        )

    async def _call(self, plan: Plan, run: Run, context: Context, arguments: dict[str, Any]) -> Any:
        first = (context,) if plan.wants_context else ()
        if plan.pool == "loop":
            return await plan.function(*first, **arguments)
        if plan.pool == "thread":
            return await self._threads.run(run, plan.function, first, arguments)
        signature = plan.task.signature
        text = await self._processes.run(run, plan.task, signature.bind((), arguments))
        return signature.load_result(text)

    def _tell_started(self, queue: str, job: TakenJob) -> None:
        self._telemetry.emit(JobStarted(self._worker, queue, job.id, job.name, job.attempts_made + 1))

    # classify

    def _returned(self, plan: Plan, run: Run, value: Any) -> Outcome | None:
        try:
            text = plan.dump(value)
        except InvalidResult as error:
            # The work is done; doing it again would not make its result storable.
            return Failed(reason_of(error), stack_of(error)) if run.stop is None else self._after_stop(run, error, None)
        return self._done(run, text) if run.stop is None else self._after_stop(run, None, text)

    def _done(self, run: Run, result: str) -> Outcome:
        if len(result) > self._surely_small:
            size = len(result.encode())
            if size > self._options.result_limit:
                return self._too_large(run, size)
        return Done(result)

    def _too_large(self, run: Run, size: int) -> Outcome:
        found = f"The result has {size:,} bytes of JSON, expected at most {self._options.result_limit:,}"
        if self._options.result_over_limit == "drop":
            run.owner.reports.log(run.job, run.token, f"{found}: it is not stored.", MOST_LOG_LINES)
            return Done("null")
        error = PayloadTooLarge(f"{found}: store it elsewhere and return where it is.")
        return Failed(reason_of(error), stack_of(error))

    def _raised(self, run: Run, error: BaseException) -> Outcome | None:
        """What a run that raised results in."""
        if run.stop is not None and not (run.stop is Stop.TIMEOUT and isinstance(error, Signal)):
            return self._after_stop(run, error, None)
        if isinstance(error, SnoozeSignal):
            return Snooze(round(error.delay_s * 1000))
        if isinstance(error, RateLimited):
            return Limited(round(error.delay_s * 1000))
        if isinstance(error, NeverRetry):
            return Failed(clean(str(error) or "NeverRetry", MOST_REASON_CHARS), _stack(error))
        if isinstance(error, RemoteError) and error.final:
            return Failed(error.reason, error.stack)
        return self._again(run, error)

    def _after_stop(self, run: Run, error: BaseException | None, result: str | None) -> Outcome | None:
        """The end of a run that was told to stop. What it returns counts, unless it returned because it was told."""
        if run.stop is Stop.LOCK_LOST:
            return None
        if run.stop is Stop.CANCEL:
            return Cancelled(run.reason, run.by)
        if result is not None and not run.saw_stop:
            return self._done(run, result)
        if run.stop is Stop.SHUTDOWN:
            return Released()
        limit_s = None if run.options is None else run.options.timeout_s
        goes_on = ", and it cannot be stopped and goes on" if error is None and result is None else ""
        late = JobTimeout(
            f"{run.job.name} ran longer than its timeout of {human(limit_s or 0)}{goes_on}.", job_id=run.job.id
        )
        if error is not None:
            late.__traceback__ = error.__traceback__
            late.__cause__ = None if isinstance(error, asyncio.CancelledError) else error
        return self._again(run, late)

    def _again(self, run: Run, error: BaseException) -> Outcome:
        """Another attempt if one is left, after the wait that the handler or the job's backoff asks for."""
        asked_s = error.delay_s if isinstance(error, RetrySignal) else None
        reason, stack = _reason(error), _stack(error)
        attempt, options = run.job.attempts_made + 1, run.options
        if options is None or attempt >= options.attempts:
            return Failed(reason, stack)
        backoff = options.backoff
        if asked_s is not None or backoff is None:
            return Retry(reason, stack, round((asked_s or 0) * 1000))
        plan = self._plans.get(run.job.name)
        policy = None if backoff.name is None or plan is None else plan.task.backoff_policy(backoff.name)
        if policy is None:
            return Retry(reason, stack, backoff.delay_ms_for(attempt))
        try:
            delay_s = policy(attempt, error)
            return Failed(reason, stack) if delay_s is None else Retry(reason, stack, max(0, round(delay_s * 1000)))
        except Exception as broken:  # noqa: BLE001 - a broken policy must not lose the job
            note = f"\nIts backoff {backoff.name} failed, the built-in one is used: {reason_of(broken)}"
            return Retry(reason, shorten_stack(stack + note), backoff.delay_ms_for(attempt))


def _plan(task: Task[Any, Any]) -> Plan:
    signature = task.signature
    return Plan(
        task,
        task.function,
        signature.load,
        signature.dump_result,
        signature.wants_context,
        task.pool,
        None if task.breaker is None else Guarded(task.breaker),
    )


def _deferred(reason: str) -> Outcome:
    """A job that was marked to fail without running."""
    if reason == CANCELLED or reason.startswith(CANCELLED + ":"):
        return Cancelled(reason[len(CANCELLED) + 1 :].strip(), "")
    return Failed(reason, "")


def _reason(error: BaseException) -> str:
    if isinstance(error, RemoteError | RetrySignal):
        return clean(error.reason, MOST_REASON_CHARS)
    return reason_of(error)


def _stack(error: BaseException) -> str:
    return error.stack if isinstance(error, RemoteError) else stack_of(error)
