"""Bringing a database up to date: numbered scripts, forward only, each in its own transaction.

SQLite's `user_version` holds the number of the last script, `application_id` says that the file is ours.
"""

from __future__ import annotations

import sqlite3

from toril.engine.sqlite.statements import migrations
from toril.errors import StoreCorrupt, StoreTooNew

APPLICATION_ID = 0x746F7269  # "tori"


def migrate(connection: sqlite3.Connection, location: str) -> int:
    """Apply what is missing and answer the schema's number.

    Several processes may do this at the same time. Raises StoreTooNew for a database of a newer Toril, StoreCorrupt for
    another program's, sqlite3.Error as SQLite does.
    """
    steps = migrations()
    newest = steps[-1][0]
    while True:
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = _checked_version(connection, location, newest)
            step = next((step for step in steps if step[0] > version), None)
            if step is None:
                return version
            _apply(connection, *step)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _checked_version(connection: sqlite3.Connection, location: str, newest: int) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application != APPLICATION_ID and (tables or version):
        raise StoreCorrupt(
            f"{location}: expected a Toril database or no file, found another program's database. "
            "Nothing was changed; choose another path in TORIL_URL."
        )
    if version > newest:
        raise StoreTooNew(
            f"{location}: expected a database of schema {newest} or older, found schema {version} of a newer Toril. "
            "Upgrade Toril here; databases are not taken back."
        )
    return version


def _apply(connection: sqlite3.Connection, number: int, text: str) -> None:
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        # A trigger holds several semicolons: SQLite itself knows where a statement ends.
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    connection.execute(f"PRAGMA user_version = {number}")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
