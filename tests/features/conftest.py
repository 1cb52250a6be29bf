"""A `Toril` in memory and one on a file, closed afterwards."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.features.absent import Absent
from toril import Toril


@pytest.fixture(params=["memory", "file"])
async def toril(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Toril]:
    app = Toril("sqlite://" if request.param == "memory" else f"sqlite:///{tmp_path}/toril.db")
    async with app:
        yield app


@pytest.fixture
async def absent() -> AsyncIterator[Absent]:
    absent = Absent()
    yield absent
    await absent.inner.close()
