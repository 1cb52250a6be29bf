"""What is told of a breaker."""

from __future__ import annotations

from typing import NamedTuple


class BreakerStats(NamedTuple):
    """A breaker at a glance.

    `state` is what holds for callers, `forced` what an operator wants (None: nothing). `calls` to `fallbacks` are of
    this process since it started; `error_rate` is of its window. `last_error` is of whichever process failed last,
    without secrets, `last_error_at`, `opened_at` and `retry_at` are wall times (ms), None without one. `alone` is true
    when it is open in this process only.
    """

    name: str
    group: str
    state: str
    forced: str | None
    calls: int
    failures: int
    slow: int
    rejected: int
    timeouts: int
    fallbacks: int
    error_rate: float
    last_error: str
    last_error_at: int | None
    opened_at: int | None
    retry_at: int | None
    alone: bool
