"""Toril on its embedded store: a file, the same with its default slots, and memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench.contestants.protocol import Contestant, Handler
from toril.app import Toril
from toril.jobs.options import Retention
from toril.tasks.task import Task
from toril.worker.worker import Worker

_SLOTS = 100
QUEUE = "bench"


class TorilQueue:
    """One `Toril` with one task, in one event loop."""

    def __init__(self, folder: Path, handler: Handler, *, memory: bool, slots: int) -> None:
        self._url = "sqlite://" if memory else f"sqlite:///{folder / 'toril.db'}"
        self._handler = handler
        self._slots = slots
        self._worker: Worker | None = None

    async def open(self) -> None:
        logging.getLogger("toril").setLevel(logging.ERROR)
        handler = self._handler
        self._toril = Toril(self._url)
        # Every result is to stay until it has been counted: the default keeps 1,000 of a queue.
        self._toril.queue(QUEUE, retention=Retention(completed="1d"))

        @self._toril.task(queue=QUEUE)
        async def noop(number: int) -> int:
            return handler(number)

        self._task: Task[[int], int] = noop
        await self._toril.start()

    async def close(self) -> None:
        await self._toril.close()

    async def enqueue(self, number: int) -> None:
        await self._task.enqueue(number)

    async def enqueue_all(self, numbers: Sequence[int]) -> None:
        call = self._task.call
        await self._toril.enqueue_many(call(number) for number in numbers)

    async def start_worker(self) -> None:
        self._worker = self._toril.worker(concurrency=self._slots)
        await self._worker.start()

    async def stop_worker(self) -> None:
        if self._worker is not None:
            await self._worker.stop()
            self._worker = None

    async def finished(self) -> int | None:
        return (await self._toril.engine.inspect.counts(QUEUE)).completed


_DRAIN_ONLY = frozenset(
    {"enqueue-single", "enqueue-concurrent", "enqueue-bulk", "latency-inside", "latency-across", "scaling"}
)

CONTESTANTS = (
    Contestant(
        name="toril",
        setting=f"file, WAL, synchronous NORMAL, results and history stored, 1 worker with {_SLOTS} slots",
        make=partial(TorilQueue, memory=False, slots=_SLOTS),
        package="toril",
        scales=(("drain", 2.5), ("enqueue-bulk", 2.0)),
    ),
    Contestant(
        name="toril-5-slots",
        setting="the same with the default 5 slots",
        make=partial(TorilQueue, memory=False, slots=5),
        package="toril",
        skips=_DRAIN_ONLY,
    ),
    Contestant(
        name="toril-200-slots",
        setting="the same with 200 slots",
        make=partial(TorilQueue, memory=False, slots=200),
        package="toril",
        skips=_DRAIN_ONLY,
        scales=(("drain", 2.5),),
    ),
    Contestant(
        name="toril-memory",
        setting=f"sqlite:// (memory), 1 worker with {_SLOTS} slots",
        make=partial(TorilQueue, memory=True, slots=_SLOTS),
        package="toril",
        skips=frozenset({"latency-across", "scaling"}),
        scales=(("drain", 2.5), ("enqueue-bulk", 2.0)),
    ),
)
