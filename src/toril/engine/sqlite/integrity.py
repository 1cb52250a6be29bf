"""Looking a database file through for damage. Slow for a big file, so only `toril doctor` asks for it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from toril.engine.sqlite.connection import connect
from toril.engine.sqlite.faults import translated

_MOST = 5


def problems(path: Path) -> list[str]:
    """What SQLite's quick check complains about, at most five lines; empty when all is well. Raises EngineError when
    the file cannot be read at all.
    """
    try:
        connection = connect(path, read_only=True)
        try:
            lines = [str(row[0]) for row in connection.execute(f"PRAGMA quick_check({_MOST})")]
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise translated(error, str(path)) from error
    return [line for line in lines if line != "ok"]
