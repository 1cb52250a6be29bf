"""Middleware: code of yours around storing jobs and around running them. Composed once; costs nothing when there is
none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol

from toril.engine.ports.jobs import Added
from toril.jobs.model import NewJob
from toril.tasks.context import Context

EnqueueNext = Callable[[str, Sequence[NewJob]], Awaitable[Added]]
RunNext = Callable[[Context, dict[str, Any]], Awaitable[Any]]


class EnqueueMiddleware(Protocol):
    """Sees the jobs of one queue that are about to be stored together, after their arguments were checked."""

    async def __call__(self, queue: str, jobs: Sequence[NewJob], call_next: EnqueueNext) -> Added:
        """Call `call_next(queue, jobs)`, with other jobs of the same number if you like, and answer what it answers.

        What is raised here reaches the caller of `enqueue`, and the jobs are not stored.
        """
        ...


class RunMiddleware(Protocol):
    """Sees each run of a job, in the worker."""

    async def __call__(self, ctx: Context, arguments: dict[str, Any], call_next: RunNext) -> Any:
        """Call `call_next(ctx, arguments)` and answer the result.

        What is raised here counts as raised by the handler.
        """
        ...


def around_enqueue(middleware: Sequence[EnqueueMiddleware], inner: EnqueueNext) -> EnqueueNext:
    """`inner` with `middleware` around it, the first one outermost."""
    for layer in reversed(middleware):
        inner = partial(_enqueue, layer, inner)
    return inner


def around_run(middleware: Sequence[RunMiddleware], inner: RunNext) -> RunNext:
    """`inner` with `middleware` around it, the first one outermost."""
    for layer in reversed(middleware):
        inner = partial(_run, layer, inner)
    return inner


def _enqueue(layer: EnqueueMiddleware, inner: EnqueueNext, queue: str, jobs: Sequence[NewJob]) -> Awaitable[Added]:
    return layer(queue, jobs, inner)


def _run(layer: RunMiddleware, inner: RunNext, ctx: Context, arguments: dict[str, Any]) -> Awaitable[Any]:
    return layer(ctx, arguments, inner)
