"""The same database through every door that the outbox knows."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from tests.outbox.postgres import PostgresServer
from toril.outbox.statements import create_statements

_numbers = count()

Enqueue = Callable[[Any], Awaitable[None]]


class Place:
    """A database with an outbox and a table `notes_…` of the application, reached in one way.

    `way` is `session`, `connection`, `async session`, `async connection` or `driver`.
    """

    def __init__(self, kind: str, way: str, folder: Path, postgres: PostgresServer | None) -> None:
        self.kind, self.way = kind, way
        self.table = f"outbox_{next(_numbers)}"
        self.notes = f"notes_{self.table}"
        self._file, self._postgres = folder / f"{self.table}.db", postgres
        with closing(self.connect()) as connection:
            cursor = connection.cursor()
            for statement in [*create_statements(kind, self.table), f"CREATE TABLE {self.notes} (n INTEGER NOT NULL)"]:
                cursor.execute(statement)
            cursor.close()
            connection.commit()

    def connect(self) -> Any:
        """A connection of the driver."""
        if self._postgres is None:
            return sqlite3.connect(self._file)
        return psycopg.connect(self._postgres.conninfo)

    def url(self, *, is_async: bool) -> str:
        """The address for SQLAlchemy."""
        if self._postgres is None:
            return f"sqlite{'+aiosqlite' if is_async else ''}:///{self._file}"
        return self._postgres.url("asyncpg" if is_async else "psycopg")

    @property
    def database(self) -> Any:
        """What the relay is given."""
        return self.connect if self.way == "driver" else self.url(is_async=self.way.startswith("async"))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """A transaction that has written a note; it is committed unless the block raises."""
        if self.way == "driver":
            with closing(self.connect()) as connection:
                connection.cursor().execute(f"INSERT INTO {self.notes} VALUES (1)")
                yield connection
                connection.commit()
            return
        note = text(f"INSERT INTO {self.notes} VALUES (1)")
        if self.way.startswith("async"):
            engine = create_async_engine(self.url(is_async=True), poolclass=NullPool)
            if self.way == "async session":
                async with AsyncSession(engine) as session, session.begin():
                    await session.execute(note)
                    yield session
            else:
                async with engine.begin() as connection:
                    await connection.execute(note)
                    yield connection
            await engine.dispose()
            return
        with closing_engine(self.url(is_async=False)) as plain:
            if self.way == "session":
                with Session(plain) as own, own.begin():
                    own.execute(note)
                    yield own
            else:
                with plain.begin() as begun:
                    begun.execute(note)
                    yield begun

    def noted(self) -> int:
        """How many notes there are."""
        with closing(self.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute(f"SELECT count(*) FROM {self.notes}")
            found: int = cursor.fetchone()[0]
            cursor.close()
            return found


class closing_engine:  # noqa: N801 - used as contextlib.closing is
    """An engine that is disposed of at the end of a block."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url, poolclass=NullPool)

    def __enter__(self) -> Any:
        return self._engine

    def __exit__(self, *_: object) -> None:
        self._engine.dispose()
