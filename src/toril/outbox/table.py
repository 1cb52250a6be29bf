"""The outbox's table as a source of batches: several relays may take from it, each its own part.

A batch is a relay's for the time of a lease; when that is over another relay sends it, under the same id. Of the jobs
of one queue and key only the first can be taken, with those that follow it, so that their order holds whoever takes
them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from toril.engine.ports.jobs import LONG_MEMORY_MS
from toril.engine.ports.spool import Batch, Fate, Sent, SetAside
from toril.errors import EngineUnavailable, TorilError
from toril.jobs.parcel import due_from, unpacked
from toril.kernel.ids import token_hex
from toril.outbox.plain import Execute
from toril.outbox.statements import checked_table, statements

T = TypeVar("T")

LEASE_MS = 30_000
MOST_JOBS = 500
# A queue that the store does not take must not fill the memory.
_MOST_HELD = 20
MOST_BYTES = 1024 * 1024


class Database(Protocol):
    """A database, as the outbox needs it."""

    location: str

    @property
    def dialect(self) -> str:
        """`postgresql`, `mysql` or `sqlite`."""
        ...

    async def run(self, operation: Callable[[Execute], T]) -> T:
        """Run an operation in a transaction of its own."""
        ...

    async def close(self) -> None:
        """Let go of what was made."""
        ...


class OutboxStats(NamedTuple):
    """How an outbox is: jobs that wait, of which `sent` are on the way, those that were set aside, and the time at
    which the first came (milliseconds).
    """

    location: str
    jobs: int
    sent: int
    set_aside: int
    oldest: int | None


class OutboxTable:
    """One relay's view of the table. Every method raises EngineUnavailable when the database does not answer."""

    def __init__(self, database: Database, table: str) -> None:
        self._database = database
        self._table = checked_table(table)
        self._mine: dict[str, Batch] = {}
        self.location = f"{database.location}, table {table}"

    async def claim(self, done: Sequence[Sent], *, now: int, skip: Collection[str] = ()) -> tuple[Batch, ...]:
        if done:
            await self.settle(done, now=now)
        mine = [batch for batch in self._mine.values() if batch.queue not in skip]
        if not mine and len(self._mine) < _MOST_HELD:
            found = await self._run(lambda execute, sql: _claimed(execute, sql, now))
            self._mine |= {batch.id: batch for batch in found}
            mine = [batch for batch in found if batch.queue not in skip]
        return tuple(mine)

    async def settle(self, done: Sequence[Sent], *, now: int) -> None:
        def forget(execute: Execute, sql: dict[str, str]) -> None:
            for sent in done:
                execute(sql["forget"], {"batch": sent.batch.id})

        await self._run(forget)
        for sent in done:
            self._mine.pop(sent.batch.id, None)

    async def split(self, batch: Batch, *, now: int) -> None:
        def split(execute: Execute, sql: dict[str, str]) -> list[Batch]:
            rows = _rows(execute(sql["content"], {"batch": batch.id}))
            made = []
            for row, job in zip(rows, batch.jobs, strict=True):
                one = batch._replace(id=_new_id(), jobs=(job,))
                values = {"batch": one.id, "now": one.now, "until": one.until, "lease": now + LEASE_MS}
                execute(sql["split"], {**values, "seq": row[0], "old": batch.id})
                made.append(one)
            return made

        made = await self._run(split)
        # What comes after them in their queue stays behind them.
        mine = ([one] if one.id != batch.id else made for one in self._mine.values())
        self._mine = {one.id: one for several in mine for one in several}

    async def set_aside(self, batch: Batch, fate: Fate, reason: str, *, now: int) -> None:
        values = {"batch": batch.id, "fate": fate.value, "reason": reason, "now": now}
        await self._run(lambda execute, sql: execute(sql["judge"], values))
        self._mine.pop(batch.id, None)

    async def listed(self) -> tuple[SetAside, ...]:
        """What was set aside, oldest first."""
        rows = await self._run(lambda execute, sql: _rows(execute(sql["judged"], {})))
        found: dict[str, SetAside] = {}
        for batch, queue, job_id, fate, reason, since in rows:
            one = found.get(batch) or SetAside(batch, queue, (), Fate(fate), reason, since)
            found[batch] = one._replace(job_ids=(*one.job_ids, job_id))
        return tuple(found.values())

    async def again(self, batch: str) -> bool:
        """Send a batch that was set aside once more, under a new id. False without such a batch."""
        return bool(await self._run(lambda execute, sql: execute(sql["again"], {"batch": batch})))

    async def drop(self, batch: str) -> bool:
        """Delete a batch that was set aside. False without such a batch."""
        return bool(await self._run(lambda execute, sql: execute(sql["drop"], {"batch": batch})))

    async def stats(self) -> OutboxStats:
        """How full it is."""
        [row] = await self._run(lambda execute, sql: _rows(execute(sql["stats"], {})))
        total, batched, aside, oldest = row
        return OutboxStats(self.location, total - aside, batched - aside, aside, oldest)

    async def close(self) -> None:
        """Let go of the database. What is under way is another relay's when its lease is over."""
        await self._database.close()

    async def _run(self, operation: Callable[[Execute, dict[str, str]], T]) -> T:
        try:
            dialect = await asyncio.to_thread(lambda: self._database.dialect)
            sql = dict(statements(dialect, self._table))
            return await _whole(self._database.run(lambda execute: operation(execute, sql)))
        except TorilError:
            raise
        except Exception as error:
            raise EngineUnavailable(
                f"{self.location}: the outbox cannot be read ({type(error).__name__}: {error}). If there is no such "
                "table, make it with what `toril outbox sql` prints."
            ) from error


