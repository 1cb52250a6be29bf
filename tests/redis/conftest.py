"""Servers for the tests of the Redis engine: one that all share, and such as a test may kill."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.redis.nodes import ClusterServers
from tests.redis.server import RedisServer, major
from toril.engine.redis.address import parse_address
from toril.engine.redis.client import RedisClient

StartServer = Callable[..., RedisServer]
StartCluster = Callable[..., ClusterServers]


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Started once. Who uses it leaves it running."""
    # Version 6 allows it as it is, and does not know the option.
    options = ("--enable-debug-command", "yes") if major() > 6 else ()
    server = RedisServer(tmp_path_factory.mktemp("redis"), *options)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterServers]:
    """Three masters, started once. Who uses it leaves it running, and whole."""
    cluster = ClusterServers(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[StartCluster]:
    """Starts clusters of the test's own: `start_cluster("--appendonly", "yes", replicas=1)`. They end with the test."""
    clusters: list[ClusterServers] = []

    def start(*options: str, masters: int = 3, replicas: int = 0) -> ClusterServers:
        folder = tmp_path / f"cluster-{len(clusters)}"
        cluster = ClusterServers(folder, *options, masters=masters, replicas=replicas)
        clusters.append(cluster)
        cluster.start()
        return cluster

    yield start
    for cluster in clusters:
        cluster.stop()


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
