"""The outbox on SQLAlchemy: its sessions and connections, sync and async, and its engines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_scoped_session, create_async_engine
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from toril.errors import ConfigError
from toril.outbox.statements import dialect_of

T = TypeVar("T")
# In a session's own `info`: what is to be called, and the transaction or savepoint in which that was asked for.
_CALLS = "toril_on_commit"
Execute = Callable[[str, Mapping[str, Any]], Sequence[Sequence[Any]] | int]


class AlchemyDatabase:
    """A database by its URL, or by an engine of the application."""

    def __init__(self, engine: Engine | AsyncEngine | str) -> None:
        if isinstance(engine, str):
            try:
                url = make_url(engine)
                own: Engine | AsyncEngine = (
                    create_async_engine(url) if url.get_dialect().is_async else create_engine(url, pool_pre_ping=True)
                )
            except (ArgumentError, SQLAlchemyError, ImportError) as error:
                raise ConfigError(
                    f"TORIL_OUTBOX_URL: expected a URL of SQLAlchemy, found one that it refuses: {error}"
                ) from None
            self._engine, self._own = own, True
        else:
            self._engine, self._own = engine, False
        self.location = self._engine.url.render_as_string(hide_password=True)
        self.dialect = dialect_of(self._engine.dialect.name)
        if self.dialect != "sqlite":
            # Whoever waits for a row must then see what became of it.
            self._engine = self._engine.execution_options(isolation_level="READ COMMITTED")

    async def run(self, operation: Callable[[Execute], T]) -> T:
        """Run an operation in a transaction of its own."""
        if isinstance(self._engine, AsyncEngine):
            async with self._engine.begin() as connection:
                return await connection.run_sync(lambda inner: operation(_execute_on(inner)))
        return await asyncio.to_thread(self._run, self._engine, operation)

    @staticmethod
    def _run(engine: Engine, operation: Callable[[Execute], T]) -> T:
        with engine.begin() as connection:
            return operation(_execute_on(connection))

    async def close(self) -> None:
        """Let go of connections, unless the engine is the application's."""
        if not self._own:
            return
        if isinstance(self._engine, AsyncEngine):
            await self._engine.dispose()
        else:
            await asyncio.to_thread(self._engine.dispose)


def is_engine(given: object) -> TypeGuard[Engine | AsyncEngine]:
    """Whether this is an engine of SQLAlchemy."""
    return isinstance(given, Engine | AsyncEngine)


def is_session(transaction: object) -> bool:
    """Whether this can tell when it has committed."""
    return _session_of(transaction) is not None


def is_ours(transaction: object) -> bool:
    """Whether this is a session or connection of SQLAlchemy."""
    return isinstance(
        transaction, Session | scoped_session | Connection | AsyncSession | async_scoped_session | AsyncConnection
    )


def is_async(transaction: object) -> bool:
    """Whether it must be awaited."""
    return isinstance(transaction, AsyncSession | async_scoped_session | AsyncConnection)


async def execute(transaction: Any, sql: str, values: Mapping[str, Any]) -> None:
    """Execute a statement in the transaction of a session or connection."""
    done = transaction.execute(text(sql), values)
    if is_async(transaction):
        await done


def execute_sync(transaction: Any, sql: str, values: Mapping[str, Any]) -> None:
    """The same, for those that are not async. Raises ConfigError for one that is."""
    if is_async(transaction):
        raise ConfigError("enqueue_in_sync: expected a session or connection that is not async: await enqueue_in.")
    transaction.execute(text(sql), values)


def on_commit(transaction: object, call: Callable[[], None]) -> None:
    """Call something when the outermost transaction of a session has been committed; never, when it is rolled back.

    Raises ConfigError for what is no session: connections do not tell.
    """
    session = _session_of(transaction)
    if session is None:
        raise ConfigError(
            f"on_commit: expected a Session or AsyncSession of SQLAlchemy, got {type(transaction).__name__}: nothing "
            "else tells when it has committed."
        )

    calls = session.info.get(_CALLS)
    if calls is None:
        calls = session.info[_CALLS] = []
        event.listen(session, "after_commit", _committed)
        event.listen(session, "after_soft_rollback", _rolled_back)
    calls.append((session.get_nested_transaction() or session.get_transaction(), call))


def _committed(session: Session) -> None:
    calls = session.info[_CALLS]
    nested = session.get_nested_transaction()
    if nested is None:
        now, calls[:] = list(calls), []
        for _, call in now:
            call()
    else:
        # A savepoint that is released: its calls wait for what it is part of.
        calls[:] = [(nested.parent if begun is nested else begun, call) for begun, call in calls]


def _rolled_back(session: Session, ended: SessionTransaction) -> None:
    calls = session.info[_CALLS]
    calls[:] = [(begun, call) for begun, call in calls if ended.parent is not None and not _is_in(begun, ended)]


def _is_in(begun: SessionTransaction | None, ended: SessionTransaction) -> bool:
    while begun is not None and begun is not ended:
        begun = begun.parent
    return begun is ended


def _session_of(transaction: object) -> Session | None:
    if isinstance(transaction, scoped_session | async_scoped_session):
        transaction = transaction()
    if isinstance(transaction, AsyncSession):
        return transaction.sync_session
    return transaction if isinstance(transaction, Session) else None


def _execute_on(connection: Connection) -> Execute:
    def execute(sql: str, values: Mapping[str, Any]) -> Sequence[Sequence[Any]] | int:
        result = connection.execute(text(sql), values)
        return result.fetchall() if result.returns_rows else result.rowcount

    return execute
