"""What one process has seen of a breaker: counts that only grow, and how they stood when each bucket began."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from toril.breaker.record import BUCKETS


class Counted(NamedTuple):
    """Calls that ended, and how many of them failed or were slow."""

    calls: int
    failures: int
    slow: int

    def since(self, earlier: Counted) -> Counted:
        """What has been counted since then."""
        return Counted(self.calls - earlier.calls, self.failures - earlier.failures, self.slow - earlier.slow)


class Window:
    """Calls, failures and slow calls since the start, and of the last `window_s` seconds. Of constant size. Times are
    seconds of a monotonic clock.

    `ends` is when the present bucket ends: who counts looks at it first, and calls `turn` when it is past.
    """

    __slots__ = ("_marks", "_told", "_width", "calls", "ends", "era", "failures", "slow")

    def __init__(self, window_s: float, now: float) -> None:
        self.calls = 0
        self.failures = 0
        self.slow = 0
        self.era = 0
        self.clear(window_s, now)

    @property
    def total(self) -> Counted:
        """Everything since the start."""
        return Counted(self.calls, self.failures, self.slow)

    def clear(self, window_s: float, now: float) -> None:
        """Begin anew with an empty window, and another `era`."""
        self.era += 1
        self._width = window_s / BUCKETS
        self._marks = deque([self.total] * BUCKETS, maxlen=BUCKETS)
        self._told = self.total
        self.ends = now + self._width

    def turn(self, now: float) -> None:
        """Go on to the bucket of this time."""
        steps = min(BUCKETS, 1 + int((now - self.ends) / self._width))
        self._marks.extend([self.total] * steps)
        self.ends = max(self.ends + steps * self._width, now) if steps < BUCKETS else now + self._width

    def sums(self) -> Counted:
        """What is in the window."""
        return self.total.since(self._marks[0])

    def untold(self) -> Counted:
        """What is in the window and was not told to others."""
        return self.total.since(max(self._told, self._marks[0]))

    def told(self, what: Counted) -> None:
        """So much of what was untold has been told now."""
        begun = max(self._told, self._marks[0])
        self._told = Counted(begun.calls + what.calls, begun.failures + what.failures, begun.slow + what.slow)
