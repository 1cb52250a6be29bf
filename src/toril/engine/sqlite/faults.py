"""SQLite's errors in Toril's words. The only place where driver errors are translated."""

from __future__ import annotations

import sqlite3

from toril.errors import EngineError, EngineUnavailable, StoreCorrupt, StoreFull, StoreReadOnly

_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_READ_ONLY = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH})
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


def is_busy(error: sqlite3.Error) -> bool:
    """Whether somebody else keeps the database locked."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _BUSY


def translated(error: sqlite3.Error, location: str) -> EngineError:
    """The error of ours that says what `error` means for the database at `location`, and what to do."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in _CORRUPT:
        return StoreCorrupt(
            f"{location}: expected a Toril database, found a damaged or foreign file ({error}). "
            "Nothing was changed; move the file away or restore a backup."
        )
    if code in _READ_ONLY:
        return StoreReadOnly(
            f"{location}: expected a file and folder that can be written, found they cannot ({error}). "
            "Check that the folder exists and who owns it, or choose another path in TORIL_URL."
        )
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(
            f"{location}: the disk is full. Nothing of this call was stored; free some space and call again."
        )
    if code in _BUSY:
        return EngineUnavailable(
            f"{location}: another process has kept the database locked for too long. Nothing of this call was stored; "
            "look for a program that holds a transaction open, then call again."
        )
    if code == sqlite3.SQLITE_IOERR:
        return EngineUnavailable(f"{location}: the disk does not answer as it should ({error}). Check the disk.")
    return EngineError(f"{location}: SQLite refused a statement ({error}).")
