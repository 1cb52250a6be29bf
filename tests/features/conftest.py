"""A `Toril` in memory and one on a file, closed afterwards."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from toril import Toril


@pytest.fixture(params=["memory", "file"])
async def toril(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Toril]:
    app = Toril("sqlite://" if request.param == "memory" else f"sqlite:///{tmp_path}/toril.db")
    async with app:
        yield app
