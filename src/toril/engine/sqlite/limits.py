"""`LimitStore` on SQLite: on a file one small transaction per call, and in memory no statement at all."""

from __future__ import annotations

from collections.abc import Sequence

from toril.engine.ports.limits import Check, LimitStore, Verdict
from toril.engine.ports.metering import Meters, check_key, measure
from toril.engine.sqlite.connection import SqliteThread
from toril.engine.sqlite.statements import load
from toril.engine.sqlite.transaction import Transaction
from toril.kernel import codec

_SQL = load("meters")
_EXPIRED_PER_WRITE = 20


class SqliteLimitStore:
    """What was counted, on one SQLite file."""

    def __init__(self, writer: SqliteThread, reader: SqliteThread) -> None:
        self._writer = writer
        self._reader = reader

    async def take(
        self, checks: Sequence[Check], *, now: int, count: bool = True, timeout_s: float | None = None
    ) -> tuple[Verdict, ...]:
        text = _checked([check.key for check in checks])
        count = count and any(check.cost for check in checks)

        def operation(tx: Transaction) -> tuple[Verdict, ...]:
            meters: dict[int, list[int]] = dict(codec.decode(tx.value(_SQL["read"], keys=text)))
            measured = [
                measure(check, tuple(meters.get(number, ())), now * 1000) for number, check in enumerate(checks)
            ]
            if count and not any(one.verdict.retry_ms for one in measured):
                rows = [
                    (check.key, codec.encode(one.counted), -(-one.until // 1000))
                    for check, one in zip(checks, measured, strict=True)
                    if check.cost
                ]
                tx.spread(_SQL["put"], rows)
                tx.run(_SQL["expired"], now=now, limit=_EXPIRED_PER_WRITE + len(rows))
            return tuple(one.verdict for one in measured)

        # Whoever only asks does not wait for a turn to write.
        return await (self._writer if count else self._reader).run(operation)

    async def reset(self, keys: Sequence[str]) -> int:
        text = _checked(keys)
        return await self._writer.run(lambda tx: tx.run(_SQL["delete"], keys=text))


class LimitsInMemory:
    """What was counted, in this process: as exact as on a file, and without a thread in between."""

    def __init__(self) -> None:
        self._meters = Meters()

    async def take(
        self, checks: Sequence[Check], *, now: int, count: bool = True, timeout_s: float | None = None
    ) -> tuple[Verdict, ...]:
        return self._meters.take(checks, now=now, count=count)

    async def reset(self, keys: Sequence[str]) -> int:
        return self._meters.reset(keys)


def _checked(keys: Sequence[str]) -> str:
    for key in keys:
        check_key(key)
    return codec.encode(list(keys))


_: tuple[type[LimitStore], type[LimitStore]] = (SqliteLimitStore, LimitsInMemory)
