"""`JobInspector` on SQLite: reads on the reader's connection, changes on the writer's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from toril.engine.ports.inspect import Changed, JobInspector, JobPage, LogPage, QueueInfo
from toril.engine.sqlite import kin
from toril.engine.sqlite.connection import SqliteThread
from toril.engine.sqlite.inserting import emit, queue_number
from toril.engine.sqlite.jobs import put_in_line
from toril.engine.sqlite.limiting import read_limits, write_limits
from toril.engine.sqlite.rows import (
    ACTIVE,
    COMPLETED,
    DELAYED,
    FAILED,
    NUMBERS,
    PAUSED,
    PRIORITIZED,
    REMOVED,
    RESUMED,
    WAITING,
    job_of,
)
from toril.engine.sqlite.statements import load
from toril.engine.sqlite.transaction import Transaction
from toril.engine.sqlite.unique import free_removed
from toril.errors import ConfigError, JobLocked
from toril.jobs.limits import QueueLimits
from toril.jobs.model import Counts, Job
from toril.jobs.states import State
from toril.jobs.telling import Told
from toril.kernel import codec

_SQL = load("inspect")
_FURTHEST = 1 << 62
# How a cursor tells the direction of its listing, by `newest_first`.
_WAYS = ("up", "down")


class SqliteJobInspector:
    """The cold path on one SQLite store."""

    def __init__(self, writer: SqliteThread, reader: SqliteThread) -> None:
        self._writer = writer
        self._reader = reader

    async def get(self, id: str, queue: str | None = None) -> Job | None:
        row = await self._reader.run(lambda tx: tx.row(_SQL["whole"], id=id, queue=queue))
        return None if row is None else job_of(row)

    async def list(
        self,
        queue: str,
        states: Sequence[State],
        *,
        limit: int = 50,
        cursor: str | None = None,
        newest_first: bool = False,
        name: str | None = None,
        owner: str | None = None,
    ) -> JobPage:
        numbers = [NUMBERS[state] for state in states]
        start = _read_cursor(cursor, numbers, newest_first)

        def operation(tx: Transaction) -> JobPage:
            row = tx.row(_SQL["queue"], queue=queue)
            found: list[tuple[Any, ...]] = []
            index, place, seq = start
            while row is not None and index < len(numbers) and len(found) <= limit:
                found += tx.rows(
                    _SQL["page_down" if newest_first else "page_up"],
                    queue=row[0],
                    queue_name=queue,
                    state=numbers[index],
                    place=place,
                    seq=seq,
                    name=name,
                    owner=owner,
                    limit=limit + 1 - len(found),
                )
                index, (place, seq) = index + 1, _ends(newest_first)
            page = found[:limit]
            more = len(found) > limit and page
            after = f"{_WAYS[newest_first]}.{page[-1][2]}.{page[-1][3]}.{page[-1][-1]}" if more else None
            return JobPage(tuple(job_of(each[:-1]) for each in page), after)

        return await self._reader.run(operation)

    async def logs(self, queue: str, id: str, *, start: int = 0, limit: int = 1000) -> LogPage:
        def operation(tx: Transaction) -> LogPage:
            lines = tx.rows(_SQL["lines"], queue=queue, id=id, start=start, limit=limit)
            return LogPage(tuple(row[0] for row in lines), tx.value(_SQL["count_lines"], queue=queue, id=id))

        return await self._reader.run(operation)

    async def counts(self, queue: str) -> Counts:
        row = await self._reader.run(lambda tx: tx.row(_SQL["counts"], queue=queue))
        return Counts() if row is None else Counts(*row)

    async def queues(self) -> tuple[QueueInfo, ...]:
        rows = await self._reader.run(lambda tx: tx.rows(_SQL["queues"]))
        return tuple(QueueInfo(name, bool(paused), Counts(*counts)) for name, paused, *counts in rows)

    async def pause(self, queue: str, *, now: int) -> None:
        await self._set_paused(queue, True, now)

    async def resume(self, queue: str, *, now: int) -> None:
        await self._set_paused(queue, False, now)

    async def is_paused(self, queue: str) -> bool:
        row = await self._reader.run(lambda tx: tx.row(_SQL["queue"], queue=queue))
        return row is not None and bool(row[1])

    async def limits(self, queue: str) -> QueueLimits:
        return await self._reader.run(lambda tx: read_limits(tx, queue))

    async def set_limits(self, queue: str, limits: QueueLimits, *, now: int, declared: bool = False) -> bool:
        def operation(tx: Transaction) -> bool:
            done = write_limits(tx, queue_number(tx, queue), limits, declared, now)
            if done:
                tx.touched.add(f"w:{queue}")
            return done

        return await self._writer.run(operation)

    async def told(self, queue: str) -> Told:
        return tuple(Told)[await self._reader.run(lambda tx: tx.value(_SQL["told"], queue=queue)) or 0]

    async def set_told(self, queue: str, told: Told, *, now: int, declared: bool = False) -> bool:
        number = tuple(Told).index(told)
        statement = _SQL["declare_told"] if declared else _SQL["set_told"]
        return await self._writer.run(lambda tx: tx.run(statement, queue=queue_number(tx, queue), told=number) > 0)

    async def retry(self, queue: str, ids: Sequence[str], *, now: int) -> tuple[Changed, ...]:
        def change(tx: Transaction, queue_id: int, jobs: Sequence[_Found]) -> None:
            seqs = [job[1] for job in jobs]
            tx.run(_SQL["clear"], seqs=codec.encode(seqs))
            kin.children_again(tx, seqs)
            put_in_line(tx, queue_id, [(job[1], job[3]) for job in jobs], now)

        return await self._change(queue, ids, lambda state, *_: state in (COMPLETED, FAILED), change)

    async def promote(self, queue: str, ids: Sequence[str], *, now: int) -> tuple[Changed, ...]:
        def change(tx: Transaction, queue_id: int, jobs: Sequence[_Found]) -> None:
            put_in_line(tx, queue_id, [(job[1], job[3]) for job in jobs], now)

        return await self._change(queue, ids, lambda state, *_: state == DELAYED, change)

    async def remove(self, queue: str, ids: Sequence[str], *, now: int) -> tuple[Changed, ...]:
        def change(tx: Transaction, queue_id: int, jobs: Sequence[_Found]) -> dict[int, Changed]:
            refused: dict[int, Changed] = {}
            for number, seq, state, _ in jobs:
                if tx.value(_SQL["is_there"], seq=seq) is None:
                    # It went with its parent.
                    refused[number] = Changed.MISSING
                elif kin.is_locked(family := kin.offspring(tx, [seq]), now):
                    refused[number] = Changed.LOCKED
                else:
                    for each, at in [(seq, queue_id), *((child.seq, child.queue) for child in family)]:
                        free_removed(tx, at, tx.rows(_SQL["delete"], seqs=codec.encode([each])))
                    kin.tell_removed(tx, family, now)
                    emit(tx, queue_id, [(REMOVED, ids[number], now, state, None)])
                    kin.settle_deleted(tx, now)
            return refused

        def allowed(state: int, place: int, planned: int) -> bool:
            # Without the run that it has planned a schedule would stop for good.
            return not planned and (state != ACTIVE or place <= now)

        return await self._change(queue, ids, allowed, change, Changed.MISSING)

    async def drain(self, queue: str, *, delayed: bool, now: int, limit: int = 1000) -> int:
        states = codec.encode([WAITING, PRIORITIZED, *([DELAYED] if delayed else [])])

        def operation(tx: Transaction) -> int:
            row = tx.row(_SQL["queue"], queue=queue)
            if row is None:
                return 0
            return _deleted(tx, row[0], tx.rows(_SQL["drain"], queue=row[0], states=states, limit=limit), now)

        return await self._writer.run(operation)

    async def clean(self, queue: str, state: State, *, before: int, now: int, limit: int = 1000) -> int:
        def operation(tx: Transaction) -> int:
            row = tx.row(_SQL["queue"], queue=queue)
            if row is None:
                return 0
            values: dict[str, Any] = {"queue": row[0], "state": NUMBERS[state], "before": before, "limit": limit}
            if state.finished:
                return _deleted(tx, row[0], tx.rows(_SQL["clean_finished"], **values), now)
            return _deleted(tx, row[0], tx.rows(_SQL["clean_unfinished"], **values, now=now), now)

        return await self._writer.run(operation)

    async def obliterate(self, queue: str, *, force: bool, now: int, limit: int = 1000) -> bool:
        active, done = await self._writer.run(lambda tx: _obliterate(tx, queue, force, now, limit))
        if active:
            raise JobLocked(
                f"Queue {queue!r} is paused but not obliterated: {active} of its jobs are running. "
                "Wait for them, or use force to delete them under their workers."
            )
        return done

    async def _set_paused(self, queue: str, paused: bool, now: int) -> None:
        def operation(tx: Transaction) -> None:
            queue_id = queue_number(tx, queue)
            if tx.run(_SQL["set_paused"], queue=queue_id, paused=int(paused)):
                kind = PAUSED if paused else RESUMED
                emit(tx, queue_id, [(kind, "", now, None, None)])
                tx.touched |= {f"w:{queue}", f"e:{queue}"}

        await self._writer.run(operation)

    async def _change(
        self,
        queue: str,
        ids: Sequence[str],
        allowed: Callable[[int, int, int], bool],
        change: Callable[[Transaction, int, Sequence[_Found]], dict[int, Changed] | None],
        again: Changed = Changed.REFUSED,
    ) -> tuple[Changed, ...]:
        """Change jobs that `allowed(state, place, planned by a schedule)` lets through. `again` answers a job that is
        named a second time, and what `change` answers stands for the jobs that it refused, by index.
        """

        def operation(tx: Transaction) -> tuple[Changed, ...]:
            row = tx.row(_SQL["queue"], queue=queue)
            if row is None:
                return tuple(Changed.MISSING for _ in ids)
            codes = [Changed.MISSING] * len(ids)
            jobs: dict[int, _Found] = {}
            found = codec.decode(tx.value(_SQL["some"], ids=codec.encode(ids), queue=row[0]))
            for number, seq, state, priority, place, planned in sorted(found):
                if seq in jobs:
                    codes[number] = again
                elif allowed(state, place, planned):
                    codes[number] = Changed.OK
                    jobs[seq] = (number, seq, state, priority)
                else:
                    codes[number] = Changed.LOCKED if state == ACTIVE and not planned else Changed.REFUSED
            if jobs:
                for number, code in (change(tx, row[0], list(jobs.values())) or {}).items():
                    codes[number] = code
                tx.touched |= {f"w:{queue}", f"e:{queue}"}
            return tuple(codes)

        return await self._writer.run(operation)


_Found = tuple[int, int, int, int]
"""A job that an operation names: its index among the given ids, its number, state and priority."""


def _obliterate(tx: Transaction, queue: str, force: bool, now: int, limit: int) -> tuple[int, bool]:
    """Delete a part of a queue. Answers how many active jobs forbid it, and whether nothing is left."""
    row = tx.row(_SQL["queue"], queue=queue)
    if row is None:
        return 0, True
    tx.run(_SQL["set_paused"], queue=row[0], paused=1)
    active = Counts(*tx.row(_SQL["counts"], queue=queue) or ()).active
    if active and not force:
        return active, False
    deleted = tx.run(_SQL["obliterate_jobs"], queue=row[0], limit=limit)
    kin.settle_deleted(tx, now, hard=True)
    if deleted == limit:
        return 0, False
    if tx.run(_SQL["obliterate_events"], queue=row[0], limit=limit * 5) == limit * 5:
        return 0, False
    for part in ("obliterate_exchanges", "obliterate_keys", "obliterate_schedules"):
        tx.run(_SQL[part], queue=row[0])
    for name in ("obliterate_number", "obliterate_queue"):
        tx.run(_SQL[name], queue=row[0])
    tx.touched.add(f"e:{queue}")
    return 0, True


def _deleted(tx: Transaction, queue_id: int, removed: Sequence[tuple[str, str | None]], now: int) -> int:
    """Free the keys of deleted jobs, and settle with their parents. Answers how many jobs those were."""
    free_removed(tx, queue_id, removed)
    kin.settle_deleted(tx, now, hard=True)
    return len(removed)


def _ends(newest_first: bool) -> tuple[int, int]:
    """Where a listing begins: before every place."""
    return (_FURTHEST, _FURTHEST) if newest_first else (-_FURTHEST, -_FURTHEST)


def _read_cursor(cursor: str | None, numbers: Sequence[int], newest_first: bool) -> tuple[int, int, int]:
    """Which of the states to go on with, and after which place and number."""
    if cursor is None:
        return (0, *_ends(newest_first))
    try:
        way, *rest = cursor.split(".")
        state, place, seq = (int(part) for part in rest)
        if way == _WAYS[newest_first]:
            return numbers.index(state), place, seq
    except ValueError:
        # Not of our making: answered as a cursor of another listing is.
        pass
    raise ConfigError(
        f"cursor: expected the cursor of an earlier page of this listing, got {cursor!r}. Begin again without one."
    )


_: type[JobInspector] = SqliteJobInspector
