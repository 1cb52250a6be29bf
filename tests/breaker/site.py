"""Several applications over one store, a clock moved by hand, and things to call."""

import asyncio
from collections.abc import Callable
from typing import Any

from toril.breaker.breaker import Breaker
from toril.breaker.breakers import Breakers
from toril.engine.protocol import Engine
from toril.errors import EngineUnavailable
from toril.kernel.blocking import BlockingLoop
from toril.testing.clock import ManualClock

PATIENCE_S = 30.0


class Broken(Exception):
    """What is called fails."""


async def well(value: int = 1) -> int:
    return value


async def badly() -> int:
    raise Broken("no luck, password=hunter2")


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what others do."""
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.wait([never], timeout=0.005)


class Site:
    """The store may be taken `away`; `asked` counts how often it was wanted."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.clock = ManualClock()
        self.away = False
        self.asked = 0
        self._opened: list[Breakers] = []
        self._loops: list[BlockingLoop] = []

    def process(self) -> Breakers:
        """One more process."""
        loop = BlockingLoop()
        made = Breakers(self._get, clock=self.clock, blocking=loop)
        self._opened.append(made)
        self._loops.append(loop)
        return made

    def breakers(self, count: int, **options: Any) -> list[Breaker]:
        """One breaker as so many processes have it."""
        options = {"volume": 4, "reset_after": 5} | options
        return [self.process().breaker("api", **options) for _ in range(count)]

    async def told(self) -> None:
        """Every process has told what it had to tell, and knows what the store says."""
        for breakers in self._opened:
            await breakers.told()
        for breakers in self._opened:
            await breakers.stats()

    async def open(self, breaker: Breaker) -> None:
        """Let it fail until it is open, for all."""
        while not breaker.opened:
            await fail(breaker)
        await self.told()

    async def close(self) -> None:
        for breakers in self._opened:
            await breakers.close()
        for loop in self._loops:
            await asyncio.to_thread(loop.close)

    async def _get(self) -> Engine:
        self.asked += 1
        if self.away:
            raise EngineUnavailable("the store is away")
        return self.engine


async def fail(breaker: Breaker, times: int = 1) -> None:
    """Calls that fail."""
    for _ in range(times):
        try:
            await breaker.call(badly)
        except Broken:
            continue
        raise AssertionError("it did not fail")
