"""`@toril.task`: the typed decorator."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar, Unpack, cast, overload

from toril.breaker.breaker import Breaker
from toril.errors import ConfigError
from toril.jobs.options import JobOptions, OptionsPatch
from toril.jobs.schedule import Cron, Every
from toril.tasks.context import Context
from toril.tasks.enqueue import Enqueuer
from toril.tasks.guarded import BreakerNamed, breaker_of
from toril.tasks.registry import Registry, check_name
from toril.tasks.signature import is_async_function
from toril.tasks.task import AsyncTask, PlainTask, Pool, Task

# The overloads below overlap on purpose: the first that fits counts, and an async function is never a plain one.
P = ParamSpec("P")
R = TypeVar("R")


class TaskMaker:
    """What `@toril.task(...)` answers: turns a function into a task with the options given."""

    def __init__(
        self,
        registry: Registry,
        enqueuer: Enqueuer,
        *,
        name: str | None,
        queue: str,
        pool: Pool | None,
        options: JobOptions,
        schedule: Cron | Every | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        self._registry = registry
        self._enqueuer = enqueuer
        self._name = name
        self._queue = queue
        self._pool = pool
        self._options = options
        self._schedule = schedule
        self._breaker = breaker

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...

    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], R], /) -> PlainTask[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> PlainTask[P, R]: ...

    def __call__(self, function: Callable[..., Any], /) -> Task[Any, Any]:
        """Make and register the task."""
        name = self._name if self._name is not None else getattr(function, "__name__", None)
        if name is None:
            raise ConfigError(f"{function!r} has no name of its own: give one with @toril.task(name=…).")
        check_name(name, "The name of a task")
        kind: type[Task[Any, Any]] = AsyncTask if is_async_function(function, f"Task {name!r}") else PlainTask
        made = kind(
            function,
            name=name,
            queue=self._queue,
            options=self._options,
            pool=self._pool,
            enqueuer=self._enqueuer,
            schedule=self._schedule,
            breaker=self._breaker,
        )
        self._registry.add(made)
        return made


class TaskDecorator:
    """Makes a function runnable in the background: `@toril.task`, or `@toril.task(queue="docs", attempts=5)`.

    `name` is the name on the wire (the function's by default), `queue` where its jobs go, `pool` where it runs
    (`"thread"`, the default of plain functions, or `"process"` for work that keeps a core busy; async functions run in
    the event loop), `schedule` when it runs by itself again and again, `Cron("0 3 * * *")` or `Every("5m")`, which a
    worker of its queue stores when it starts, `breaker` a circuit breaker or the name of one: while it is open jobs of
    the task are put off, no attempt burned. Every other option is a field of `JobOptions` and holds for each job,
    until `with_options` says otherwise. If the first parameter is annotated `Context`, it gets the context of the job
    and is no argument.

    Raises ConfigError for a bad option or a function that cannot be a task, TaskExists when the name is taken.
    """

    def __init__(
        self,
        registry: Registry,
        enqueuer: Enqueuer,
        breaker_named: BreakerNamed | None = None,
        *,
        default_queue: str,
        defaults: JobOptions,
    ) -> None:
        self._registry = registry
        self._breaker_named = breaker_named
        self._enqueuer = enqueuer
        self._default_queue = check_name(default_queue, "queue")
        self._defaults = defaults

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...

    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], R], /) -> PlainTask[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> PlainTask[P, R]: ...

    @overload
    def __call__(
        self,
        *,
        name: str | None = None,
        queue: str | None = None,
        pool: Pool | None = None,
        schedule: Cron | Every | None = None,
        breaker: Breaker | str | None = None,
        **options: Unpack[OptionsPatch],
    ) -> TaskMaker: ...

    # mypy does not see that **Any takes the keys of the unpacked options.
    def __call__(  # type: ignore[misc]
        self, function: Callable[..., Any] | None = None, /, **given: Any
    ) -> Task[Any, Any] | TaskMaker:
        words = ("name", "queue", "pool", "schedule", "breaker")
        name, queue, pool, schedule, breaker = (given.pop(word, None) for word in words)
        maker = TaskMaker(
            self._registry,
            self._enqueuer,
            name=name,
            queue=self._default_queue if queue is None else check_name(queue, "queue"),
            pool=pool,
            options=self._defaults.merged(cast(OptionsPatch, given)),
            schedule=schedule,
            breaker=breaker_of(breaker, self._breaker_named),
        )
        return maker if function is None else maker(function)
