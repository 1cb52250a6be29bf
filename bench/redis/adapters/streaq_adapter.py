"""streaq: async, over streams."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from streaq import Worker

from bench.redis.adapters.protocol import NAP_S, QUEUE, stamp_now
from bench.redis.child import run

_CHUNK = 1_000


class StreaqAdapter:
    """One worker object, which is the producer too."""

    def __init__(self, url: str, slots: int) -> None:
        logging.getLogger("streaq").setLevel(logging.ERROR)
        self._worker = Worker(redis_url=url, concurrency=slots, queue_name=QUEUE, handle_signals=False)
        register = self._worker.task
        self._tasks = {
            name: register(name=name, max_tries=3, ttl=3600, silent=True)(function)
            for name, function in {"noop": _noop, "nap": _nap, "stamp": _stamp}.items()
        }

    async def open(self) -> None:
        await self._worker.__aenter__()

    async def close(self) -> None:
        await self._worker.__aexit__(None, None, None)

    async def enqueue(self, task: str, number: int) -> None:
        await self._tasks[task].enqueue(number)

    async def enqueue_all(self, task: str, numbers: Sequence[int]) -> None:
        for start in range(0, len(numbers), _CHUNK):
            await self._worker.enqueue_many(
                [self._tasks[task].enqueue(number) for number in numbers[start : start + _CHUNK]]
            )

    def work(self) -> None:
        run(self._worker.run_async())


async def _noop(number: int) -> int:
    return number


async def _nap(number: int) -> int:
    await asyncio.sleep(NAP_S)
    return number


async def _stamp(number: int) -> int:
    return stamp_now(number)


make = StreaqAdapter
