"""Toril on the full wire with all events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from bench.redis.adapters.protocol import NAP_S, QUEUE, stamp_now
from bench.redis.child import run
from toril.app import Toril
from toril.jobs.options import Retention
from toril.jobs.retry import Exponential

_CHUNK = 5_000


class TorilAdapter:
    """One `Toril` with three tasks, results kept, attempts and backoff as those of the others."""

    def __init__(self, url: str, slots: int) -> None:
        logging.getLogger("toril").setLevel(logging.ERROR)
        self._slots = slots
        self._toril = Toril(url)
        # Every result is to stay until it has been counted, as with the others: the default keeps 1,000 of a queue.
        self._toril.queue(QUEUE, retention=Retention(completed="1d"))
        register = self._toril.task(queue=QUEUE, attempts=3, backoff=self.backoff)
        self._tasks = {function.__name__: register(function) for function in (noop, nap, stamp)}

    backoff = Exponential(1.0, jitter=0.2)
    """Toril's default."""

    async def open(self) -> None:
        await self._toril.start()

    async def close(self) -> None:
        await self._toril.close()

    async def enqueue(self, task: str, number: int) -> None:
        await self._tasks[task].enqueue(number)

    async def enqueue_all(self, task: str, numbers: Sequence[int]) -> None:
        call = self._tasks[task].call
        for start in range(0, len(numbers), _CHUNK):
            await self._toril.enqueue_many(call(number) for number in numbers[start : start + _CHUNK])

    def work(self) -> None:
        run(self._work())

    async def _work(self) -> None:
        async with self._toril:
            await self._toril.worker(concurrency=self._slots).run_until_stopped()


async def noop(number: int) -> int:
    """Nothing."""
    return number


async def nap(number: int) -> int:
    """A wait that is short."""
    await asyncio.sleep(NAP_S)
    return number


async def stamp(number: int) -> int:
    """Write down the wait."""
    return stamp_now(number)


make = TorilAdapter
