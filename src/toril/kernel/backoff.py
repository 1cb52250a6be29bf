"""Growing waits with jitter: one formula for retries of jobs and for reconnects.

wait(n) = min(cap, base · factor^(n-1)), then drawn from [wait·(1-jitter), wait]: BullMQ's meaning of jitter
(docs.bullmq.io/guide/retrying-failing-jobs).
"""

from __future__ import annotations

import random
from collections.abc import Callable

Draw = Callable[[], float]
"""A source of numbers in [0, 1)."""

_BIGGEST_EXPONENT = 64


def wait_s(
    attempt: int,
    *,
    base_s: float,
    factor: float = 2.0,
    cap_s: float = float("inf"),
    jitter: float = 0.0,
    draw: Draw = random.random,
) -> float:
    """Seconds to wait after attempt number `attempt` (1 is the first) has failed."""
    exponent = min(max(attempt, 1) - 1, _BIGGEST_EXPONENT)
    wait = min(cap_s, base_s * factor**exponent)
    return wait * (1 - jitter * draw()) if jitter else wait
