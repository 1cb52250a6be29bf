"""The outbox on connections of Python's database interface (PEP 249), without SQLAlchemy."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from toril.errors import ConfigError
from toril.outbox.statements import dialect_of, positional, styled

T = TypeVar("T")
Execute = Callable[[str, Mapping[str, Any]], Sequence[Sequence[Any]] | int]


class PlainDatabase:
    """A database whose connections `connect` makes."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self.location = f"connections of {getattr(connect, '__qualname__', connect)!s}"
        self._dialect: str | None = None

    @property
    def dialect(self) -> str:
        """The kind of database; makes a connection to find out."""
        if self._dialect is None:
            connection = self._connect()
            try:
                self._dialect = dialect_of(driver_of(connection))
            finally:
                connection.close()
        return self._dialect

    async def run(self, operation: Callable[[Execute], T]) -> T:
        """Run an operation in a transaction of its own, in a thread."""
        return await asyncio.to_thread(self._run, operation)

    def _run(self, operation: Callable[[Execute], T]) -> T:
        connection = self._connect()
        try:
            answer = operation(lambda sql, values: execute(connection, sql, values))
            connection.commit()
            return answer
        except BaseException:
            connection.rollback()
            raise
        finally:
            connection.close()

    async def close(self) -> None:
        """Nothing: each connection is closed when it was used."""


def driver_of(connection: object) -> str:
    """The name of a connection's driver. Raises ConfigError for what is no connection, or an async one."""
    if not all(callable(getattr(connection, name, None)) for name in ("cursor", "commit", "rollback")):
        raise ConfigError(
            f"enqueue_in: expected a session or connection of SQLAlchemy, or a connection of a driver (PEP 249), got "
            f"{type(connection).__name__}."
        )
    for cls in type(connection).__mro__:
        root = cls.__module__.partition(".")[0]
        if hasattr(sys.modules.get(root), "paramstyle"):
            return root
    raise ConfigError(
        f"enqueue_in: expected a connection of a driver that is known, got {type(connection).__name__} of "
        f"{type(connection).__module__}: use SQLAlchemy."
    )


def execute(connection: Any, sql: str, values: Mapping[str, Any]) -> Sequence[Sequence[Any]] | int:
    """Execute a statement in the transaction of a connection: its rows, or how many it changed."""
    driver = driver_of(connection)
    style = sys.modules[driver].paramstyle
    cursor = connection.cursor()
    try:
        if style in {"format", "qmark"} and driver != "sqlite3":
            counted, given = positional(sql, values)
            cursor.execute(counted, given)
        else:
            # sqlite3 says that it counts, and takes names all the same.
            cursor.execute(styled(sql, "named" if driver == "sqlite3" else style), dict(values))
        changed: int = cursor.rowcount
        return changed if cursor.description is None else cursor.fetchall()
    finally:
        cursor.close()
