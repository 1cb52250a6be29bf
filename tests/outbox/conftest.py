"""Databases for the outbox: SQLite files, and one PostgreSQL that all share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.outbox.postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Started once. Who uses it makes a table of his own."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()
