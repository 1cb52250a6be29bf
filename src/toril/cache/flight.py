"""One at a time: whoever asks for a value that is being made in this loop waits for the one who makes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Landed(NamedTuple):
    """How work ended: with a value, or with an error and its traceback."""

    value: Any
    error: Exception | None = None
    trace: TracebackType | None = None


class Flights:
    """Work under way in this process, by event loop and key. Work goes on when those who wait for it give up."""

    def __init__(self) -> None:
        self._tasks: dict[tuple[int, Hashable], asyncio.Task[Landed]] = {}

    async def share(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `make()` answers, made once for all who ask meanwhile. Raises what it raises."""
        landed = await asyncio.shield(self._begun(key, make))
        if landed.error is not None:
            # Many may raise this one error: each with the same traceback, which would else grow with every one of them.
            raise landed.error.with_traceback(landed.trace)
        value: T = landed.value
        return value

    def begin(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Start it, unless it is under way, and do not wait for it."""
        _ = self._begun(key, make)

    async def close(self) -> None:
        """Cancel what is under way in the running loop."""
        loop = asyncio.get_running_loop()
        tasks = [task for task in list(self._tasks.values()) if not task.done() and task.get_loop() is loop]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _begun(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, Any]]) -> asyncio.Task[Landed]:
        loop = asyncio.get_running_loop()
        place = (id(loop), key)
        task = self._tasks.get(place)
        if task is None or task.done() or task.get_loop() is not loop:
            task = self._tasks[place] = loop.create_task(_landing(make))
            task.add_done_callback(lambda done: self._ended(place, done))
        return task

    def _ended(self, place: tuple[int, Hashable], task: asyncio.Task[Landed]) -> None:
        if self._tasks.get(place) is task:
            del self._tasks[place]


async def _landing(make: Callable[[], Coroutine[Any, Any, Any]]) -> Landed:
    try:
        return Landed(await make())
    except Exception as error:  # noqa: BLE001 - whatever it is belongs to those who wait for it
        return Landed(None, error, error.__traceback__)
