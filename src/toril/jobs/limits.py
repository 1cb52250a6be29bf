"""Queue-wide limits: how many jobs of a queue may run at once, and how many may start in a time, over all workers."""

from __future__ import annotations

from typing import Any, NamedTuple

from toril.errors import ConfigError
from toril.kernel.durations import Rate, rate_of

MOST_AT_ONCE = 1_000_000_000


class QueueLimits(NamedTuple):
    """The limits of a queue; None is no limit. `rate` counts the jobs that start."""

    concurrency: int | None = None
    rate: Rate | None = None

    def stored(self) -> str:
        """As short text, by which two declarations are compared."""
        most, per_ms = self.rate or ("", "")
        return f"{self.concurrency or ''} {most}/{per_ms}"


def limits_of(concurrency: int | None, rate: str | None) -> QueueLimits:
    """Limits as people write them: a number, and text such as `"3000/s"` or `"1000/15m"`. Raises ConfigError."""
    given: Any = concurrency
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MOST_AT_ONCE):
        raise ConfigError(
            f"concurrency: expected a whole number from 1 to {MOST_AT_ONCE}, got {given!r}; pause a queue to stop it."
        )
    return QueueLimits(concurrency, None if rate is None else rate_of(rate))
