"""Where batches are sent: the application's store, and no refuge of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from toril.engine.ports.jobs import LONG_MEMORY_MS, Added
from toril.engine.protocol import Engine
from toril.engine.sheltered import ShelteredEngine
from toril.jobs.model import NewJob


class Destination:
    """The store that `open_store` answers."""

    def __init__(self, open_store: Callable[[], Awaitable[Engine]]) -> None:
        self._open = open_store

    async def is_away(self) -> bool:
        """Whether it is known not to answer now. Asks it nothing. Raises EngineClosed."""
        engine = await self._open()
        return isinstance(engine, ShelteredEngine) and engine.is_away

    async def forward(self, queue: str, jobs: Sequence[NewJob], *, batch: str, now: int) -> Added:
        """`JobStore.add` of a batch that is to be remembered for LONG_MEMORY_MS. Raises as it does."""
        engine = await self._open()
        if isinstance(engine, ShelteredEngine):
            return await engine.forward(queue, jobs, batch=batch, now=now)
        return await engine.jobs.add(queue, jobs, batch=batch, now=now, remember_ms=LONG_MEMORY_MS)

    async def has_any(self, queue: str, ids: Iterable[str]) -> bool:
        """Whether one of these jobs is stored. Raises EngineError."""
        engine = await self._open()
        for id_ in ids:
            if await engine.inspect.get(id_, queue) is not None:
                return True
        return False
