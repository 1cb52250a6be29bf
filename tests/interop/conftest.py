"""Real peers for the tests of this folder: a redis-server of their own and the packages of `node/`
and `python/`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from tests.interop import dump, packages
from tests.interop.peer import Peer, started, started_python
from tests.redis.server import RedisServer

StartPeer = Callable[..., Awaitable[Peer]]

_problem = pytest.StashKey[str]()
_python_problem = pytest.StashKey[str]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install before the first test, so that no test's time limit counts it."""
    if session.config.option.collectonly:
        return
    if any(_needs(item, "node_packages") for item in session.items):
        session.config.stash[_problem] = packages.problem()
    if any(_needs(item, "python_packages") for item in session.items):
        session.config.stash[_python_problem] = packages.python_problem()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which peers there were, or that there were none."""
    if _problem in config.stash:
        terminalreporter.write_line(f"Node peers: {config.stash[_problem] or packages.versions()}")
    if _python_problem in config.stash:
        found = config.stash[_python_problem] or packages.python_versions()
        terminalreporter.write_line(f"Python peer: {found}")


def _needs(item: pytest.Item, fixture: str) -> bool:
    return fixture in getattr(item, "fixturenames", ())


def _demand(problem: str) -> None:
    """Skip, or in CI fail, where a peer is missing."""
    if problem:
        if packages.must_be_there():
            pytest.fail(problem)
        pytest.skip(problem)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis for this folder."""
    redis = RedisServer(tmp_path_factory.mktemp("interop"))
    redis.start()
    yield redis
    redis.stop()


@pytest.fixture
def empty(server: RedisServer) -> Iterator[dump.Client]:
    """A plain client of that Redis, which holds nothing."""
    with dump.connected(server.port) as client:
        client.flushall()
        yield client


@pytest.fixture
def node_packages(request: pytest.FixtureRequest) -> None:
    """Node and its packages are there."""
    _demand(request.config.stash.get(_problem, ""))


@pytest.fixture
def python_packages(request: pytest.FixtureRequest) -> None:
    """The package of PyPI is there."""
    _demand(request.config.stash.get(_python_problem, ""))


@pytest.fixture(params=[5, 6], ids=["v5", "v6"])
def major(request: pytest.FixtureRequest) -> int:
    """The version of BullMQ that the peers of a test run."""
    version: int = request.param
    return version


@pytest.fixture
async def start_peer(node_packages: None, server: RedisServer, major: int) -> AsyncIterator[StartPeer]:
    """Starts Node processes with that version: `await start_peer()`. They end with the test."""
    async with AsyncExitStack() as stack:

        async def start(script: str = "peer.mjs", *words: str, version: int = major) -> Peer:
            return await stack.enter_async_context(started(script, version, server.port, *words))

        yield start


@pytest.fixture
async def node(start_peer: StartPeer, empty: dump.Client) -> Peer:
    """One Node process on an empty Redis."""
    return await start_peer()


@pytest.fixture
async def python(python_packages: None, server: RedisServer, empty: dump.Client) -> AsyncIterator[Peer]:
    """One process with the BullMQ of PyPI on an empty Redis."""
    async with started_python(server.port) as peer:
        yield peer
