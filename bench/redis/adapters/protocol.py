"""What a library must offer to be measured on Redis, and what its jobs do.

This runs in the libraries' own environments: the standard library only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Protocol

QUEUE = "bench"
NAP_S = 0.01
# Where jobs named `stamp` write how long they waited, one line of milliseconds each.
WAITS = "BENCH_WAITS"


class Adapter(Protocol):
    """One library with the tasks `noop`, `nap`, `stamp`, made by `make(url, slots)`. It translates, and times nothing.

    `noop(number)` answers its number, `nap(number)` sleeps NAP_S first, `stamp(number)` calls `stamp_now(number)`.
    """

    async def open(self) -> None:
        """Connect, to enqueue."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...

    async def enqueue(self, task: str, number: int) -> None:
        """Add one job. Returns when it is stored."""
        ...

    async def enqueue_all(self, task: str, numbers: Sequence[int]) -> None:
        """Add many jobs in the fastest way that the library documents. Returns when all are stored."""
        ...

    def work(self) -> None:
        """Run one worker until it is killed. Called without `open`, in a process of its own."""
        ...


def stamp_now(number: int) -> int:
    """Write down how long it is since `number`, in nanoseconds of the machine's monotonic clock."""
    waited = (time.monotonic_ns() - number) / 1e6
    file = os.open(os.environ[WAITS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, f"{waited}\n".encode())
    finally:
        os.close(file)
    return 0
