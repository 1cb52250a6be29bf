"""Where the state machine runs: an engine on an empty store, and how time passes there."""

from abc import ABC, abstractmethod

from tests.engines.test_redis import AGE
from toril.engine.protocol import Engine
from toril.engine.redis.address import parse_address
from toril.engine.redis.client import RedisClient
from toril.engine.redis.engine import RedisEngine
from toril.engine.redis.link import ClientOptions
from toril.engine.sqlite.engine import SqliteEngine


class Store(ABC):
    """One empty store. `unit_ms` is what the machine takes for a second."""

    unit_ms: int

    @abstractmethod
    async def open(self) -> Engine: ...

    async def elapse(self, ms: int) -> None:  # noqa: B027 - most stores have nothing to do
        """Let time pass."""

    @abstractmethod
    async def close(self) -> None: ...


class MemoryStore(Store):
    """SQLite in memory: exact to the millisecond."""

    unit_ms = 1_000

    def __init__(self) -> None:
        self.engine = SqliteEngine()

    async def open(self) -> Engine:
        await self.engine.start()
        return self.engine

    async def close(self) -> None:
        await self.engine.close()


class RedisStore(Store):
    """A database of a running server, whose own clock goes on: what counts is hours, so that seconds do not matter."""

    unit_ms = 3_600_000

    def __init__(self, url: str, wire: str) -> None:
        self.engine = RedisEngine(url, wire=wire, client=ClientOptions(timeout_s=60))
        self.client = RedisClient(parse_address(url))

    async def open(self) -> Engine:
        await self.client.call("FLUSHDB")
        await self.engine.start()
        return self.engine

    async def elapse(self, ms: int) -> None:
        await self.client.call("EVAL", AGE, 0, ms)

    async def close(self) -> None:
        await self.engine.close()
        await self.client.close()
