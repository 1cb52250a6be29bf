"""What a queue must offer to be measured: the smallest set that every measure can be made of.

A measure is written once, over this protocol; an adapter translates and times nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Handler = Callable[[int], int]
"""What a job does: it is called with the job's number as its run starts, and its answer is the job's result."""


class Queue(Protocol):
    """One queue with one task. A new object stands for a new process: it shares nothing but the folder."""

    async def open(self) -> None:
        """Open the store, making it when there is none."""
        ...

    async def close(self) -> None:
        """Let go of the store."""
        ...

    async def enqueue(self, number: int) -> None:
        """Add one job. Returns when it is stored."""
        ...

    async def enqueue_all(self, numbers: Sequence[int]) -> None:
        """Add many jobs in the fastest way that the library documents. Returns when all are stored."""
        ...

    async def start_worker(self) -> None:
        """Start one worker in this process."""
        ...

    async def stop_worker(self) -> None:
        """Stop it again."""
        ...

    async def finished(self) -> int | None:
        """How many jobs the store knows as finished, None when it keeps no record of them."""
        ...


Make = Callable[[Path, Handler], Queue]


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A queue in one setting.

    `setting` says in words how it was set up. `skips` are the measures it has no answer to. `scale` shrinks or grows
    the number of jobs, so that a slow one ends today and a fast one runs long enough to be measured. `package` names
    the distribution whose version is reported.
    """

    name: str
    setting: str
    make: Make
    package: str | None
    skips: frozenset[str] = frozenset()
    scale: float = 1.0
    scales: tuple[tuple[str, float], ...] = ()

    def jobs(self, measure: str, jobs: int) -> int:
        """How many jobs this one gets of a measure that has `jobs` of them."""
        return max(10, round(jobs * dict(self.scales).get(measure, self.scale)))
