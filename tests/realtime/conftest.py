"""Applications on every kind of store, closed afterwards."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.redis.conftest import shared_server
from tests.redis.server import RedisServer
from toril import Toril
from toril.engine.redis.address import parse_address
from toril.engine.redis.client import RedisClient

__all__ = ["shared_server"]


@pytest.fixture(params=["memory", "file", "redis"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that is empty."""
    if request.param == "memory":
        return "sqlite://"
    if request.param == "file":
        return f"sqlite:///{tmp_path}/toril.db"
    server: RedisServer = request.getfixturevalue("shared_server")
    client = RedisClient(parse_address(server.url))
    await client.call(b"FLUSHDB")
    await client.close()
    return server.url


@pytest.fixture
async def toril(url: str) -> AsyncIterator[Toril]:
    """An application on the store."""
    async with Toril(url) as app:
        yield app
