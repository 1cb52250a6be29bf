"""The stores of trials: a SQLite file, or a redis-server behind a network of the test's own. What can be broken about
a store is broken here.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from tests.faults.checker import Final
from tests.faults.network import Network
from tests.redis.server import RedisServer
from toril import Toril
from toril.engine.redis.address import parse_address
from toril.engine.redis.client import RedisClient
from toril.jobs.model import Job
from toril.jobs.states import State

QUEUE = "faults"
LOSS_S = {"always": 0.0, "everysec": 1.0}
"""How much accepted work a crash of the server may cost: what Redis itself promises for its append-only file."""
PAGE = 1_000


class Store(Protocol):
    """Where the jobs of a trial are. `loss_s` as in the checker's rules."""

    name: str
    loss_s: float

    @property
    def url(self) -> str:
        """For workers and producers."""
        ...

    @property
    def direct_url(self) -> str:
        """For the driver, past everything that is broken."""
        ...

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def locks(self) -> int:
        """How many locks there are, of whatever job."""
        ...


class SqliteStore:
    """One file. With `size` (such as "24m") on a small disk of its own, which needs the right to mount one."""

    name = "sqlite"
    loss_s = 0.0

    def __init__(self, folder: Path, *, size: str | None = None) -> None:
        self._disk = folder / "disk"
        self._size = size
        self.path = self._disk / "jobs.db"
        self._ballast = self._disk / "ballast"

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    direct_url = url

    async def start(self) -> None:
        self._disk.mkdir(parents=True)
        if self._size is not None:
            command = ["mount", "-t", "tmpfs", "-o", f"size={self._size}", "tmpfs", str(self._disk)]
            await asyncio.to_thread(subprocess.run, command, check=True)

    async def close(self) -> None:
        if self._size is not None:
            await asyncio.to_thread(subprocess.run, ["umount", "-l", str(self._disk)], check=True)

    async def locks(self) -> int:
        with sqlite3.connect(self.path) as database:
            (locked,) = database.execute("SELECT count(*) FROM jobs WHERE state = 4").fetchone()
        database.close()
        return int(locked)

    @property
    def wal_bytes(self) -> int:
        """How long the log beside the file is."""
        wal = Path(f"{self.path}-wal")
        return wal.stat().st_size if wal.exists() else 0

    def fill(self) -> None:
        """Use up all space of the disk."""
        block = b"\0" * 65536
        handle = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            while True:
                try:
                    os.write(handle, block)
                except OSError:
                    if len(block) == 1:
                        return
                    block = block[: len(block) // 16 or 1]
        finally:
            os.close(handle)

    def free(self) -> None:
        """Give the space back."""
        self._ballast.unlink(missing_ok=True)


class RedisStore:
    """A redis-server that writes every command to a file; `fsync` says when it waits for the disk."""

    name = "redis"

    def __init__(self, folder: Path, *, fsync: str = "always", through_network: bool = True) -> None:
        self.loss_s = LOSS_S[fsync]
        self.server = RedisServer(folder / "redis", "--appendonly", "yes", "--appendfsync", fsync, starts_s=120)
        self.network = Network(lambda: self.server.port)
        self._through_network = through_network

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.network.port}" if self._through_network else self.direct_url

    @property
    def direct_url(self) -> str:
        return self.server.url

    async def start(self) -> None:
        self.server.start()
        if self._through_network:
            await self.network.start()

    async def close(self) -> None:
        await self.network.close()
        self.server.kill()

    async def locks(self) -> int:
        found, cursor = 0, b"0"
        while True:
            cursor, keys = await self.call("SCAN", cursor, "MATCH", f"bull:{QUEUE}:*:lock", "COUNT", PAGE)
            found += len(keys)
            if cursor == b"0":
                return found

    async def call(self, *command: str | bytes | int) -> Any:
        """One command to the server itself."""
        client = RedisClient(parse_address(self.direct_url))
        try:
            return await client.call(*command, timeout_s=30)
        finally:
            await client.close()


async def looked_at(store: Store, look: Callable[[Toril], Awaitable[int]]) -> int:
    """What `look` answers on the store itself."""
    async with Toril(store.direct_url) as toril:
        return await look(toril)


async def unfinished(store: Store) -> int:
    """How many jobs have not come to their end."""

    async def look(toril: Toril) -> int:
        counts = await toril.engine.inspect.counts(QUEUE)
        return counts.total - counts.completed - counts.failed

    return await looked_at(store, look)


async def finals(store: Store) -> list[Final]:
    """All jobs of the trial."""
    jobs: dict[str, Final] = {}
    async with Toril(store.direct_url) as toril:
        cursor: str | None = None
        while True:
            page = await toril.engine.inspect.list(QUEUE, list(State), limit=PAGE, cursor=cursor)
            jobs |= {job.id: _final(job) for job in page.jobs}
            cursor = page.cursor
            if cursor is None:
                return list(jobs.values())


def _final(job: Job) -> Final:
    number = json.loads(job.data)["number"]
    causes = tuple(record.outcome for record in job.history)
    return Final(job.id, number, job.name, job.state.value, job.result, job.failed_reason, job.stalls, causes)
