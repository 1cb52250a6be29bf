"""What a handler may raise to steer more than its own job. (What steers its own job alone is in `toril.errors`.)"""

from __future__ import annotations

from toril.errors import ConfigError, Signal
from toril.kernel.durations import Duration, seconds


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
