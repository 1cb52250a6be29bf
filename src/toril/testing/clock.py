"""Time that passes only when a test says so."""

from __future__ import annotations

import threading

from toril.kernel.durations import Duration, milliseconds

START_MS = 1_700_000_000_000
"""Where a manual clock begins: 2023-11-14 22:13:20 UTC."""


class ManualClock:
    """A `Clock` that stands still until it is moved. Safe to share between threads."""

    def __init__(self, start_ms: int = START_MS) -> None:
        self._lock = threading.Lock()
        self._now_ms = start_ms

    def now_ms(self) -> int:
        """Wall time in milliseconds since 1970-01-01 UTC."""
        with self._lock:
            return self._now_ms

    def advance(self, by: Duration) -> int:
        """Let time pass; answers the new time in milliseconds. Raises ConfigError for what is no duration."""
        return self.advance_ms(milliseconds(by, "advance"))

    def advance_ms(self, by_ms: int) -> int:
        """Let milliseconds pass; below 0 the clock is set back, as clocks of real machines are."""
        with self._lock:
            self._now_ms += by_ms
            return self._now_ms

    def set_ms(self, now_ms: int) -> None:
        """Set the clock to a wall time in milliseconds."""
        with self._lock:
            self._now_ms = now_ms
