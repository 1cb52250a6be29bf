"""The Redis engine against the suite, on a server of its own."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from itertools import count

import pytest
import pytest_asyncio

from tests.redis.server import RedisServer
from toril.engine.protocol import Engine
from toril.engine.redis.address import Address, parse_address
from toril.engine.redis.client import RedisClient
from toril.engine.redis.engine import RedisEngine, Wire
from toril.kernel.clock import Clock
from toril.testing.conformance.factory import EngineFactory
from toril.testing.conformance.suite import Conformance

# Takes the given time off whatever expires, as if it had passed on the server, too.
AGE = """
local at = '0'
repeat
  local reply = redis.call('SCAN', at, 'COUNT', 1000)
  at = reply[1]
  for _, key in ipairs(reply[2]) do
    if string.sub(key, 1, 13) == 'toril:limits:' then
      -- What was counted holds a time of the server's clock.
      local meter = cmsgpack.unpack(redis.call('GET', key))
      meter[1] = meter[1] - 1000 * ARGV[1]
      redis.call('SET', key, cmsgpack.pack(meter), 'KEEPTTL')
    end
    local left = redis.call('PTTL', key)
    if left >= 0 and left <= tonumber(ARGV[1]) then
      redis.call('DEL', key)
    elseif left >= 0 then
      redis.call('PEXPIRE', key, left - ARGV[1])
    end
  end
until at == '0'
"""


class RedisEngines(EngineFactory):
    """Each store of a case is one database of the server."""

    def __init__(self, address: Address, wire: Wire) -> None:
        self.address = address
        self.wire: Wire = wire
        self.numbers = count()
        self.opened: dict[str, RedisClient] = {}
        self.first: list[Engine] = []

    async def open(self, clock: Clock) -> Engine:
        address = replace(self.address, db=next(self.numbers))
        engine = await self.started(address)
        client = self.opened[engine.location] = RedisClient(address)
        await client.call("FLUSHDB")
        self.first.append(engine)
        return engine

    async def second(self, engine: Engine) -> Engine:
        return await self.started(parse_address(engine.location))

    async def reopen(self, engine: Engine) -> Engine:
        await engine.close()
        again = await self.started(parse_address(engine.location))
        self.first.append(again)
        return again

    async def elapse(self, engine: Engine, ms: int) -> None:
        # Two engines on one store have one server, whose clock is moved once.
        if engine in self.first:
            await self.opened[engine.location].call("EVAL", AGE, 0, ms)

    async def close(self) -> None:
        for client in self.opened.values():
            await client.close()

    async def started(self, address: Address) -> Engine:
        engine = RedisEngine(address, wire=self.wire)
        await engine.start()
        return engine


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


class OnRedis(Conformance):
    wire: Wire = "auto"

    @pytest_asyncio.fixture
    async def engines(self, server: RedisServer) -> AsyncIterator[EngineFactory]:
        factory = RedisEngines(parse_address(server.url), self.wire)
        yield factory
        await factory.close()


class TestRedis(OnRedis):
    pass


class TestRedisAsBullMq5(OnRedis):
    wire: Wire = "bullmq5"
