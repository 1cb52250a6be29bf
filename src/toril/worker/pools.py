"""Threads for plain functions."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple

from toril.worker.run import Run


class _Errand(NamedTuple):
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    context: contextvars.Context
    function: Callable[..., Any]
    positional: tuple[Any, ...]
    named: dict[str, Any]


class ThreadPool:
    """Threads that are made when needed, at most `size`, and that never keep the process from ending."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._errands: SimpleQueue[_Errand | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._free = 0

    async def run(
        self, run: Run, function: Callable[..., Any], positional: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:
        """Call a handler in a thread. Python cannot stop a thread: when the run is told to stop, the function learns
        it from its context, and this waits until the function has ended.
        """
        future = self.submit(function, positional, named)
        while True:
            try:
                return await asyncio.shield(future)
            except asyncio.CancelledError:
                if future.done() or run.abandoned or run.stop is None:
                    raise

    def submit(
        self, function: Callable[..., Any], positional: tuple[Any, ...] = (), named: dict[str, Any] | None = None
    ) -> asyncio.Future[Any]:
        """Call `function` in a thread; the future gets what it returns or raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        errand = _Errand(future, loop, contextvars.copy_context(), function, positional, named or {})
        if self._free > 0 or len(self._threads) >= self._size:
            self._free -= 1
        else:
            thread = threading.Thread(target=self._serve, name=f"{self._name}-{len(self._threads) + 1}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._errands.put(errand)
        future.add_done_callback(self._one_more_free)
        return future

    def close(self) -> None:
        """Let the threads end once they are done with what they are at."""
        for _ in self._threads:
            self._errands.put(None)
        self._threads = []
        self._free = 0

    def _one_more_free(self, future: asyncio.Future[Any]) -> None:
        self._free += 1
        if not future.cancelled():
            future.exception()  # looked at here, since nobody else may: the run can have been abandoned

    def _serve(self) -> None:
        while (errand := self._errands.get()) is not None:
            value: Any = None
            failure: BaseException | None = None
            try:
                value = errand.context.run(errand.function, *errand.positional, **errand.named)
            except BaseException as error:  # noqa: BLE001 - SystemExit ends neither the thread nor the worker
                failure = error
            try:
                errand.loop.call_soon_threadsafe(_hand_over, errand.future, value, failure)
            except RuntimeError:
                return  # the loop has closed: nobody waits
            del errand, value, failure


def _hand_over(future: asyncio.Future[Any], value: Any, failure: BaseException | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(value)
    elif isinstance(failure, StopIteration):
        # A future refuses StopIteration, which would end the coroutine that awaits it.
        wrapped = RuntimeError(f"the handler raised StopIteration: {failure}")
        wrapped.__cause__ = failure
        future.set_exception(wrapped)
    else:
        future.set_exception(failure)
