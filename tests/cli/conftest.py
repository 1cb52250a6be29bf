"""A fresh store for each test."""

from pathlib import Path

import pytest

from tests.cli.stored import fill, url_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is, or will be."""
    return tmp_path / "toril.db"


@pytest.fixture
def url(path: Path) -> str:
    """A store with a job in every state, see `stored.fill`."""
    fill(path)
    return url_of(path)
