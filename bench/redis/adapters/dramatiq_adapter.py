"""dramatiq: one process with threads, results stored in Redis."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from bench.redis.adapters.protocol import NAP_S, QUEUE, stamp_now


class DramatiqAdapter:
    """Its default middleware and results."""

    def __init__(self, url: str, slots: int) -> None:
        logging.getLogger("dramatiq").setLevel(logging.ERROR)
        self._slots = slots
        self._broker = RedisBroker(url=url)
        self._broker.add_middleware(Results(backend=RedisBackend(url=url), store_results=True, result_ttl=3_600_000))
        self._tasks = {
            name: dramatiq.actor(
                function, actor_name=name, queue_name=QUEUE, broker=self._broker, max_retries=2, min_backoff=1000
            )
            for name, function in {"noop": _noop, "nap": _nap, "stamp": stamp_now}.items()
        }

    async def open(self) -> None:
        self._broker.client.ping()

    async def close(self) -> None:
        self._broker.close()

    async def enqueue(self, task: str, number: int) -> None:
        self._tasks[task].send(number)

    async def enqueue_all(self, task: str, numbers: Sequence[int]) -> None:
        dramatiq.group([self._tasks[task].message(number) for number in numbers], broker=self._broker).run()

    def work(self) -> None:
        dramatiq.Worker(self._broker, worker_threads=self._slots).start()
        threading.Event().wait()


def _noop(number: int) -> int:
    return number


def _nap(number: int) -> int:
    time.sleep(NAP_S)
    return number


make = DramatiqAdapter
