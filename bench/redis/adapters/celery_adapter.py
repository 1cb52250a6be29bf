"""celery: acknowledged late, as a lost job is asked for again only then; short tasks, so a long prefetch."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from celery import Celery

from bench.redis.adapters.protocol import NAP_S, QUEUE, stamp_now

_CORES = 2


class CeleryAdapter:
    """Prefork with two processes up to a few slots, threads for many."""

    def __init__(self, url: str, slots: int) -> None:
        self._slots = slots
        self._app = Celery("bench", broker=url, backend=url)
        self._app.conf.update(
            task_default_queue=QUEUE,
            task_acks_late=True,
            task_ignore_result=False,
            worker_prefetch_multiplier=64 if slots <= _CORES else 1,
            result_expires=3600,
            broker_connection_retry_on_startup=True,
            worker_hijack_root_logger=False,
        )
        retry = {"autoretry_for": (OSError,), "retry_backoff": True, "max_retries": 2}
        self._tasks = {
            "noop": self._app.task(name="noop", **retry)(_noop),
            "nap": self._app.task(name="nap", **retry)(_nap),
            "stamp": self._app.task(name="stamp", **retry)(stamp_now),
        }

    async def open(self) -> None:
        self._app.connection().ensure_connection()

    async def close(self) -> None:
        self._app.close()

    async def enqueue(self, task: str, number: int) -> None:
        self._tasks[task].apply_async((number,))

    async def enqueue_all(self, task: str, numbers: Sequence[int]) -> None:
        with self._app.producer_pool.acquire(block=True) as producer:
            for number in numbers:
                self._tasks[task].apply_async((number,), producer=producer)

    def work(self) -> None:
        # It refuses the root user otherwise only when it unpickles; JSON is its default.
        os.environ.setdefault("C_FORCE_ROOT", "1")
        pool = "prefork" if self._slots <= _CORES else "threads"
        self._app.worker_main(
            [
                "worker",
                f"--pool={pool}",
                f"--concurrency={self._slots}",
                "--without-gossip",
                "--without-mingle",
                "--without-heartbeat",
                "--loglevel=ERROR",
            ]
        )


def _noop(number: int) -> int:
    return number


def _nap(number: int) -> int:
    time.sleep(NAP_S)
    return number


make = CeleryAdapter
