"""Does the front of a queue notice how long the line behind it is? Toril's store alone, without tasks or workers."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
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

    async def measure(self) -> dict[str, float]:
        """Median microseconds of each operation. Leaves the line about as long as it was."""
        return {
            "enqueue": await _median_us(lambda: self.add(1), _TIMES),
            # As many jobs as the exchanges take, so that an empty queue has them too.
            "filled": await _median_us(lambda: self.add(_BATCH), _TIMES),
            "exchange": await _median_us(self.exchange, _TIMES),
            "counts": await _median_us(self.counts, _TIMES),
        }


async def scaling(contestant: Contestant, folder: Path, jobs: int) -> dict[str, float]:
    """The operations on an empty queue, then with `jobs` waiting, and how many times as long they take."""
    engine = SqliteEngine(folder / "line.db")
    await engine.start()
    try:
        front = Front(engine)
        empty = await front.measure()
        for start in range(0, jobs, _CHUNK):
            await front.add(min(_CHUNK, jobs - start))
        full = await front.measure()
    finally:
        await engine.close()
    figures: dict[str, float] = {}
    for name in ("enqueue", "exchange", "counts"):
        figures[f"{name}_empty_us"], figures[f"{name}_full_us"] = empty[name], full[name]
        figures[f"{name}_times"] = full[name] / empty[name]
    return figures


async def _median_us(operation: Callable[[], Awaitable[None]], times: int) -> float:
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        await operation()
        taken.append((time.perf_counter() - begun) * 1e6)
    return median(taken)
