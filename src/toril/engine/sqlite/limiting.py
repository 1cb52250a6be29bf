"""What the limits of a queue let through in one exchange."""

from __future__ import annotations

from toril.engine.sqlite.statements import load
from toril.engine.sqlite.transaction import Transaction
from toril.jobs.limits import QueueLimits
from toril.kernel.durations import Rate

_SQL = load("limits")
# How many jobs a window has had whose queue a handler has stopped: as BullMQ writes it.
STOPPED = 9_007_199_254_740_991


class Gate:
    """The limits of one queue at one moment. `full` is known after the taking: jobs wait for others to end."""

    __slots__ = ("_concurrency", "_most", "_now", "_until", "_used", "_window_ms", "full")

    def __init__(
        self,
        now: int,
        concurrency: int | None = None,
        most: int | None = None,
        window_ms: int | None = None,
        used: int = 0,
        until: int = 0,
    ) -> None:
        self.full = False
        self._concurrency = concurrency
        self._most = most
        self._window_ms = window_ms
        self._used = used if until > now else 0
        self._until = until
        self._now = now

    @classmethod
    def of(
        cls, now: int, concurrency: int | None, most: int | None, window_ms: int | None, used: int, until: int
    ) -> Gate | None:
        """The gate of a queue from its row; None where nothing limits it."""
        if concurrency is None and most is None and used < STOPPED:
            return None
        return cls(now, concurrency, most, window_ms, used, until)

    def stop(self, tx: Transaction, queue_id: int, ms: int) -> None:
        """Let nothing through for so long. A longer stop that is under way stays."""
        until = self._now + ms
        if self._used < STOPPED or until > self._until:
            self._used, self._until = STOPPED, until
            self._write(tx, queue_id)

    def room(self, tx: Transaction, queue_id: int, want: int) -> int:
        """How many of `want` jobs may be taken."""
        most = want if self._most is None else min(want, self._most - self._used)
        if self._concurrency is not None:
            active, _ = tx.row(_SQL["at_work"], queue=queue_id) or (0, 0)
            most = min(most, self._concurrency - active)
        return 0 if self._used >= STOPPED else max(0, most)

    def took(self, tx: Transaction, queue_id: int, started: int) -> bool:
        """Count jobs that start now. Answers whether workers with free slots can take some of those that are left."""
        if started and self._most is not None and self._window_ms is not None:
            if not self._used:
                self._until = self._now + self._window_ms
            self._used += started
            self._write(tx, queue_id)
        if self._concurrency is None:
            return False
        active, in_line = tx.row(_SQL["at_work"], queue=queue_id) or (0, 0)
        self.full = in_line > 0 and active >= self._concurrency
        return in_line > 0 and not self.full

    @property
    def limited_ms(self) -> int:
        """How long nothing more may start, whatever ends."""
        closed = self._used >= STOPPED or (self._most is not None and self._used >= self._most)
        return self._until - self._now if closed else 0

    def _write(self, tx: Transaction, queue_id: int) -> None:
        tx.run(_SQL["set_used"], queue=queue_id, used=self._used, until=self._until)


def read_limits(tx: Transaction, queue: str) -> QueueLimits:
    """The limits of a queue."""
    concurrency, most, window_ms = tx.row(_SQL["limits"], queue=queue) or (None, None, None)
    return QueueLimits(concurrency, None if most is None or window_ms is None else Rate(most, window_ms))


def write_limits(tx: Transaction, queue_id: int, limits: QueueLimits, declared: bool, now: int) -> bool:
    """Set the limits of a queue, unless the same were declared last. Answers whether they were set."""
    if declared and not tx.run(_SQL["declare"], queue=queue_id, declared=limits.stored()):
        return False
    most, window_ms = limits.rate or (None, None)
    tx.run(
        _SQL["set_limits"],
        queue=queue_id,
        concurrency=limits.concurrency,
        most=most,
        ms=window_ms,
        stopped=STOPPED,
        now=now,
    )
    return True
