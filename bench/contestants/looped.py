"""A worker for queues that bring none: a thread that steps until it is told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable

Step = Callable[[], bool]
"""Runs some jobs; False when there were none."""


class LoopedWorker:
    """Calls `make()` in a thread of its own, then its step over and over; after an empty one it waits `poll_s`."""

    def __init__(self, make: Callable[[], Step], *, poll_s: float) -> None:
        self._make = make
        self._poll_s = poll_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bench-worker")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        step = self._make()
        while not self._stop.is_set():
            if not step():
                self._stop.wait(self._poll_s)
