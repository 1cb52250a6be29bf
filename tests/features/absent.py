"""A store that is away when a test says so."""

from __future__ import annotations

from toril import EngineUnavailable
from toril.engine.protocol import Engine
from toril.engine.sqlite.engine import SqliteEngine


class Absent:
    """An engine in memory, and how often it was asked for."""

    def __init__(self) -> None:
        self.inner = SqliteEngine()
        self.away = False
        self.asked = 0

    async def open(self) -> Engine:
        await self.inner.start()
        self.asked += 1
        if self.away:
            raise EngineUnavailable("memory: nobody answers.")
        return self.inner
