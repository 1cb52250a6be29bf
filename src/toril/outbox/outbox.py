"""`Outbox`: jobs that come true with a transaction of the application's own database, as `Toril` offers them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from toril.engine.ports.spool import SetAside
from toril.errors import ConfigError
from toril.jobs.model import NewJob
from toril.kernel.clock import Clock
from toril.outbox.destination import Destination
from toril.outbox.opening import database_of
from toril.outbox.relay import Relay
from toril.outbox.statements import create_sql
from toril.outbox.table import OutboxStats, OutboxTable
from toril.outbox.writer import OutboxWriter


class Outbox:
    """Writes with any transaction that it is given. With a `database` workers relay what lies in its table: a URL or
    an engine of SQLAlchemy, or a function that makes connections of a driver. Raises ConfigError.
    """

    def __init__(
        self, database: object | None, *, table: str, poll_s: float, destination: Destination, clock: Clock
    ) -> None:
        self._name = table
        self._writer = OutboxWriter(table, self._nudge)
        self._relay = (
            None if database is None else Relay(database_of(database), table, destination, poll_s=poll_s, clock=clock)
        )

    @property
    def relay(self) -> Callable[[], Awaitable[None]] | None:
        """What a worker runs beside its jobs; None without a database."""
        return None if self._relay is None else self._relay.run

    async def put(self, transaction: object, queue: str, job: NewJob, now: int) -> None:
        """Store a job with a transaction. Raises ConfigError, and what its database raises."""
        await self._writer.put(transaction, queue, job, now)

    def put_sync(self, transaction: object, queue: str, job: NewJob, now: int) -> None:
        """The same for transactions that are not async."""
        self._writer.put_sync(transaction, queue, job, now)

    def on_commit(self, transaction: object, call: Callable[[], None]) -> None:
        """Call something once, when the outermost transaction of a session of SQLAlchemy has been committed; never,
        when it is rolled back. Raises ConfigError for what is no session: nothing else tells.
        """
        self._writer.on_commit(transaction, call)

    def create_sql(self, dialect: str) -> str:
        """What makes the table: for `postgresql`, `mysql` or `sqlite`. Raises ConfigError."""
        return create_sql(dialect, self._name)

    async def stats(self) -> OutboxStats:
        """How full it is. Raises ConfigError without a database, EngineUnavailable when that does not answer."""
        return await self._table().stats()

    async def listed(self) -> tuple[SetAside, ...]:
        """Batches that were set aside, oldest first. Raises as `stats`."""
        return await self._table().listed()

    async def again(self, batch: str) -> bool:
        """Send a batch that was set aside once more. False without such a batch. Raises as `stats`."""
        return await self._table().again(batch)

    async def drop(self, batch: str) -> bool:
        """Delete a batch that was set aside. False without such a batch. Raises as `stats`."""
        return await self._table().drop(batch)

    async def close(self) -> None:
        """Let go of the database."""
        if self._relay is not None:
            await self._relay.close()

    def _nudge(self) -> None:
        if self._relay is not None:
            self._relay.nudge()

    def _table(self) -> OutboxTable:
        if self._relay is None:
            raise ConfigError("The outbox has no database: name it with Toril(outbox=…) or TORIL_OUTBOX_URL.")
        return self._relay.table()
