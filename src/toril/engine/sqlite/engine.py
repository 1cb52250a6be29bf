"""`SqliteEngine`: the ports over one database file, or over memory."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from toril.engine.ports.bus import Bus
from toril.engine.ports.channels import ChannelStore
from toril.engine.ports.flows import FlowStore
from toril.engine.ports.inspect import JobInspector
from toril.engine.ports.jobs import JobStore
from toril.engine.ports.keyvalue import KeyValueStore
from toril.engine.ports.leases import LeaseStore
from toril.engine.ports.limits import LimitStore
from toril.engine.ports.schedules import ScheduleStore
from toril.engine.protocol import Capabilities, Engine, Health
from toril.engine.sqlite.bus import SqliteBus
from toril.engine.sqlite.channels import SqliteChannelStore
from toril.engine.sqlite.connection import SqliteThread, connect
from toril.engine.sqlite.faults import translated
from toril.engine.sqlite.filesystem import check_place, private_folder
from toril.engine.sqlite.flows import SqliteFlowStore
from toril.engine.sqlite.inspect import SqliteJobInspector
from toril.engine.sqlite.jobs import SqliteJobStore
from toril.engine.sqlite.keyvalue import SqliteKeyValueStore
from toril.engine.sqlite.leases import SqliteLeaseStore
from toril.engine.sqlite.limits import LimitsInMemory, SqliteLimitStore
from toril.engine.sqlite.migrate import migrate
from toril.engine.sqlite.schedules import SqliteScheduleStore
from toril.engine.sqlite.ticket import Ticket
from toril.engine.sqlite.wakeups import Wakeups
from toril.errors import EngineClosed, TorilError


class SqliteEngine:
    """Everything in one SQLite file, or, with `path` None, in this process's memory.

    `full` makes every commit wait for the disk, so that it survives a power cut; without it commits survive the death
    of the process, and the last ones may be lost when the machine loses power. `start` raises StoreReadOnly,
    StoreCorrupt, StoreTooNew, UnsupportedFileSystem or EngineUnavailable, each with what to do.
    """

    name = "sqlite"

    def __init__(self, path: str | os.PathLike[str] | None = None, *, full: bool = False) -> None:
        self._path = None if path is None else Path(path).absolute()
        self._full = full
        self._parts: _Parts | None = None
        self._starting = threading.Lock()
        self.location = "memory" if self._path is None else str(self._path)
        self.capabilities = Capabilities(shared=path is not None, durable=path is not None, immediate_cancel=True)

    @property
    def jobs(self) -> JobStore:
        return self._opened().jobs

    @property
    def inspect(self) -> JobInspector:
        return self._opened().inspect

    @property
    def keyvalue(self) -> KeyValueStore:
        return self._opened().keyvalue

    @property
    def bus(self) -> Bus:
        return self._opened().bus

    @property
    def schedules(self) -> ScheduleStore:
        return self._opened().schedules

    @property
    def flows(self) -> FlowStore:
        return self._opened().flows

    @property
    def channels(self) -> ChannelStore:
        return self._opened().channels

    @property
    def limits(self) -> LimitStore:
        return self._opened().limits

    @property
    def leases(self) -> LeaseStore:
        return self._opened().leases

    @property
    def fresh(self) -> bool:
        """True when `start` made the file."""
        return self._opened().fresh

    async def start(self) -> None:
        await asyncio.to_thread(self._open)

    async def close(self) -> None:
        parts, self._parts = self._parts, None
        if parts is not None:
            await asyncio.to_thread(parts.close)

    async def health(self) -> Health:
        begun = time.perf_counter()
        detail: dict[str, Any] = {"location": self.location, "sqlite": sqlite3.sqlite_version}
        try:
            parts = self._opened()
            detail |= await parts.writer.run(lambda tx: _pragmas(tx.connection))
            if self._path is not None:
                detail |= await asyncio.to_thread(_sizes, self._path)
        except (TorilError, OSError) as error:
            return Health(False, (time.perf_counter() - begun) * 1000, {**detail, "error": str(error)})
        return Health(True, (time.perf_counter() - begun) * 1000, detail)

    def _open(self) -> None:
        with self._starting:
            if self._parts is None:
                self._parts = _Parts(self._path, self._full, self.location)

    def _opened(self) -> _Parts:
        if self._parts is None:
            raise EngineClosed(f"{self.location}: the engine is not started, or closed. Call start() first.")
        return self._parts


class _Parts:
    """What exists between `start` and `close`."""

    def __init__(self, path: Path | None, full: bool, location: str) -> None:
        self.fresh = path is None or not path.exists() or path.stat().st_size == 0
        if path is not None:
            check_place(path, "TORIL_URL")
        try:
            connection = connect(path, full=full)
            try:
                migrate(connection, location)
                ticket, self.wakeups = _doors(path)
            except BaseException:
                connection.close()
                raise
            self.writer = SqliteThread(connection, location, write=True, ticket=ticket, on_commit=self.wakeups.touch)
            # In memory there is one connection only: readers take their turn on the writer's thread.
            self.reader = (
                self.writer if path is None else SqliteThread(connect(path, read_only=True), location, write=False)
            )
        except sqlite3.Error as error:
            raise translated(error, location) from error
        self.jobs: JobStore = SqliteJobStore(self.writer, self.reader, self.wakeups)
        self.inspect: JobInspector = SqliteJobInspector(self.writer, self.reader)
        self.keyvalue: KeyValueStore = SqliteKeyValueStore(self.writer, self.reader)
        self.bus: Bus = SqliteBus(self.reader, self.wakeups)
        self.schedules: ScheduleStore = SqliteScheduleStore(self.writer, self.reader)
        self.flows: FlowStore = SqliteFlowStore(self.writer, self.reader)
        self.channels: ChannelStore = SqliteChannelStore(self.writer, self.reader, self.wakeups)
        self.limits: LimitStore = LimitsInMemory() if path is None else SqliteLimitStore(self.writer, self.reader)
        self.leases: LeaseStore = SqliteLeaseStore(self.writer, self.reader)

    def close(self) -> None:
        self.reader.close()
        self.writer.close()
        self.wakeups.close()


def _doors(path: Path | None) -> tuple[Ticket | None, Wakeups]:
    """What this process shares with others that have the file open."""
    if path is None:
        return None, Wakeups()
    folder = private_folder(path)
    watcher = connect(path, read_only=True)

    def versions() -> int:
        return int(watcher.execute("PRAGMA data_version").fetchone()[0])

    return Ticket(folder), Wakeups(folder, versions, watcher.close)


def _sizes(path: Path) -> dict[str, int]:
    wal = Path(f"{path}-wal")
    return {"size_bytes": path.stat().st_size, "wal_bytes": wal.stat().st_size if wal.exists() else 0}


def _pragmas(connection: sqlite3.Connection) -> dict[str, Any]:
    names = ("journal_mode", "synchronous", "user_version", "page_count", "freelist_count")
    return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}


_: type[Engine] = SqliteEngine
