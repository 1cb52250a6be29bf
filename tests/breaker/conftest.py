"""Stores for breakers, and applications that share one."""

from collections.abc import AsyncIterator

import pytest

from tests.breaker.site import Site
from tests.redis.conftest import shared_server
from tests.redis.server import RedisServer
from toril.engine.protocol import Engine
from toril.engine.redis.address import parse_address
from toril.engine.redis.client import RedisClient
from toril.engine.redis.engine import RedisEngine
from toril.engine.sqlite.engine import SqliteEngine

__all__ = ["shared_server"]


@pytest.fixture(params=["sqlite", "redis"])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """Processes that share a store, played by objects of one process."""
    engine: Engine = SqliteEngine()
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("shared_server")
        client = RedisClient(parse_address(server.url))
        await client.call("FLUSHDB")
        await client.close()
        engine = RedisEngine(server.url)
    await engine.start()
    site = Site(engine)
    yield site
    await site.close()
    await engine.close()
