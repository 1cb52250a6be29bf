"""rq with its SimpleWorker, which runs jobs in its own process: the fork per job of its default costs far more."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from redis import Redis
from rq import Queue, Retry, SimpleWorker

from bench.redis.adapters.protocol import NAP_S, QUEUE, stamp_now

_CHUNK = 1_000
_KEEP_S = 3_600


def noop(number: int) -> int:
    """Nothing."""
    return number


def nap(number: int) -> int:
    """A wait that is short."""
    time.sleep(NAP_S)
    return number


_TASKS = {"noop": noop, "nap": nap, "stamp": stamp_now}


class RqAdapter:
    """One queue; a job after the other."""

    def __init__(self, url: str, slots: int) -> None:
        self._redis = Redis.from_url(url)
        self._queue = Queue(QUEUE, connection=self._redis)
        self._retry = Retry(max=2, interval=[1, 2])

    async def open(self) -> None:
        self._redis.ping()

    async def close(self) -> None:
        self._redis.close()

    async def enqueue(self, task: str, number: int) -> None:
        self._queue.enqueue(_TASKS[task], number, retry=self._retry, result_ttl=_KEEP_S)

    async def enqueue_all(self, task: str, numbers: Sequence[int]) -> None:
        for start in range(0, len(numbers), _CHUNK):
            self._queue.enqueue_many(
                [
                    Queue.prepare_data(_TASKS[task], (number,), retry=self._retry, result_ttl=_KEEP_S)
                    for number in numbers[start : start + _CHUNK]
                ]
            )

    def work(self) -> None:
        SimpleWorker([self._queue], connection=self._redis).work(logging_level=logging.ERROR)


make = RqAdapter
