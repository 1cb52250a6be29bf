"""Signals that ask a process to stop."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
SAME_WISH_S = 0.25
"""A service manager signals every process of a service, and our supervisor passes its signal on: what arrives together
is one wish to stop, not a second one."""


class AskToStop(Protocol):
    """What a signal leads to."""

    def __call__(self, *, now: bool = False) -> None:
        """Stop; with `now` without waiting for anything."""
        ...


class StopSignals:
    """While entered, SIGTERM and SIGINT ask to stop: the first in an orderly way, each later one at once. SIGHUP calls
    `on_hangup`, if given.

    Outside the main thread, and with `enabled` false, nothing is changed.
    """

    def __init__(
        self,
        ask: AskToStop,
        *,
        on_hangup: Callable[[], None] | None = None,
        enabled: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._on_hangup = on_hangup
        self._enabled = enabled and threading.current_thread() is threading.main_thread()
        self._monotonic = monotonic
        self._first: float | None = None

    def __enter__(self) -> Self:
        if self._enabled:
            loop = asyncio.get_running_loop()
            for number in STOP_SIGNALS:
                loop.add_signal_handler(number, self._caught)
            if self._on_hangup is not None:
                loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._enabled:
            loop = asyncio.get_running_loop()
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)
            if self._on_hangup is not None:
                loop.remove_signal_handler(signal.SIGHUP)

    def _caught(self) -> None:
        now = self._monotonic()
        if self._first is None:
            self._first = now
            self._ask(now=False)
        elif now - self._first >= SAME_WISH_S:
            self._ask(now=True)
