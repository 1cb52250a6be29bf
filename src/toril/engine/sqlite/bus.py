"""`Bus` on SQLite: the event table, read by row id."""

from __future__ import annotations

from toril.engine.ports.bus import Bus, EventPage
from toril.engine.sqlite.connection import SqliteThread
from toril.engine.sqlite.rows import event_of
from toril.engine.sqlite.statements import load
from toril.engine.sqlite.transaction import Transaction
from toril.engine.sqlite.wakeups import Wakeups
from toril.errors import ConfigError

_SQL = load("bus")


class SqliteBus:
    """The event log of one SQLite store."""

    def __init__(self, reader: SqliteThread, wakeups: Wakeups) -> None:
        self._reader = reader
        self._wakeups = wakeups

    async def tail(self, queue: str) -> str:
        return str(await self._reader.run(lambda tx: tx.value(_SQL["tail"], queue=queue)) or 0)

    async def read(self, queue: str, *, after: str, limit: int = 1000) -> EventPage:
        start = _number(after)

        def operation(tx: Transaction) -> EventPage:
            row = tx.row(_SQL["queue"], queue=queue)
            if row is None:
                return EventPage((), False)
            rows = tx.rows(_SQL["after"], queue=row[0], after=start, limit=limit)
            return EventPage(tuple(event_of(each, queue) for each in rows), start < row[1])

        return await self._reader.run(operation)

    async def wait(self, queue: str, *, after: str, timeout: float) -> bool:
        start = _number(after)
        with self._wakeups.register([f"e:{queue}"]) as waiter:
            if await self._reader.run(lambda tx: tx.value(_SQL["any"], queue=queue, after=start)):
                return True
            return await waiter.wait(timeout)


def _number(id_: str) -> int:
    # The upper bound is SQLite's own for row ids.
    if not id_.isdecimal() or not id_.isascii() or int(id_) > 2**63 - 1:
        raise ConfigError(f"Event id: expected the id of an event of this store (a whole number), got {id_!r}.")
    return int(id_)


_: type[Bus] = SqliteBus
