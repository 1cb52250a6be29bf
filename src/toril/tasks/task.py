"""`Task`: a Python function made runnable in the background."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from copy import copy
from typing import Any, Generic, Literal, ParamSpec, Self, TypeVar, Unpack

from toril.breaker.breaker import Breaker
from toril.errors import ConfigError, InvalidArguments
from toril.jobs.options import JobOptions, OptionsPatch
from toril.jobs.retry import CustomBackoff, Exponential, Fixed, custom_name
from toril.jobs.schedule import Cron, Every, check_schedule_id
from toril.tasks.call import Call, JobPlan
from toril.tasks.context import detached
from toril.tasks.enqueue import Enqueuer
from toril.tasks.handle import JobHandle
from toril.tasks.signature import Signature

P = ParamSpec("P")
R = TypeVar("R")

Pool = Literal["loop", "thread", "process"]
"""Where a task runs: in the worker's event loop, in a thread of it, or in a process of its own."""


class Task(Generic[P, R]):
    """A function made runnable in the background; made by `@toril.task`.

    `name` is its name on the wire, `queue` where its jobs go. `P` are the arguments without the context, `R` is the
    result. Options are chosen with `with_options`, so that they never mix with arguments.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        queue: str,
        options: JobOptions,
        pool: Pool | None,
        enqueuer: Enqueuer,
        schedule: Cron | Every | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        what = f"Task {name!r}"
        if options.id is not None:
            raise ConfigError(f"{what}: id belongs to one job: give it with with_options(id=…) when you enqueue.")
        self.function = function
        self.signature = Signature(function, what)
        self.pool: Pool = _pool(pool, self.signature.is_async, what)
        self.schedule = None if schedule is None else _checked_schedule(schedule, name, options, self.signature)
        self.breaker = breaker
        self.plan = JobPlan(name, queue, options, self.signature)
        self._enqueuer = enqueuer
        self._policies: dict[str, CustomBackoff] = {}
        self._remember_policy(options)
        self.__doc__ = function.__doc__
        self.__name__ = getattr(function, "__name__", name)
        self.__qualname__ = getattr(function, "__qualname__", name)
        self.__module__ = function.__module__
        self.__wrapped__ = function

    def __repr__(self) -> str:
        return f"<Task {self.name} in queue {self.queue}>"

    @property
    def name(self) -> str:
        """The name on the wire."""
        return self.plan.name

    @property
    def queue(self) -> str:
        """The queue that jobs go to."""
        return self.plan.queue

    @property
    def options(self) -> JobOptions:
        """How jobs are stored and run."""
        return self.plan.options

    @property
    def stored_options(self) -> str:
        """The options as JSON, as every job without a time of day carries them."""
        return self.plan.stored_options

    def load_result(self, text: str) -> R:
        """A stored result (JSON) as the function returns it. Raises InvalidResult."""
        result: R = self.signature.load_result(text)
        return result

    def backoff_policy(self, name: str) -> CustomBackoff | None:
        """The custom backoff that jobs of this task carry under `name`; None when this process knows none."""
        return self._policies.get(name)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Store a job that will call the function with these arguments.

        Calls made at the same time are stored together. Raises InvalidArguments, PayloadTooLarge (nothing is stored
        then), and EngineUnavailable when the store is away; when that error is `ambiguous`, the job may be stored.
        """
        return await self._enqueuer.enqueue(Call(self.plan, self.signature.bind(args, kwargs)))

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """`enqueue` for synchronous code; blocks until the job is stored."""
        return self._enqueuer.enqueue_sync(Call(self.plan, self.signature.bind(args, kwargs)))

    async def enqueue_in(self, transaction: object, /, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Store a job together with what a transaction of your own database does: both come true, or neither.

        `transaction` is a session or connection of SQLAlchemy (async or not), or a connection of a database driver, on
        PostgreSQL, MySQL or SQLite; `ordered(transaction, key)` keeps jobs of a key in order. The job's id is known at
        once; the job is in the store soon after the commit, and `result` waits for it; after a rollback it waits for
        ever, so give it a timeout. Raises InvalidArguments, PayloadTooLarge, ConfigError, and what the database raises.
        """
        return await self._enqueuer.enqueue_in(transaction, Call(self.plan, self.signature.bind(args, kwargs)))

    def enqueue_in_sync(self, transaction: object, /, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """`enqueue_in` for synchronous code, with a session or connection that is not async."""
        return self._enqueuer.enqueue_in_sync(transaction, Call(self.plan, self.signature.bind(args, kwargs)))

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Bind arguments without storing anything, for `enqueue_many`. Raises InvalidArguments."""
        return Call(self.plan, self.signature.bind(args, kwargs))

    def with_options(self, **options: Unpack[OptionsPatch]) -> Self:
        """This task with other options; the task itself stays as it is. Raises ConfigError for a bad option.

        A custom backoff given here must also be known to the worker: declare it on a task in the module that workers
        import, else they wait as the nearest built-in does.
        """
        other = copy(self)
        merged = self.options.merged(options)
        other.plan = JobPlan(self.name, self.queue, merged, self.signature)
        self._remember_policy(merged)
        return other

    def _remember_policy(self, options: JobOptions) -> None:
        backoff = options.backoff
        if backoff is not None and not isinstance(backoff, Fixed | Exponential):
            self._policies[custom_name(backoff)] = backoff

    def _arguments(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        if self.signature.wants_context:
            return (detached(self.name, self.queue, self._enqueuer.now_ms()), *args)
        return args


class AsyncTask(Task[P, R]):
    """A task made of an `async def` function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run the function here and now, without a job; a context that it wants belongs to no job."""
        coroutine: Coroutine[Any, Any, R] = self.function(*self._arguments(args), **kwargs)
        return coroutine


class PlainTask(Task[P, R]):
    """A task made of a plain function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now, without a job; a context that it wants belongs to no job."""
        result: R = self.function(*self._arguments(args), **kwargs)
        return result


def _checked_schedule(schedule: Cron | Every, name: str, options: JobOptions, signature: Signature) -> Cron | Every:
    what = f"Task {name!r}: schedule:"
    if not isinstance(schedule, Cron | Every):
        raise ConfigError(f'{what} expected Cron("0 3 * * *") or Every("5m"), got {schedule!r}.')
    check_schedule_id(name)
    if options.delay is not None or options.run_at is not None or options.unique is not None:
        raise ConfigError(f"{what} says itself when runs are due, each once; leave out delay, run_at and unique.")
    try:
        signature.bind((), {})
    except InvalidArguments as error:
        raise ConfigError(
            f"{what} expected a task that can be called without arguments, found that it cannot ({error}). Give it "
            "arguments with toril.schedules.upsert(…, call=task.call(…))."
        ) from error
    return schedule


def _pool(pool: Pool | None, is_async: bool, what: str) -> Pool:
    if pool is None:
        return "loop" if is_async else "thread"
    if pool not in ("loop", "thread", "process"):
        raise ConfigError(f'{what}: pool: expected "thread" or "process", got {pool!r}.')
    if is_async and pool != "loop":
        raise ConfigError(f"{what}: an async function runs in the event loop; make it a plain one for pool={pool!r}.")
    if not is_async and pool == "loop":
        raise ConfigError(f'{what}: a plain function would block the event loop; use pool="thread" or "process".')
    return pool
