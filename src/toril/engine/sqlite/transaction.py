"""What an operation sees of the database: statements on one connection, inside a transaction that it does not
manage.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

_MOST_ROWS = 128


class Transaction:
    """One connection, as an operation uses it. `touched` are the topics to wake when the transaction has committed."""

    __slots__ = ("connection", "touched")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.touched: set[str] = set()

    def run(self, sql: str, **values: Any) -> int:
        """Execute a statement. Answers how many rows it changed."""
        return self.connection.execute(sql, values).rowcount

    def value(self, sql: str, **values: Any) -> Any:
        """The first column of the first row, or None."""
        row = self.connection.execute(sql, values).fetchone()
        return None if row is None else row[0]

    def row(self, sql: str, **values: Any) -> tuple[Any, ...] | None:
        """The first row, or None."""
        found: tuple[Any, ...] | None = self.connection.execute(sql, values).fetchone()
        return found

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        """All rows."""
        return self.connection.execute(sql, values).fetchall()

    def spread(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """Execute a statement over many rows, written as `(VALUES {rows})`. Answers how many rows it changed.

        One step per up to 128 rows instead of one per row: each step gives the interpreter's lock away, and a busy
        event loop beside this thread gives it back only after a whole switch interval.
        """
        changed, start = 0, 0
        for size in _sizes(len(rows)):
            part = rows[start : start + size]
            start += size
            changed += self.connection.execute(
                _with_rows(sql, len(part[0]), size), list(chain.from_iterable(part))
            ).rowcount
        return changed


def _sizes(total: int) -> Iterator[int]:
    """`total` as a sum of few different numbers, so that the prepared statements stay few."""
    size = _MOST_ROWS
    while total:
        while size > total:
            size //= 2
        yield size
        total -= size


@lru_cache(maxsize=512)
def _with_rows(sql: str, columns: int, rows: int) -> str:
    row = "(" + ",".join("?" * columns) + ")"
    return sql.replace("{rows}", ",".join([row] * rows))
