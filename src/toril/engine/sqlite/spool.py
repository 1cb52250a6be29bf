"""The spool on SQLite: a file of its own, whose commits wait for the disk, shared by the processes of an application.

`target` names the store that the jobs are for: several applications may use one file by mistake, and must not get each
other's jobs.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from toril.engine.ports.jobs import LONG_MEMORY_MS
from toril.engine.ports.spool import Batch, Fate, Sent, SetAside, Spool, SpoolStats
from toril.engine.sqlite.connection import SqliteThread, connect
from toril.engine.sqlite.faults import translated
from toril.engine.sqlite.filesystem import check_place, private_folder
from toril.engine.sqlite.statements import load
from toril.engine.sqlite.ticket import Ticket
from toril.engine.sqlite.transaction import Transaction
from toril.errors import SpoolFull, StoreCorrupt, TorilError
from toril.jobs.model import CancelRequest, Job, NewJob
from toril.jobs.parcel import due_from, packed, unpacked
from toril.jobs.states import State
from toril.kernel import codec
from toril.kernel.ids import token_hex

T = TypeVar("T")

_SQL = load("spool")
APPLICATION_ID = 0x746F7270  # "torp"
MOST_JOBS = 500
MOST_BYTES = 1024 * 1024
# How much is claimed at a time: batches that are on the way, and jobs that are put into new ones.
_MOST_BATCHES = 100
_MOST_CLAIMED_JOBS = 2_000
_MOST_CLAIMED_BYTES = 4 * 1024 * 1024
_MOST_FREED_PAGES = 20_000
# What a job takes beside its text: its row, its ids, its places in the indexes.
_ROW_BYTES = 200


class SqliteSpool:
    """A spool in the file `path`, for the store `target`. It takes `limit` bytes of jobs at most.

    Opened, and made, by its first use; every method but `stats`, `listed` and `find` makes the file.
    """

    def __init__(self, path: str | os.PathLike[str], *, target: str, limit: int) -> None:
        self._path = Path(path).absolute()
        self._target = target
        self._limit = limit
        self._parts: _Parts | None = None
        self._pid = os.getpid()
        self._opening = threading.Lock()
        self._lock: int | None = None
        self.location = str(self._path)

    async def put(self, queue: str, jobs: Sequence[NewJob], *, batch: str | None, until: int, now: int) -> None:
        texts = [packed(job) for job in jobs]
        rows = [
            (job.id, text, now, len(text.encode("utf-8")) + _ROW_BYTES) for job, text in zip(jobs, texts, strict=True)
        ]
        await self._write(partial(self._put, queue=queue, rows=rows, batch=batch, until=until, now=now))

    async def claim(self, done: Sequence[Sent], *, now: int, skip: Collection[str] = ()) -> tuple[Batch, ...]:
        return await self._write(partial(self._claim, done=done, now=now, skip=codec.encode(list(skip))))

    async def settle(self, done: Sequence[Sent], *, now: int) -> None:
        await self._write(partial(self._settle, done=done, now=now))

    async def split(self, batch: Batch, *, now: int) -> None:
        await self._write(partial(self._split, batch=batch, now=now))

    async def set_aside(self, batch: Batch, fate: Fate, reason: str, *, now: int) -> None:
        await self._write(lambda tx: tx.run(_SQL["judge"], batch=batch.number, fate=fate.value, reason=reason, now=now))

    async def waits(self) -> bool:
        return self.exists() and bool(await self._read(lambda tx: tx.value(_SQL["waits"], target=self._target)))

    async def find(self, id: str) -> Job | str | None:
        return await self._read(partial(self._find, id=id)) if self.exists() else None

    async def cancel(self, id: str, request: CancelRequest) -> bool:
        return self.exists() and await self._write(partial(self._cancel, id=id, request=request))

    async def stats(self) -> SpoolStats:
        if not self.exists():
            return SpoolStats(self.location, 0, 0, 0, 0, 0, self._limit, None)
        return await self._read(self._stats)

    async def listed(self) -> tuple[SetAside, ...]:
        if not self.exists():
            return ()
        rows = await self._read(lambda tx: tx.rows(_SQL["judged"], target=self._target))
        return tuple(
            SetAside(id_, queue, tuple(codec.decode(ids)), Fate(fate), reason, since)
            for id_, queue, fate, reason, since, ids in rows
        )

    async def again(self, batch: str, *, now: int) -> bool:
        return self.exists() and await self._write(partial(self._again, batch=batch, now=now))

    async def drop(self, batch: str) -> bool:
        return self.exists() and await self._write(partial(self._drop, batch=batch))

    def exists(self) -> bool:
        return self._path.exists()

    def problem(self) -> str | None:
        try:
            check_place(self._path, "TORIL_JOBS_SPOOL_URL")
        except TorilError as error:
            return str(error)
        return None

    def try_lock(self) -> bool:
        self._forget_parent()
        if self._lock is not None:
            return True
        handle = os.open(f"{self._path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._lock = handle
        return True

    def unlock(self) -> None:
        handle, self._lock = self._lock, None
        if handle is not None:
            os.close(handle)

    async def close(self) -> None:
        self.unlock()
        with self._opening:
            parts, self._parts = self._parts, None
        if parts is not None and self._pid == os.getpid():
            await asyncio.to_thread(parts.close)

    def _put(
        self, tx: Transaction, *, queue: str, rows: Sequence[tuple[Any, ...]], batch: str | None, until: int, now: int
    ) -> None:
        held, size = tx.value(_SQL["bytes"]), sum(row[-1] for row in rows)
        if held + size > self._limit:
            raise SpoolFull(
                f"{self.location}: the store is away, and the spool holds {held:,} of {self._limit:,} bytes: no room "
                f"for {len(rows)} more jobs ({size:,} bytes), which were not taken. Bring the store back, or raise "
                "TORIL_JOBS_SPOOL_LIMIT."
            )
        number = None
        if batch is not None:
            if tx.value(_SQL["batch"], id=batch) is not None:
                return
            number = tx.value(_SQL["fix"], id=batch, target=self._target, queue=queue, now=now, until=until)
        tx.spread(_SQL["put"], [(self._target, queue, number, *row) for row in rows])

    def _settle(self, tx: Transaction, *, done: Sequence[Sent], now: int) -> None:
        for sent in done:
            self._forget(tx, sent.batch.number)
            for id_, other in sent.others.items():
                until = now + LONG_MEMORY_MS
                tx.run(
                    _SQL["stands_for"], target=self._target, id=id_, other=other, queue=sent.batch.queue, until=until
                )

    def _claim(self, tx: Transaction, *, done: Sequence[Sent], now: int, skip: str) -> tuple[Batch, ...]:
        self._settle(tx, done=done, now=now)
        fixed = tx.rows(_SQL["fixed"], target=self._target, skip=skip, limit=_MOST_BATCHES)
        if fixed:
            return self._read_batches(tx, fixed)
        numbers = [self._fix(tx, queue, seqs, now) for queue, seqs in self._chunks(tx, skip)]
        if not numbers:
            tx.run(_SQL["forget_notes"], now=now)
            _shrink(tx)
            return ()
        return self._read_batches(tx, tx.rows(_SQL["fixed"], target=self._target, skip=skip, limit=len(numbers)))

    def _read_batches(self, tx: Transaction, rows: Sequence[tuple[Any, ...]]) -> tuple[Batch, ...]:
        batches: list[Batch] = []
        size = 0
        for number, id_, queue, now, until in rows:
            content = tx.rows(_SQL["content"], target=self._target, batch=number)
            size += sum(len(text) for text, _ in content)
            if batches and size > _MOST_CLAIMED_BYTES:
                break
            jobs = tuple(due_from(unpacked(text), at, now) for text, at in content)
            batches.append(Batch(number, id_, queue, jobs, now, until))
        return tuple(batches)

    def _chunks(self, tx: Transaction, skip: str) -> list[tuple[str, list[int]]]:
        """Jobs that are in no batch yet, cut into batches: (queue, numbers of the jobs)."""
        chunks: list[tuple[str, list[int]]] = []
        filling: dict[str, tuple[list[int], int]] = {}
        total = 0
        rows = tx.connection.execute(_SQL["line"], {"target": self._target, "skip": skip, "limit": _MOST_CLAIMED_JOBS})
        for seq, queue, _, _, size in rows:
            total += size
            if chunks and total > _MOST_CLAIMED_BYTES:
                break
            seqs, filled = filling.get(queue, ([], MOST_BYTES))
            if filled + size > MOST_BYTES or len(seqs) >= MOST_JOBS:
                seqs, filled = [], 0
                chunks.append((queue, seqs))
            seqs.append(seq)
            filling[queue] = (seqs, filled + size)
        rows.close()
        return chunks

    def _fix(self, tx: Transaction, queue: str, seqs: list[int], now: int) -> int:
        until = now + LONG_MEMORY_MS
        number: int = tx.value(
            _SQL["fix"], id=f"s{token_hex(16)}", target=self._target, queue=queue, now=now, until=until
        )
        tx.run(_SQL["assign"], batch=number, seqs=codec.encode(seqs))
        return number

    def _split(self, tx: Transaction, *, batch: Batch, now: int) -> None:
        for (seq,) in tx.rows(_SQL["members"], target=self._target, batch=batch.number):
            self._fix(tx, batch.queue, [seq], now)
        tx.run(_SQL["forget_batch"], batch=batch.number)

    def _forget(self, tx: Transaction, number: int) -> None:
        tx.run(_SQL["forget_jobs"], target=self._target, batch=number)
        tx.run(_SQL["forget_batch"], batch=number)

    def _find(self, tx: Transaction, *, id: str) -> Job | str | None:
        row = tx.row(_SQL["waiting"], target=self._target, id=id)
        if row is not None:
            _, queue, text, at, _, fate, reason = row
            return _shown(unpacked(text), queue, at, reason if fate == Fate.REFUSED else None)
        note = tx.row(_SQL["note"], target=self._target, id=id)
        if note is None:
            return None
        other, queue, text, cancel = note
        if other is not None:
            return str(other)
        request = CancelRequest(*codec.decode(cancel))
        reason = f"cancelled: {request.reason}" if request.reason else "cancelled"
        return _shown(unpacked(text), queue, request.at, reason, request)

    def _cancel(self, tx: Transaction, *, id: str, request: CancelRequest) -> bool:
        row = tx.row(_SQL["waiting"], target=self._target, id=id)
        if row is None or row[4] is not None:
            return False
        seq, queue, text = row[:3]
        tx.run(_SQL["take_out"], seq=seq)
        tx.run(
            _SQL["note_cancel"],
            target=self._target,
            id=id,
            queue=queue,
            job=text,
            cancel=codec.encode(list(request)),
            until=request.at + LONG_MEMORY_MS,
        )
        return True

    def _again(self, tx: Transaction, *, batch: str, now: int) -> bool:
        number = tx.value(_SQL["judged_one"], target=self._target, id=batch)
        if number is not None:
            tx.run(_SQL["renew"], batch=number, id=f"s{token_hex(16)}", now=now, until=now + LONG_MEMORY_MS)
        return number is not None

    def _drop(self, tx: Transaction, *, batch: str) -> bool:
        number = tx.value(_SQL["judged_one"], target=self._target, id=batch)
        if number is not None:
            self._forget(tx, number)
        return number is not None

    def _stats(self, tx: Transaction) -> SpoolStats:
        row = tx.row(_SQL["stats"], target=self._target)
        assert row is not None  # noqa: S101 - counting always answers
        jobs, sent, aside, foreign, oldest = row
        held = tx.value(_SQL["bytes"])
        return SpoolStats(self.location, jobs, sent, aside, foreign, held, self._limit, oldest)

    async def _write(self, operation: Callable[[Transaction], T]) -> T:
        return await (await self._ready()).writer.run(operation)

    async def _read(self, operation: Callable[[Transaction], T]) -> T:
        return await (await self._ready()).reader.run(operation)

    async def _ready(self) -> _Parts:
        parts = self._parts
        if parts is not None and self._pid == os.getpid() and self._path.exists():
            return parts
        return await asyncio.to_thread(self._opened)

    def _opened(self) -> _Parts:
        with self._opening:
            self._forget_parent()
            if self._parts is not None and not self._path.exists():
                # Somebody took the file away: what is written now must not go where nobody finds it.
                self._parts.close()
                self._parts = None
            if self._parts is None:
                self._parts = _Parts(self._path, self.location)
            return self._parts

    def _forget_parent(self) -> None:
        """After a fork: threads and connections do not survive it, and the lock is the parent's."""
        if self._pid != os.getpid():
            self._pid, self._parts = os.getpid(), None
            self.unlock()


