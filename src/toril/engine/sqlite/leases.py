"""`LeaseStore` on SQLite: values with an expiry, one per queue, that hold the holder's name."""

from __future__ import annotations

from collections.abc import Sequence

from toril.engine.ports.leases import Lease, LeaseStore
from toril.engine.sqlite.connection import SqliteThread
from toril.engine.sqlite.statements import load
from toril.engine.sqlite.transaction import Transaction
from toril.kernel import codec

_SQL = load("leases")
# A lease that lasts so many times longer than it could is from before a clock was set back: nobody renews it.
_LONGEST = 10


class SqliteLeaseStore:
    """The leases on one SQLite store."""

    def __init__(self, writer: SqliteThread, reader: SqliteThread) -> None:
        self._writer = writer
        self._reader = reader

    async def hold(self, queue: str, holder: str, *, ttl_ms: int, now: int) -> Lease:
        def look(tx: Transaction) -> Lease | None:
            row = tx.row(_SQL["holder"], queue=queue, now=now)
            if row is None or row[0] == holder or row[1] - now > _LONGEST * ttl_ms:
                return None
            return Lease(False, row[1] - now)

        def operation(tx: Transaction) -> Lease:
            taken = look(tx)
            if taken is not None:
                return taken
            tx.run(_SQL["hold"], queue=queue, holder=holder, until=now + ttl_ms)
            return Lease(True, ttl_ms)

        # Most who ask find it taken, and need not wait for their turn to write.
        taken = await self._reader.run(look)
        return await self._writer.run(operation) if taken is None else taken

    async def release(self, queue: str, holder: str, *, now: int) -> bool:
        return await self._writer.run(lambda tx: tx.run(_SQL["release"], queue=queue, holder=holder, now=now) > 0)

    async def holders(self, queues: Sequence[str], *, now: int) -> tuple[str | None, ...]:
        asked = codec.encode(list(queues))
        found = dict(await self._reader.run(lambda tx: tx.rows(_SQL["holders"], queues=asked, now=now)))
        return tuple(found.get(queue) for queue in queues)


_: type[LeaseStore] = SqliteLeaseStore
