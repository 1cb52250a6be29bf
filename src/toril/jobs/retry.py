"""Retry policies: how long to wait before the next attempt, as pure functions of the attempt and the error."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from toril.errors import ConfigError
from toril.kernel.backoff import Draw, wait_s
from toril.kernel.durations import LONGEST_S, Duration, milliseconds

CustomBackoff = Callable[[int, BaseException], float | None]
"""A backoff of your own: gets the number of the attempt that failed (1 is the first) and its error, returns the
seconds to wait, or None to fail the job now."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Wait the same time before each attempt.

    `delay` is a duration (seconds or text); with `jitter` j in 0..1 each wait is drawn from [delay·(1-j), delay].
    Raises ConfigError for values out of range.
    """

    delay: Duration
    jitter: float = 0.0

    def __post_init__(self) -> None:
        milliseconds(self.delay, "Fixed delay")
        _check_jitter(self.jitter)


@dataclass(frozen=True, slots=True)
class Exponential:
    """Double the wait after each failed attempt: delay, 2·delay, 4·delay, …, at most `cap`.

    `delay` and `cap` are durations; `jitter` as for `Fixed`. Raises ConfigError for values out of range.
    """

    delay: Duration = 1.0
    jitter: float = 0.0
    cap: Duration | None = None

    def __post_init__(self) -> None:
        milliseconds(self.delay, "Exponential delay")
        if self.cap is not None:
            milliseconds(self.cap, "Exponential cap")
        _check_jitter(self.jitter)


Backoff = Fixed | Exponential | CustomBackoff


class BackoffSpec:
    """A stored backoff: what a job's options carry. `name` is set for a custom policy, the rest is its nearest
    built-in.
    """

    __slots__ = ("cap_ms", "delay_ms", "jitter", "kind", "name")

    def __init__(
        self, kind: str, delay_ms: int, jitter: float, cap_ms: int | None = None, name: str | None = None
    ) -> None:
        self.kind = kind
        self.delay_ms = delay_ms
        self.jitter = jitter
        self.cap_ms = cap_ms
        self.name = name

    def delay_ms_for(self, attempt: int, draw: Draw = random.random) -> int:
        """Milliseconds to wait after attempt number `attempt` failed."""
        wait = wait_s(
            attempt,
            base_s=self.delay_ms / 1000,
            factor=2.0 if self.kind == "exponential" else 1.0,
            cap_s=float("inf") if self.cap_ms is None else self.cap_ms / 1000,
            jitter=self.jitter,
            draw=draw,
        )
        # Doubling soon leaves what a store can count; nobody waits that long anyway.
        return round(min(wait, LONGEST_S) * 1000)


# A custom policy cannot travel; a peer that does not know it waits a second, as the default does.
_NEAREST_TO_CUSTOM_MS = 1000


def spec_of(backoff: Backoff | None) -> BackoffSpec | None:
    """The storable form of a backoff; None stays None (retry at once)."""
    if backoff is None:
        return None
    if isinstance(backoff, Fixed):
        return BackoffSpec("fixed", milliseconds(backoff.delay), backoff.jitter)
    if isinstance(backoff, Exponential):
        cap = None if backoff.cap is None else milliseconds(backoff.cap)
        return BackoffSpec("exponential", milliseconds(backoff.delay), backoff.jitter, cap)
    if callable(backoff) and not isinstance(backoff, type):
        return BackoffSpec("exponential", _NEAREST_TO_CUSTOM_MS, 0.0, name=custom_name(backoff))
    raise ConfigError(
        f"backoff: expected Fixed, Exponential or a function (attempt, error) -> seconds, got {backoff!r}."
    )


def custom_name(backoff: CustomBackoff) -> str:
    """The name under which a custom policy is written into a job."""
    return str(getattr(backoff, "__qualname__", type(backoff).__qualname__))


def _check_jitter(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError(f"jitter: expected a number from 0 to 1, got {value!r}.")
