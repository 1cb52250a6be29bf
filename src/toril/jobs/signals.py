"""What a handler may raise to have its job run again after a wait. (`NeverRetry` is in `toril.errors`.)"""

from __future__ import annotations

from toril.errors import ConfigError, Signal
from toril.kernel.durations import Duration, seconds


class Retry(Signal):
    """Run the job again; this run counts as a failed attempt.

    `in_` is the wait until the next attempt, a duration: seconds, a timedelta or text such as `"5m"`; None means the
    job's own backoff. When no attempt is left, the job fails with `reason`. Raises ConfigError for a bad duration.
    """

    def __init__(self, reason: str = "", *, in_: Duration | None = None) -> None:
        super().__init__(reason or "the handler asked for a retry")
        self.reason = reason or "the handler asked for a retry"
        self.delay_s = None if in_ is None else seconds(in_, "Retry in_")


class Snooze(Signal):
    """Run the job again after `in_`, a duration as above; this run is not counted as an attempt.

    Raises ConfigError for a bad duration.
    """

    def __init__(self, in_: Duration, reason: str = "") -> None:
        super().__init__(reason or "the handler snoozed its job")
        self.reason = reason
        self.delay_s = seconds(in_, "Snooze in_")


class RateLimited(Signal):
    """Start no more jobs of this queue for a while, on any worker, and run this one again first of all.

    For a service behind the handler that says "too many requests". `in_` is a duration: seconds, a timedelta or text
    such as `"30s"`. The run is not counted as an attempt. Jobs that are running go on. Raises ConfigError for a wait
    that is no duration, or none at all.
    """

    def __init__(self, in_: Duration, reason: str = "") -> None:
        super().__init__(reason or "the handler met a rate limit")
        self.reason = reason
        self.delay_s = seconds(in_, "RateLimited in_")
        if self.delay_s < 0.001:
            raise ConfigError(f"RateLimited in_: expected at least a millisecond, got {in_!r}.")
