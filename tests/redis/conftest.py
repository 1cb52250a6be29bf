"""Servers for the tests of the Redis engine: one that all share, and such as a test may kill."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.redis.server import RedisServer, major
from toril.engine.redis.address import parse_address
from toril.engine.redis.client import RedisClient

StartServer = Callable[..., RedisServer]


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Started once. Who uses it leaves it running."""
    # Version 6 allows it as it is, and does not know the option.
    options = ("--enable-debug-command", "yes") if major() > 6 else ()
    server = RedisServer(tmp_path_factory.mktemp("redis"), *options)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers of the test's own: `start_server("--requirepass", "x")`. They end with the test."""
    servers: list[RedisServer] = []

    def start(*options: str, plain: bool = True) -> RedisServer:
        server = RedisServer(tmp_path / f"redis-{len(servers)}", *options, plain=plain)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
async def client(shared_server: RedisServer) -> AsyncIterator[RedisClient]:
    """A client of the shared server, whose database 0 is empty."""
    client = RedisClient(parse_address(shared_server.url))
    await client.call(b"FLUSHDB")
    yield client
    await client.close()
