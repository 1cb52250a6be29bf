"""Shared by all tests of the worker."""

from collections.abc import AsyncIterator

import pytest

from tests.worker.workshop import Workshop


@pytest.fixture
async def shop() -> AsyncIterator[Workshop]:
    workshop = Workshop()
    await workshop.toril.start()
    yield workshop
    await workshop.toril.close()
