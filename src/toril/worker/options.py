"""What can be set on a worker, and how long a queue keeps its finished jobs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from toril.errors import ConfigError
from toril.jobs.limits import QueueLimits
from toril.jobs.options import Keep

DAY_S = 86_400.0
MOST_JOBS_PER_CALL = 1_000
MOST_BYTES_PER_CALL = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePolicy:
    """What maintenance keeps of a queue: bounds for Toril's own completed and failed jobs (None keeps all), and about
    how many events; and the queue-wide limits that its application declares, None when it says nothing of them.
    """

    completed: Keep | None = Keep(7 * DAY_S, 1_000)
    failed: Keep | None = Keep(14 * DAY_S, 10_000)
    events: int = 10_000
    limits: QueueLimits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How a worker works. Names that end in `_ms` are milliseconds, in `_s` seconds. Raises ConfigError.

    concurrency: slots, shared by all queues of the worker · lock_ms: how long a job stays locked without a sign of
    life · heartbeat_ms: how often locks are renewed · recover_every_ms: how often jobs of vanished workers are looked
    for · max_stalls: how often a job may lose its worker before it fails · shutdown_timeout_s: how long running jobs
    may go on after a stop was asked for · grace_s: how long a handler may clean up after it was told to stop ·
    poll_s: how often an idle worker looks by itself · unknown: what becomes of a job whose task is not registered:
    `snooze` waits `unknown_after_s` for a worker that knows it, `fail` fails it at once · result_limit: most bytes of a
    result · processes: most processes for `pool="process"`, None is one per core · blocked_after_s: how long a
    handler may block the event loop before that is reported · hand_in_timeout_s: how long `stop` tries to hand in
    outcomes when the store is away.
    """

    concurrency: int = 5
    lock_ms: int = 15_000
    heartbeat_ms: int = 5_000
    recover_every_ms: int = 10_000
    prune_every_ms: int = 1_000
    max_stalls: int = 2
    shutdown_timeout_s: float = 30.0
    grace_s: float = 1.0
    poll_s: float = 5.0
    unknown: Literal["snooze", "fail"] = "snooze"
    unknown_snooze_s: float = 30.0
    unknown_after_s: float = 600.0
    result_limit: int = 1024 * 1024
    processes: int | None = None
    blocked_after_s: float = 1.0
    hand_in_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        for name in ("concurrency", "lock_ms", "heartbeat_ms", "recover_every_ms", "prune_every_ms", "result_limit"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name}: expected a whole number from 1 on, got {value!r}.")
        for name in ("shutdown_timeout_s", "grace_s", "poll_s", "blocked_after_s", "hand_in_timeout_s"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise ConfigError(f"{name}: expected seconds ≥ 0, got {value!r}.")
        if self.heartbeat_ms * 2 > self.lock_ms:
            raise ConfigError(
                f"heartbeat_ms: expected at most half of lock_ms ({self.lock_ms}), so that one lost beat loses no "
                f"lock, got {self.heartbeat_ms}."
            )
        if self.unknown not in ("snooze", "fail"):
            raise ConfigError(f"unknown: expected 'snooze' or 'fail', got {self.unknown!r}.")
        if self.processes is not None and self.processes < 1:
            raise ConfigError(f"processes: expected a whole number from 1 on, got {self.processes!r}.")

    @property
    def process_count(self) -> int:
        """How many processes the pool for `pool="process"` may have."""
        return min(self.concurrency, self.processes or os.cpu_count() or 1)