async def _whole(operation: Coroutine[Any, Any, T]) -> T:
    """Await an operation, and when the caller is cancelled, its end: no connection is left in the middle of it."""
    task = asyncio.ensure_future(operation)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _claimed(execute: Execute, sql: dict[str, str], now: int) -> list[Batch]:
    """First what another relay has left, else new batches."""
    lease = now + LEASE_MS
    taken = []
    for batch, _ in _rows(execute(sql["left_batches"], {"now": now})):
        if execute(sql["take_over"], {"batch": batch, "lease": lease, "now": now}):
            rows = _rows(execute(sql["content"], {"batch": batch}))
            _, queue, _, _, first, until = rows[0]
            jobs = tuple(due_from(unpacked(text), created, first) for _, _, text, created, _, _ in rows)
            taken.append(Batch(rows[0][0], batch, queue, jobs, first, until))
    if taken:
        return taken
    heads = _rows(execute(sql["heads"], {}))
    keyed = [str(int(row[0])) for row in heads if row[2] is not None]
    followers = _rows(execute(sql["followers"].replace("{seqs}", ",".join(keyed)), {})) if keyed else []
    return [_fixed(execute, sql, chunk, now) for chunk in _chunks(sorted([*heads, *followers]))]


def _fixed(execute: Execute, sql: dict[str, str], rows: Sequence[Sequence[Any]], now: int) -> Batch:
    batch, until = _new_id(), now + LONG_MEMORY_MS
    seqs = ",".join(str(int(row[0])) for row in rows)
    values = {"batch": batch, "now": now, "until": until, "lease": now + LEASE_MS}
    changed = execute(sql["fix"].replace("{seqs}", seqs), values)
    if changed != len(rows):
        # Where rows cannot be locked, another relay was quicker: nothing of this transaction must stay.
        raise EngineUnavailable("Another relay takes from the outbox at this moment.")
    jobs = tuple(due_from(unpacked(row[3]), row[4], now) for row in rows)
    return Batch(rows[0][0], batch, rows[0][1], jobs, now, until)


def _chunks(rows: Sequence[Sequence[Any]]) -> list[list[Sequence[Any]]]:
    chunks: list[list[Sequence[Any]]] = []
    filling: dict[str, tuple[list[Sequence[Any]], int]] = {}
    for row in rows:
        queue, size = row[1], len(row[3])
        chunk, filled = filling.get(queue, ([], MOST_BYTES))
        if filled + size > MOST_BYTES or len(chunk) >= MOST_JOBS:
            chunk, filled = [], 0
            chunks.append(chunk)
        chunk.append(row)
        filling[queue] = (chunk, filled + size)
    return chunks


def _rows(answer: Sequence[Sequence[Any]] | int) -> list[tuple[Any, ...]]:
    return [] if isinstance(answer, int) else [tuple(row) for row in answer]


def _new_id() -> str:
    return f"o{token_hex(16)}"
