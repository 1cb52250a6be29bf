"""taskiq over a Redis stream, the one of its Redis brokers that acknowledges; BENCH_BROKER=list takes the other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from taskiq import SmartRetryMiddleware
from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

from bench.redis.adapters.protocol import NAP_S, QUEUE, stamp_now
from bench.redis.child import run

_TOGETHER = 50


class TaskiqAdapter:
    """One stream or list, results kept for an hour."""

    def __init__(self, url: str, slots: int) -> None:
        self._slots = slots
        broker = ListQueueBroker if os.environ.get("BENCH_BROKER") == "list" else RedisStreamBroker
        self._broker = (
            # A blocking read of the list outlasts the time that redis-py gives a read by default, and ends the worker.
            broker(url=url, queue_name=QUEUE, socket_timeout=None)
            .with_result_backend(RedisAsyncResultBackend(redis_url=url, result_ex_time=3600))
            .with_middlewares(SmartRetryMiddleware(default_retry_count=3, default_delay=1, use_delay_exponent=True))
        )
        self._tasks = {
            name: self._broker.register_task(function, task_name=name, retry_on_error=True)
            for name, function in {"noop": _noop, "nap": _nap, "stamp": _stamp}.items()
        }

    async def open(self) -> None:
        await self._broker.startup()

    async def close(self) -> None:
        await self._broker.shutdown()

    async def enqueue(self, task: str, number: int) -> None:
        await self._tasks[task].kiq(number)

    async def enqueue_all(self, task: str, numbers: Sequence[int]) -> None:
        for start in range(0, len(numbers), _TOGETHER):
            await asyncio.gather(*(self.enqueue(task, number) for number in numbers[start : start + _TOGETHER]))

    def work(self) -> None:
        run(self._work())

    async def _work(self) -> None:
        await self._broker.startup()
        await run_receiver_task(self._broker, max_async_tasks=self._slots, max_prefetch=self._slots)


async def _noop(number: int) -> int:
    return number


async def _nap(number: int) -> int:
    await asyncio.sleep(NAP_S)
    return number


async def _stamp(number: int) -> int:
    return stamp_now(number)


make = TaskiqAdapter
