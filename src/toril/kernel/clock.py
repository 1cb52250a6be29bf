"""Time, injected. Nothing else in the package reads the system's clocks for a decision about jobs."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where wall time comes from."""

    def now_ms(self) -> int:
        """Wall time in milliseconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000
