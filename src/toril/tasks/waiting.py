"""Jobs that are not in the store yet, as handles see them."""

from __future__ import annotations

from typing import Protocol

from toril.jobs.model import CancelRequest, Job


class WaitingRoom(Protocol):
    """Where jobs wait while the store is away. Its methods raise EngineError."""

    async def find(self, id: str) -> Job | str | None:
        """A job that waits, or was cancelled while it did; the id of another that stands for it; or None."""
        ...

    async def left(self, id: str) -> None:
        """Return when a job waits no more."""
        ...

    async def cancel(self, id: str, request: CancelRequest) -> bool:
        """Cancel a job that waits. False when it does not, or may be in the store already."""
        ...
