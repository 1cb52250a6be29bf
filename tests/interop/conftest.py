"""Real peers for the tests of this folder: a redis-server of their own and the packages of `node/`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop import dump, packages
from tests.redis.server import RedisServer

_NEEDS_NODE = "node"
_problem = pytest.StashKey[str]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install before the first test, so that no test's time limit counts it."""
    if any(item.get_closest_marker(_NEEDS_NODE) for item in session.items):
        session.config.stash[_problem] = packages.problem()


def pytest_report_header() -> str:
    """Which peers are there."""
    return f"node packages: {packages.versions()}"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis for this folder."""
    redis = RedisServer(tmp_path_factory.mktemp("interop"), "--appendonly", "no")
    redis.start()
    yield redis
    redis.stop()


@pytest.fixture
def empty(server: RedisServer) -> Iterator[dump.Client]:
    """A plain client of that Redis, which holds nothing."""
    with dump.connected(server.port) as client:
        client.flushall()
        yield client


@pytest.fixture(autouse=True)
def _node_is_there(request: pytest.FixtureRequest) -> None:
    """Skip, or in CI fail, tests that need Node where it is missing."""
    problem = request.config.stash.get(_problem, "")
    if problem and request.node.get_closest_marker(_NEEDS_NODE):
        if packages.must_be_there():
            pytest.fail(problem)
        pytest.skip(problem)
