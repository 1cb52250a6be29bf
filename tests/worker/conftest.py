"""Shared by all tests of the worker."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.redis.server import RedisServer
from tests.worker.workshop import Workshop
from tests.worker.yard import Station


@pytest.fixture
async def shop() -> AsyncIterator[Workshop]:
    workshop = Workshop()
    await workshop.toril.start()
    yield workshop
    await workshop.toril.close()


@pytest.fixture
async def station(tmp_path: Path) -> AsyncIterator[Station]:
    station = Station(f"sqlite:///{tmp_path}/jobs.db")
    await station.toril.start()
    yield station
    await station.close()


@pytest.fixture(params=["sqlite", "redis"])
async def any_station(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Station]:
    server = RedisServer(tmp_path / "redis") if request.param == "redis" else None
    if server is not None:
        server.start()
    station = Station(f"sqlite:///{tmp_path}/jobs.db" if server is None else server.url)
    await station.toril.start()
    yield station
    await station.close()
    if server is not None:
        server.kill()
