"""BullMQ's own package for Python."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from bullmq import Queue, Worker

from bench.redis.adapters.protocol import NAP_S, QUEUE, stamp_now
from bench.redis.child import run

_OPTIONS = {"attempts": 3, "backoff": {"type": "exponential", "delay": 1000}}
_CHUNK = 1_000


class BullmqAdapter:
    """One queue."""

    def __init__(self, url: str, slots: int) -> None:
        self._url = url
        self._slots = slots

    async def open(self) -> None:
        self._queue = Queue(QUEUE, {"connection": self._url})

    async def close(self) -> None:
        await self._queue.close()

    async def enqueue(self, task: str, number: int) -> None:
        await self._queue.add(task, {"number": number}, _OPTIONS)

    async def enqueue_all(self, task: str, numbers: Sequence[int]) -> None:
        for start in range(0, len(numbers), _CHUNK):
            await self._queue.addBulk(
                [
                    {"name": task, "data": {"number": number}, "opts": _OPTIONS}
                    for number in numbers[start : start + _CHUNK]
                ]
            )

    def work(self) -> None:
        run(self._work())

    async def _work(self) -> None:
        self._worker = Worker(QUEUE, _process, {"connection": self._url, "concurrency": self._slots})
        await asyncio.Event().wait()


async def _process(job: Any, token: str) -> int:
    number: int = job.data["number"]
    if job.name == "nap":
        await asyncio.sleep(NAP_S)
    elif job.name == "stamp":
        return stamp_now(number)
    return number


make = BullmqAdapter
