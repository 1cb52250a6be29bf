"""The floor: what sqlite3 itself can do with the smallest table that is still a queue, 100 jobs per transaction.

No retries, no locks that run out, no order but the row's, no history, no events: nobody can be faster with these
writes, and nobody should use it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from bench.contestants.looped import LoopedWorker, Step
from bench.contestants.protocol import Contestant, Handler

BATCH = 100
_TABLE = "CREATE TABLE IF NOT EXISTS job (id INTEGER PRIMARY KEY, state INTEGER NOT NULL, data TEXT, result TEXT)"
_INDEX = "CREATE INDEX IF NOT EXISTS job_waiting ON job (id) WHERE state = 0"
_ADD = "INSERT INTO job (state, data) VALUES (0, ?)"
_TAKE = (
    "UPDATE job SET state = 1 WHERE id IN (SELECT id FROM job WHERE state = 0 ORDER BY id LIMIT ?) RETURNING id, data"
)
_FINISH = "UPDATE job SET state = 2, result = ? WHERE id = ?"


class RawQueue:
    """One table, WAL, synchronous NORMAL."""

    def __init__(self, folder: Path, handler: Handler) -> None:
        self._file = folder / "raw.db"
        self._handler = handler
        self._worker: LoopedWorker | None = None

    async def open(self) -> None:
        self._db = self._connect()

    async def close(self) -> None:
        self._db.close()

    async def enqueue(self, number: int) -> None:
        self._db.execute(_ADD, (str(number),))

    async def enqueue_all(self, numbers: Sequence[int]) -> None:
        for start in range(0, len(numbers), BATCH):
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(_ADD, [(str(number),) for number in numbers[start : start + BATCH]])
            self._db.execute("COMMIT")

    async def start_worker(self) -> None:
        self._worker = LoopedWorker(self._make_step, poll_s=0.001)
        self._worker.start()

    async def stop_worker(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    async def finished(self) -> int | None:
        return int(self._db.execute("SELECT count(*) FROM job WHERE state = 2").fetchone()[0])

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._file, isolation_level=None, timeout=10)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(_TABLE)
        db.execute(_INDEX)
        return db

    def _make_step(self) -> Step:
        db, handler = self._connect(), self._handler
        ended: list[tuple[str, int]] = []

        def step() -> bool:
            db.execute("BEGIN IMMEDIATE")
            db.executemany(_FINISH, ended)
            rows = db.execute(_TAKE, (BATCH,)).fetchall()
            db.execute("COMMIT")
            ended[:] = [(str(handler(int(data))), job) for job, data in rows]
            return bool(rows)

        return step


CONTESTANTS = (
    Contestant(
        name="raw-sqlite",
        setting="sqlite3 by hand, WAL, synchronous NORMAL, 100 jobs per transaction: the floor, not a queue to use",
        make=RawQueue,
        package=None,
        skips=frozenset({"latency-inside", "latency-across"}),
        scales=(("drain", 10.0), ("enqueue-bulk", 5.0)),
    ),
)
