"""Reads that are asked for while others are under way are joined: one call of the store for all of one loop turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from toril.errors import EngineUnavailable

Values = Sequence[bytes | None]
ReadMany = Callable[[Sequence[str]], Awaitable[Values]]

_MOST_JOINED = 500


class Reads:
    """Joins reads, by event loop. `read_many` is the call that reads many keys."""

    def __init__(self, read_many: ReadMany) -> None:
        self._read_many = read_many
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, _Line] = WeakKeyDictionary()

    async def read(self, keys: Sequence[str]) -> Values:
        """The values of keys. Raises what the store raises."""
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None:
            line = self._lines[loop] = _Line(self._read_many)
        if line.under_way or line.waiting:
            return await line.join(keys, loop)
        line.under_way += 1
        try:
            return await self._read_many(keys)
        finally:
            line.under_way -= 1


class _Line:
    """What is asked in one event loop."""

    def __init__(self, read_many: ReadMany) -> None:
        self.under_way = 0
        self.waiting: list[tuple[Sequence[str], asyncio.Future[Values]]] = []
        self._read_many = read_many
        self._tasks: set[asyncio.Task[None]] = set()

    def join(self, keys: Sequence[str], loop: asyncio.AbstractEventLoop) -> asyncio.Future[Values]:
        future: asyncio.Future[Values] = loop.create_future()
        self.waiting.append((keys, future))
        if len(self.waiting) == 1:
            loop.call_soon(self._flush, loop)
        return future

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting, self.waiting = self.waiting, []
        for at in range(0, len(waiting), _MOST_JOINED):
            task = loop.create_task(self._read(waiting[at : at + _MOST_JOINED]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _read(self, asked: list[tuple[Sequence[str], asyncio.Future[Values]]]) -> None:
        self.under_way += 1
        places: dict[str, int] = {}
        for keys, _ in asked:
            for key in keys:
                places.setdefault(key, len(places))
        try:
            values: Any = await self._read_many(list(places))
        except Exception as error:  # noqa: BLE001 - it belongs to those who asked
            for _, future in asked:
                if not future.done():
                    future.set_exception(_of_one(error))
        else:
            for keys, future in asked:
                if not future.done():
                    future.set_result([values[places[key]] for key in keys])
        finally:
            self.under_way -= 1
            for _, future in asked:
                future.cancel()


def _of_one(error: Exception) -> Exception:
    """The error for one of several callers: each gets one of its own, with its own traceback."""
    return EngineUnavailable(str(error)) if isinstance(error, EngineUnavailable) else error
