"""One event-loop thread per owner: what lets synchronous code call asynchronous code."""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from toril.errors import ConfigError

T = TypeVar("T")

_IN_LOOP = (
    "a *_sync call was made inside a running event loop: it works, but blocks the loop until it is done; "
    "await the method without _sync instead (said once)"
)


class BlockingLoop:
    """Runs coroutines from synchronous code, in a thread of its own that starts at the first call.

    Safe to share between threads. After a fork the child gets a thread of its own. `close` may be followed by another
    `run`.
    """

    def __init__(self, name: str = "toril-blocking") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._warned = False

    def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of `make()`, awaited in the thread. Raises what it raises, and ConfigError when called from that
        very thread, which would wait for itself. An interrupt (Ctrl-C) cancels the coroutine.
        """
        if threading.current_thread() is self._thread:
            raise ConfigError("A *_sync call was made from Toril's own loop thread: await the method without _sync.")
        if not self._warned and _inside_a_loop():
            self._warned = True
            warnings.warn(_IN_LOOP, RuntimeWarning, stacklevel=4)
        future = asyncio.run_coroutine_threadsafe(make(), self._running())
        try:
            return future.result()
        except (KeyboardInterrupt, CancelledError):
            future.cancel()
            raise

    def submit(self, make: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        """Run `make()` in the thread, without waiting for it. `close` cancels it."""
        return asyncio.run_coroutine_threadsafe(make(), self._running())

    def close(self) -> None:
        """Cancel what still runs, and end the thread. Closing twice is once."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None or self._pid != os.getpid():
            return
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name=self._name, daemon=True)
                self._thread.start()
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _inside_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
