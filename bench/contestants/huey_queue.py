"""huey's SqliteHuey: one worker thread, which is its default and on SQLite its fastest (its writes are exclusive)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from huey import SqliteHuey
from huey.consumer import Consumer

from bench.contestants.protocol import Contestant, Handler

# Its default polls an idle queue every 0.1 to 10 s. This is the shortest wait that its options let us ask for without
# keeping a core busy.
_POLL_S = 0.005


class HueyQueue:
    """SqliteHuey over one file."""

    def __init__(self, folder: Path, handler: Handler, *, results: bool, fsync: bool | None) -> None:
        self._file = str(folder / "huey.db")
        self._handler = handler
        self._results = results
        self._fsync = fsync
        self._consumer: Consumer | None = None

    async def open(self) -> None:
        self._huey = SqliteHuey("bench", filename=self._file, results=self._results, fsync=self._fsync)
        self._task = self._huey.task(name="noop")(self._handler)

    async def close(self) -> None:
        self._huey.storage.close()

    async def enqueue(self, number: int) -> None:
        self._task(number)

    async def enqueue_all(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._task(number)

    async def start_worker(self) -> None:
        # Its consumer reports through logging only; errors would show as a drain that never ends.
        logging.getLogger("huey").setLevel(logging.ERROR)
        self._consumer = Consumer(
            self._huey, workers=1, periodic=False, initial_delay=_POLL_S, max_delay=_POLL_S, backoff=1.0
        )
        self._consumer.start()

    async def stop_worker(self) -> None:
        if self._consumer is not None:
            self._consumer.stop(graceful=True)
            self._consumer = None

    async def finished(self) -> int | None:
        return int(self._huey.result_count()) if self._results else None


CONTESTANTS = (
    Contestant(
        name="huey",
        setting="SqliteHuey as it comes: WAL, synchronous FULL, results stored, 1 worker thread; polls every 5 ms",
        make=partial(HueyQueue, results=True, fsync=None),
        package="huey",
    ),
    Contestant(
        name="huey-unsafe",
        setting="the same with fsync=False (synchronous OFF): a power cut may lose jobs or the whole file",
        make=partial(HueyQueue, results=True, fsync=False),
        package="huey",
    ),
    Contestant(
        name="huey-no-results",
        setting="huey-unsafe with results=False: nothing is kept of a job that ran",
        make=partial(HueyQueue, results=False, fsync=False),
        package="huey",
        skips=frozenset({"enqueue-single", "enqueue-concurrent", "enqueue-bulk", "latency-inside", "latency-across"}),
    ),
)
