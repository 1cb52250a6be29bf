"""What a worker asks of schedules, without knowing them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from toril.jobs.model import TakenJob


class RunPlanner(Protocol):
    """Keeps schedules going. Every method raises EngineUnavailable when the store is away, and may then be called again
    with the same arguments.
    """

    async def plan(self, queue: str, job: TakenJob) -> None:
        """A run of a schedule starts: plan the one after it."""
        ...

    async def declare(self, queues: Sequence[str]) -> None:
        """A worker of these queues starts: store the schedules that their tasks declare."""
        ...

    async def heal(self, queue: str) -> None:
        """Plan what is due of schedules that have lost their planned run."""
        ...