class _Parts:
    """What exists while the file is open."""

    def __init__(self, path: Path, location: str) -> None:
        check_place(path, "TORIL_JOBS_SPOOL_URL")
        try:
            connection = connect(path, full=True, shrinking=True)
            try:
                _create(connection, location)
                ticket = Ticket(private_folder(path))
            except BaseException:
                connection.close()
                raise
            self.writer = SqliteThread(connection, location, write=True, ticket=ticket)
            self.reader = SqliteThread(connect(path, read_only=True), location, write=False)
        except sqlite3.Error as error:
            raise translated(error, location) from error

    def close(self) -> None:
        self.reader.close()
        self.writer.close()


def _create(connection: sqlite3.Connection, location: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID and (application or connection.execute("PRAGMA schema_version").fetchone()[0]):
        raise StoreCorrupt(
            f"{location}: expected a spool or no file, found another database. Nothing was changed; choose another "
            "path in TORIL_JOBS_SPOOL_URL."
        )
    for name in (
        "create_batches",
        "create_jobs",
        "create_line",
        "create_ids",
        "create_notes",
        "create_totals",
        "create_first_total",
        "create_counting",
        "create_discounting",
    ):
        connection.execute(_SQL[name])
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("COMMIT")


def _shrink(tx: Transaction) -> None:
    """Give free pages back. The driver takes one step of a statement without columns: one page each time."""
    for _ in range(min(_MOST_FREED_PAGES, tx.value("PRAGMA freelist_count"))):
        tx.run("PRAGMA incremental_vacuum")


def _shown(job: NewJob, queue: str, at: int, failed: str | None, cancel: CancelRequest | None = None) -> Job:
    due = at + job.delay_ms if job.delay_ms else None
    state = State.DELAYED if due else State.PRIORITIZED if job.priority else State.WAITING
    return Job(
        id=job.id,
        queue=queue,
        name=job.name,
        data=job.data,
        opts=job.opts,
        state=state if failed is None else State.FAILED,
        timestamp=job.timestamp,
        priority=job.priority,
        due=None if failed else due,
        finished=None if failed is None else at,
        failed_reason=failed,
        cancel=cancel,
        spooled=failed is None,
    )


_: type[Spool] = SqliteSpool
