"""saq: its Redis queue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from saq import Queue, Worker

from bench.redis.adapters.protocol import NAP_S, QUEUE, stamp_now
from bench.redis.child import run

_TOGETHER = 50
_OPTIONS = {"retries": 3, "retry_delay": 1.0, "retry_backoff": True, "ttl": 3600}


class SaqAdapter:
    """One queue."""

    def __init__(self, url: str, slots: int) -> None:
        self._queue = Queue.from_url(url, name=QUEUE)
        self._slots = slots

    async def open(self) -> None:
        await self._queue.connect()

    async def close(self) -> None:
        await self._queue.disconnect()

    async def enqueue(self, task: str, number: int) -> None:
        await self._queue.enqueue(task, number=number, **_OPTIONS)

    async def enqueue_all(self, task: str, numbers: Sequence[int]) -> None:
        for start in range(0, len(numbers), _TOGETHER):
            await asyncio.gather(*(self.enqueue(task, number) for number in numbers[start : start + _TOGETHER]))

    def work(self) -> None:
        run(self._work())

    async def _work(self) -> None:
        functions: list[tuple[str, Any]] = [("noop", _noop), ("nap", _nap), ("stamp", _stamp)]
        await self._queue.connect()
        await Worker(self._queue, functions, concurrency=self._slots).start()


async def _noop(ctx: dict[str, Any], *, number: int) -> int:
    return number


async def _nap(ctx: dict[str, Any], *, number: int) -> int:
    await asyncio.sleep(NAP_S)
    return number


async def _stamp(ctx: dict[str, Any], *, number: int) -> int:
    return stamp_now(number)


make = SaqAdapter
