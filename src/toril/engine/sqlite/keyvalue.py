"""`KeyValueStore` on SQLite. Expired values are invisible at once, and deleted a few at a time by later writes."""

from __future__ import annotations

from collections.abc import Sequence

from toril.engine.ports.keyvalue import KeyPage, KeyValueStore
from toril.engine.sqlite.connection import SqliteThread
from toril.engine.sqlite.statements import load
from toril.engine.sqlite.transaction import Transaction
from toril.errors import ConfigError
from toril.kernel import codec

_SQL = load("keyvalue")
_LONGEST_KEY = 512
_EXPIRED_PER_WRITE = 20


class SqliteKeyValueStore:
    """Small values on one SQLite store."""

    def __init__(self, writer: SqliteThread, reader: SqliteThread) -> None:
        self._writer = writer
        self._reader = reader

    async def get(self, keys: Sequence[str], *, now: int, timeout_s: float | None = None) -> tuple[bytes | None, ...]:
        text = codec.encode(_checked(keys))
        found = await self._reader.run(lambda tx: tx.value(_SQL["get"], keys=text, now=now))
        values = {number: bytes.fromhex(value) for number, value in codec.decode(found)}
        return tuple(values.get(number) for number in range(len(keys)))

    async def set(
        self, items: Sequence[tuple[str, bytes]], *, ttl_ms: int, now: int, timeout_s: float | None = None
    ) -> None:
        _checked([key for key, _ in items])
        # Of several values for one key the last holds; SQLite would refuse to change one row twice.
        rows = [(key, value, now + ttl_ms) for key, value in dict(items).items()]

        def operation(tx: Transaction) -> None:
            tx.spread(_SQL["set"], rows)
            tx.run(_SQL["expired"], now=now, limit=_EXPIRED_PER_WRITE + len(rows))

        if rows:
            await self._writer.run(operation)

    async def replace(
        self,
        key: str,
        value: bytes | None,
        *,
        expected: bytes | None,
        ttl_ms: int,
        now: int,
        timeout_s: float | None = None,
    ) -> bool:
        _checked([key])

        def operation(tx: Transaction) -> bool:
            if tx.value(_SQL["one"], key=key, now=now) != expected:
                return False
            if value is None:
                tx.run(_SQL["delete"], keys=codec.encode([key]))
            else:
                tx.spread(_SQL["set"], [(key, value, now + ttl_ms)])
            tx.run(_SQL["expired"], now=now, limit=_EXPIRED_PER_WRITE)
            return True

        return await self._writer.run(operation)

    async def delete(self, keys: Sequence[str], *, timeout_s: float | None = None) -> int:
        text = codec.encode(_checked(keys))
        return await self._writer.run(lambda tx: tx.run(_SQL["delete"], keys=text))

    async def scan(self, prefix: str, *, now: int, limit: int = 1000, cursor: str | None = None) -> KeyPage:
        after = cursor or ""
        rows = await self._reader.run(
            lambda tx: tx.rows(_SQL["scan"], prefix=prefix, after=after, now=now, limit=limit + 1)
        )
        keys = tuple(row[0] for row in rows[:limit])
        return KeyPage(keys, keys[-1] if len(rows) > limit else None)


def _checked(keys: Sequence[str]) -> Sequence[str]:
    for key in keys:
        if not 1 <= len(key) <= _LONGEST_KEY or "\x00" in key:
            raise ConfigError(f"key: expected text of 1 to {_LONGEST_KEY} characters without NUL, got {key[:80]!r}.")
    return keys


_: type[KeyValueStore] = SqliteKeyValueStore
