"""Putting jobs into an outbox, in somebody else's transaction."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from toril.errors import ConfigError
from toril.jobs.model import NewJob
from toril.jobs.parcel import packed
from toril.outbox import plain
from toril.outbox.statements import checked_table, statements
from toril.tasks.transaction import Ordered


class _Row(NamedTuple):
    transaction: Any
    sql: str
    values: Mapping[str, Any]


class OutboxWriter:
    """Writes jobs into the table `table` of whatever database a transaction is of. `nudge` is called when one has been
    committed, as far as that is told.
    """

    def __init__(self, table: str, nudge: Callable[[], None]) -> None:
        # Nothing in this statement differs between databases.
        self._sql = statements("postgresql", checked_table(table))["put"]
        self._nudge = nudge

    async def put(self, transaction: object, queue: str, job: NewJob, now: int) -> None:
        """Store a job with a transaction: of an (async) session or connection of SQLAlchemy, or a connection of a
        driver. Raises ConfigError for anything else, and what the database raises.
        """
        row = self._row(transaction, queue, job, now)
        alchemy = _alchemy_for(row.transaction)
        if alchemy is None:
            plain.execute(row.transaction, row.sql, row.values)
        else:
            await alchemy.execute(row.transaction, row.sql, row.values)
            self._told(alchemy, row.transaction)

    def put_sync(self, transaction: object, queue: str, job: NewJob, now: int) -> None:
        """The same for transactions that are not async. Raises ConfigError."""
        row = self._row(transaction, queue, job, now)
        alchemy = _alchemy_for(row.transaction)
        if alchemy is None:
            plain.execute(row.transaction, row.sql, row.values)
        else:
            alchemy.execute_sync(row.transaction, row.sql, row.values)
            self._told(alchemy, row.transaction)

    def on_commit(self, transaction: object, call: Callable[[], None]) -> None:
        """Call something once, when a session of SQLAlchemy has committed. Raises ConfigError for anything else."""
        alchemy = _alchemy_for(transaction)
        if alchemy is None:
            raise ConfigError(
                f"on_commit: expected a Session or AsyncSession of SQLAlchemy, got {type(transaction).__name__}: "
                "nothing else tells when it has committed."
            )
        alchemy.on_commit(transaction, call)

    def _row(self, transaction: object, queue: str, job: NewJob, now: int) -> _Row:
        key: str | None = None
        if isinstance(transaction, Ordered):
            key, transaction = transaction.key, transaction.transaction
        values = {"job_id": job.id, "queue": queue, "order_key": key, "job": packed(job), "created": now}
        return _Row(transaction, self._sql, values)

    def _told(self, alchemy: Any, transaction: object) -> None:
        if alchemy.is_session(transaction):
            alchemy.on_commit(transaction, self._nudge)


def _alchemy_for(transaction: object) -> Any:
    """The module that knows SQLAlchemy, if this is of it. Who has such an object has loaded the library."""
    if "sqlalchemy" not in sys.modules:
        return None
    alchemy = import_module("toril.outbox.alchemy")
    return alchemy if alchemy.is_ours(transaction) else None
