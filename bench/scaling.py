"""Does the front of a queue notice how long the line behind it is? Toril's store alone, without tasks or workers."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import median

from bench.contestants.protocol import Contestant
from toril.engine.ports.jobs import Finish
from toril.engine.protocol import Engine
from toril.engine.sqlite.engine import SqliteEngine
from toril.jobs.model import NewJob
from toril.jobs.options import JobOptions, encode
from toril.jobs.outcome import Done
from toril.kernel.clock import SystemClock
from toril.kernel.ids import JobIds, token_hex

_CHUNK = 5_000
_TIMES = 300
_BATCH = 10
_LOCK_MS = 60_000
_QUEUE = "line"


class Front:
    """The three operations whose time must not depend on the length of the line."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._clock = SystemClock()
        self._ids = JobIds(self._clock)
        self._opts = encode(JobOptions())
        self._worker, self._seq = token_hex(), 0
        self._ended: tuple[Finish, ...] = ()

    async def add(self, count: int) -> None:
        """Add jobs at the back."""
        now = self._clock.now_ms()
        jobs = [NewJob(self._ids.new(), "noop", '{"number": 1}', self._opts, now) for _ in range(count)]
        await self._engine.jobs.add(_QUEUE, jobs, batch=token_hex(), now=now)

    async def exchange(self) -> None:
        """Hand in the jobs of the last call and take ten more."""
        now, self._seq = self._clock.now_ms(), self._seq + 1
        token = f"{self._worker}:{self._seq}"
        answer = await self._engine.jobs.exchange(
            _QUEUE,
            worker=self._worker,
            seq=self._seq,
            token=token,
            finished=self._ended,
            want=_BATCH,
            lock_ms=_LOCK_MS,
            now=now,
        )
        if len(answer.jobs) != _BATCH:
            raise RuntimeError(f"expected {_BATCH} jobs per exchange, found {len(answer.jobs)}")
        self._ended = tuple(Finish(job.id, token, Done("1"), now, now) for job in answer.jobs)

    async def counts(self) -> None:
        """Ask how many there are."""
        await self._engine.inspect.counts(_QUEUE)


async def scaling(contestant: Contestant, folder: Path, jobs: int) -> dict[str, float]:
    """Median microseconds of each operation on an empty queue and on one with `jobs` waiting.

    The two take turns, call by call, so that whatever else the machine does meets both.
    """
    engines = [SqliteEngine(folder / name) for name in ("empty.db", "full.db")]
    for engine in engines:
        await engine.start()
    try:
        empty, full = (Front(engine) for engine in engines)
        for start in range(0, jobs, _CHUNK):
            await full.add(min(_CHUNK, jobs - start))
        figures: dict[str, float] = {}
        for name, operation in _OPERATIONS.items():
            if name == "exchange":
                # The jobs that the exchanges of the empty queue take.
                await _in_turn(partial(Front.add, empty, _BATCH), partial(Front.add, full, _BATCH))
            times = await _in_turn(partial(operation, empty), partial(operation, full))
            figures[f"{name}_empty_us"], figures[f"{name}_full_us"] = times
            figures[f"{name}_times"] = times[1] / times[0]
    finally:
        for engine in engines:
            await engine.close()
    return figures


_OPERATIONS: dict[str, Callable[[Front], Awaitable[None]]] = {
    "enqueue": lambda front: front.add(1),
    "exchange": Front.exchange,
    "counts": Front.counts,
}


async def _in_turn(*operations: Callable[[], Awaitable[None]]) -> list[float]:
    """The median microseconds of each."""
    taken: list[list[float]] = [[] for _ in operations]
    for _ in range(_TIMES):
        for times, operation in zip(taken, operations, strict=True):
            begun = time.perf_counter()
            await operation()
            times.append((time.perf_counter() - begun) * 1e6)
    return [median(times) for times in taken]
