"""What can be set on a worker, and how long a queue keeps its finished jobs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from toril.errors import ConfigError
from toril.jobs.limits import QueueLimits
from toril.jobs.options import Keep
from toril.jobs.telling import Told

DAY_S = 86_400.0
MOST_JOBS_PER_CALL = 1_000
_MANY = 16
MOST_BYTES_PER_CALL = 4 * 1024 * 1024
LISTEN_S = 40.0
IDLE_BEATS = 5
# In recover_every_ms: ten minutes and an hour by default.
CHORES = 60
ECO_CHORES = 360
# In the time after which a job of a vanished worker is to be back in line: 20 and 30 seconds by default.
LOOK = 0.8
ECO_LOOK = 1.2
ECO_LOOK_FOR_DUE_S = 600.0
ECO_LISTEN_S = 120.0
ECO_IDLE_BEAT_MS = 280_000


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePolicy:
    """What maintenance keeps of a queue: bounds for Toril's own completed and failed jobs (None keeps all), and about
    how many events; and what its application declares of queue-wide limits and of the events that are told, None when
    it says nothing.
    """

    completed: Keep | None = Keep(7 * DAY_S, 1_000)
    failed: Keep | None = Keep(14 * DAY_S, 10_000)
    events: int = 10_000
    limits: QueueLimits | None = None
    told: Told | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How a worker works. Names that end in `_ms` are milliseconds, in `_s` seconds. Raises ConfigError.

    concurrency: slots, shared by all queues of the worker · lock_ms: how long a job stays locked without a sign of
    life · heartbeat_ms: how often locks are renewed · recover_every_ms: how often jobs of vanished workers are looked
    for · max_stalls: how often a job may lose its worker before it fails · shutdown_timeout_s: how long running jobs
    may go on after a stop was asked for · grace_s: how long a handler may clean up after it was told to stop ·
    poll_s: how often an idle worker looks by itself · eco: whether an idle worker asks as little of the store as it can
    · unknown: what becomes of a job whose task is not registered: `snooze` waits `unknown_after_s` for a worker that
    knows it, `fail` fails it at once · result_limit: most bytes of a result · result_over_limit:
    `fail` fails the job of a larger one, `drop` completes it with null · processes: most processes for
    `pool="process"`, None is one per core · blocked_after_s: how long a handler may block the event loop before that is
    reported · hand_in_timeout_s: how long `stop` tries to hand in outcomes when the store is away.
    """

    concurrency: int = 5
    lock_ms: int = 15_000
    heartbeat_ms: int = 5_000
    recover_every_ms: int = 10_000
    prune_every_ms: int = 1_000
    max_stalls: int = 2
    shutdown_timeout_s: float = 30.0
    grace_s: float = 1.0
    poll_s: float = 20.0
    eco: bool = False
    unknown: Literal["snooze", "fail"] = "snooze"
    unknown_snooze_s: float = 30.0
    unknown_after_s: float = 600.0
    result_limit: int = 1024 * 1024
    result_over_limit: Literal["fail", "drop"] = "fail"
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
        if self.result_over_limit not in ("fail", "drop"):
            raise ConfigError(f"result_over_limit: expected 'fail' or 'drop', got {self.result_over_limit!r}.")
        if self.processes is not None and self.processes < 1:
            raise ConfigError(f"processes: expected a whole number from 1 on, got {self.processes!r}.")

    @property
    def most_taken(self) -> int:
        """How many jobs one exchange may take. With many slots that is half of them: the store finds the next half
        while this one is run, instead of each waiting for the other.
        """
        return min(MOST_JOBS_PER_CALL, self.concurrency if self.concurrency < _MANY else self.concurrency // 2)

    @property
    def look_s(self) -> float:
        """How often an idle worker looks whether a wake-up was missed or jobs have lost their worker.

        A job that was not there at the last look loses its lock no sooner than a lock time after it: for its worker's
        death to be noticed within lock_ms and recover_every_ms it is enough to look somewhat more often than that.
        """
        after_s = (self.lock_ms + self.recover_every_ms) / 1000
        return max(self.poll_s, ECO_LOOK * after_s) if self.eco else min(self.poll_s, LOOK * after_s)

    @property
    def look_for_due_s(self) -> float:
        """How often it looks for delayed jobs that only a vanished worker knew of."""
        return ECO_LOOK_FOR_DUE_S if self.eco else 0.0

    @property
    def listen_s(self) -> float:
        """How long it waits for a wake-up at a time."""
        return ECO_LISTEN_S if self.eco else LISTEN_S

    @property
    def idle_beat_ms(self) -> int:
        """How often an idle worker shows itself. Some milliseconds less than one would think: connections that say
        nothing for longer are asked whether they live.
        """
        return ECO_IDLE_BEAT_MS if self.eco else IDLE_BEATS * self.heartbeat_ms

    @property
    def chores_every_ms(self) -> int:
        """How often a quiet queue is looked after: jobs that grew too old, schedules that have lost their run."""
        return (ECO_CHORES if self.eco else CHORES) * self.recover_every_ms

    @property
    def lease_ms(self) -> int:
        """How long the maintenance of a queue belongs to a worker that does not renew it."""
        return self.recover_every_ms

    @property
    def process_count(self) -> int:
        """How many processes the pool for `pool="process"` may have."""
        return min(self.concurrency, self.processes or os.cpu_count() or 1)
