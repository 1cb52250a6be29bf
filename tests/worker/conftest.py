"""Shared by all tests of the worker."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

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
