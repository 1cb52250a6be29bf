"""The limits of a queue as the model sees them."""

from dataclasses import dataclass, field

from toril.jobs.limits import QueueLimits

ENDLESS = 1 << 60


@dataclass
class ModelGate:
    """So many at once, so many in a window that begins with the first; or nothing until a time."""

    limits: QueueLimits = field(default_factory=QueueLimits)
    declared: str | None = None
    used: int = 0
    until: int = 0

    def set(self, now: int, limits: QueueLimits, declared: bool) -> bool:
        if declared:
            if self.declared == limits.stored():
                return False
            self.declared = limits.stored()
        self.limits = limits
        if limits.rate is not None and self.used < ENDLESS:
            self.until = min(self.until, now + limits.rate[1])
        return True

    def stop(self, now: int, ms: int) -> None:
        self._pass(now)
        if self.used < ENDLESS or now + ms > self.until:
            self.used, self.until = ENDLESS, now + ms

    def room(self, now: int, want: int, active: int) -> int:
        self._pass(now)
        if self.used >= ENDLESS:
            return 0
        most = want if self.limits.rate is None else min(want, self.limits.rate[0] - self.used)
        return max(0, most if self.limits.concurrency is None else min(most, self.limits.concurrency - active))

    def took(self, now: int, started: int) -> None:
        if started and self.limits.rate is not None:
            self.until = self.until if self.used else now + self.limits.rate[1]
            self.used += started

    def limited_ms(self, now: int) -> int:
        self._pass(now)
        closed = self.used >= (ENDLESS if self.limits.rate is None else self.limits.rate[0])
        return self.until - now if closed else 0

    def is_full(self, active: int, in_line: int) -> bool:
        return self.limits.concurrency is not None and active >= self.limits.concurrency and in_line > 0

    def _pass(self, now: int) -> None:
        if self.until <= now:
            self.used = 0
