"""huey's RedisHuey with its worker threads. A job that was taken is gone: at most once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from huey import RedisHuey
from huey.consumer import Consumer
from redis import ConnectionPool

from bench.redis.adapters.protocol import NAP_S, QUEUE, stamp_now


class HueyAdapter:
    """Blocking reads, results stored."""

    def __init__(self, url: str, slots: int) -> None:
        logging.getLogger("huey").setLevel(logging.ERROR)
        self._slots = slots
        # Each thread holds a connection while it waits; its pool has 100 by itself.
        pool = ConnectionPool.from_url(url, max_connections=2 * slots + 10)
        self._huey = RedisHuey(QUEUE, connection_pool=pool, results=True, blocking=True)
        self._tasks = {
            name: self._huey.task(name=name, retries=2, retry_delay=1)(function)
            for name, function in {"noop": _noop, "nap": _nap, "stamp": stamp_now}.items()
        }

    async def open(self) -> None:
        self._huey.storage.conn.ping()

    async def close(self) -> None:
        self._huey.storage.conn.close()

    async def enqueue(self, task: str, number: int) -> None:
        self._tasks[task](number)

    async def enqueue_all(self, task: str, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._tasks[task](number)

    def work(self) -> None:
        Consumer(self._huey, workers=self._slots, periodic=False).start()
        threading.Event().wait()


def _noop(number: int) -> int:
    return number


def _nap(number: int) -> int:
    time.sleep(NAP_S)
    return number


make = HueyAdapter
