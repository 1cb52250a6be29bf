"""litequeue: a table with put, pop and done. It has no worker, no results and no wake-up, so a loop stands in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from litequeue import LiteQueue

from bench.contestants.looped import LoopedWorker, Step
from bench.contestants.protocol import Contestant, Handler

_DONE = 2


class LitequeueQueue:
    """LiteQueue over one file."""

    def __init__(self, folder: Path, handler: Handler) -> None:
        self._file = folder / "litequeue.db"
        self._handler = handler
        self._worker: LoopedWorker | None = None

    async def open(self) -> None:
        self._queue = LiteQueue(self._file)

    async def close(self) -> None:
        self._queue.close()

    async def enqueue(self, number: int) -> None:
        self._queue.put(str(number))

    async def enqueue_all(self, numbers: Sequence[int]) -> None:
        for start in range(0, len(numbers), 1000):
            with self._queue.transaction():
                for number in numbers[start : start + 1000]:
                    self._queue.put(str(number))

    async def start_worker(self) -> None:
        self._worker = LoopedWorker(self._make_step, poll_s=0.005)
        self._worker.start()

    async def stop_worker(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    async def finished(self) -> int | None:
        sql = f"SELECT count(*) FROM {self._queue.table} WHERE status = ?"
        return int(self._queue.conn.execute(sql, (_DONE,)).fetchone()[0])

    def _make_step(self) -> Step:
        queue, handler = LiteQueue(self._file), self._handler

        def step() -> bool:
            message = queue.pop()
            if message is None:
                return False
            handler(int(message.data))
            queue.done(message.message_id)
            return True

        return step


CONTESTANTS = (
    Contestant(
        name="litequeue",
        setting="LiteQueue, WAL, synchronous NORMAL; no results; the worker is a loop of ours that polls every 5 ms",
        make=LitequeueQueue,
        package="litequeue",
        # Its pop looks at every job that ever was: 20,000 of them would take an hour.
        scales=(("drain", 0.05),),
    ),
)
