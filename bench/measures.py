"""The measures. Each runs once per call, in a process of its own, over one `Queue`, and answers figures by name."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contestants.protocol import Contestant, Handler
from bench.scaling import scaling

Figures = dict[str, float]

_CONCURRENT = 100
_PAUSE_S = 0.02
# A figure that needs longer than this is no figure: the peer is stuck.
_PATIENCE_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One row of the table. `jobs` and `quick` are how many jobs a full and a quick run take; `only` names the
    contestants that it is about, all when empty.
    """

    name: str
    title: str
    jobs: int
    quick: int
    run: Callable[[Contestant, Path, int], Coroutine[Any, Any, Figures]]
    only: tuple[str, ...] = ()


def _nothing(number: int) -> int:
    return number


async def enqueue_single(contestant: Contestant, folder: Path, jobs: int) -> Figures:
    """One job after the other, each awaited."""
    queue = contestant.make(folder, _nothing)
    await queue.open()
    begun = time.perf_counter()
    for number in range(jobs):
        await queue.enqueue(number)
    took = time.perf_counter() - begun
    await queue.close()
    return {"per_s": jobs / took}


async def enqueue_concurrent(contestant: Contestant, folder: Path, jobs: int) -> Figures:
    """A hundred asyncio tasks, each awaiting one job after the other."""
    queue = contestant.make(folder, _nothing)
    await queue.open()
    each = max(1, jobs // _CONCURRENT)

    async def one(start: int) -> None:
        for number in range(start, start + each):
            await queue.enqueue(number)

    begun = time.perf_counter()
    await asyncio.gather(*(one(index * each) for index in range(_CONCURRENT)))
    took = time.perf_counter() - begun
    await queue.close()
    return {"per_s": each * _CONCURRENT / took}


async def enqueue_bulk(contestant: Contestant, folder: Path, jobs: int) -> Figures:
    """Many jobs at once."""
    queue = contestant.make(folder, _nothing)
    await queue.open()
    begun = time.perf_counter()
    await queue.enqueue_all(range(jobs))
    took = time.perf_counter() - begun
    await queue.close()
    return {"per_s": jobs / took}


async def drain(contestant: Contestant, folder: Path, jobs: int) -> Figures:
    """From the start of the first job until the store knows the last one as finished, one worker in one process."""
    loop, all_started = asyncio.get_running_loop(), asyncio.Event()
    first, runs = 0.0, 0

    def handler(number: int) -> int:
        nonlocal first, runs
        if not runs:
            first = time.perf_counter()
        runs += 1
        if runs == jobs:
            loop.call_soon_threadsafe(all_started.set)
        return number

    queue = contestant.make(folder, handler)
    await queue.open()
    await queue.enqueue_all(range(jobs))
    await queue.start_worker()
    await asyncio.wait_for(all_started.wait(), _PATIENCE_S)
    while (finished := await queue.finished()) is not None and finished < jobs:  # noqa: ASYNC110 - stores tell nobody
        await asyncio.sleep(0.002)
    took = time.perf_counter() - first
    await queue.stop_worker()
    await queue.close()
    if runs != jobs:
        raise RuntimeError(f"expected {jobs} runs, found {runs}: a queue that runs jobs twice cannot be measured so")
    return {"per_s": jobs / took}


async def latency_inside(contestant: Contestant, folder: Path, jobs: int) -> Figures:
    """From just before the enqueue to the start of the job, at about 50 jobs a second, in one process."""
    collect, handler = _collector(jobs)
    queue = contestant.make(folder, handler)
    await queue.open()
    await queue.start_worker()
    await asyncio.sleep(0.3)
    await _send(queue.enqueue, jobs)
    figures = quantiles(await asyncio.wait_for(collect, _PATIENCE_S))
    await queue.stop_worker()
    await queue.close()
    return figures


async def latency_across(contestant: Contestant, folder: Path, jobs: int) -> Figures:
    """The same, with the worker in another process. This process is the one that enqueues."""
    queue = contestant.make(folder, _nothing)
    await queue.open()
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.child",
        contestant.name,
        "serve",
        str(folder),
        str(jobs),
        stdout=asyncio.subprocess.PIPE,
    )
    assert worker.stdout is not None
    await asyncio.wait_for(worker.stdout.readline(), _PATIENCE_S)
    await _send(queue.enqueue, jobs)
    line = await asyncio.wait_for(worker.stdout.readline(), _PATIENCE_S)
    await worker.wait()
    await queue.close()
    return quantiles([float(part) for part in line.split()])


async def serve(contestant: Contestant, folder: Path, jobs: int) -> None:
    """The worker's side of `latency_across`: says that it is ready, then prints what it saw."""
    collect, handler = _collector(jobs)
    queue = contestant.make(folder, handler)
    await queue.open()
    await queue.start_worker()
    await asyncio.sleep(0.3)
    print("ready", flush=True)
    waits = await asyncio.wait_for(collect, _PATIENCE_S)
    print(*waits, flush=True)
    await queue.stop_worker()
    await queue.close()


def quantiles(waits_ms: list[float]) -> Figures:
    """The middle and the 99th percentile of waits in milliseconds."""
    ordered = sorted(waits_ms)
    last = len(ordered) - 1
    return {"p50_ms": ordered[round(last * 0.5)], "p99_ms": ordered[round(last * 0.99)]}


def _collector(jobs: int) -> tuple[asyncio.Future[list[float]], Handler]:
    """A handler whose jobs carry the moment of their enqueuing, and a future with all waits (ms) once all have run."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[float]] = loop.create_future()
    waits: list[float] = []

    def handler(sent_ns: int) -> int:
        # The monotonic clock is one clock for all processes of a machine, on Linux and on macOS.
        waits.append((time.monotonic_ns() - sent_ns) / 1e6)
        if len(waits) == jobs:
            loop.call_soon_threadsafe(future.set_result, waits)
        return 0

    return future, handler


async def _send(enqueue: Callable[[int], Awaitable[None]], jobs: int) -> None:
    for _ in range(jobs):
        await enqueue(time.monotonic_ns())
        # Uneven pauses, so that no poller is met in step.
        await asyncio.sleep(_PAUSE_S * random.uniform(0.5, 1.5))


MEASURES = (
    Measure(
        name="enqueue-single",
        title="enqueue, one by one",
        jobs=5_000,
        quick=1_000,
        run=enqueue_single,
    ),
    Measure(
        name="enqueue-concurrent",
        title="enqueue, 100 tasks at once",
        jobs=20_000,
        quick=3_000,
        run=enqueue_concurrent,
    ),
    Measure(name="enqueue-bulk", title="enqueue in bulk", jobs=50_000, quick=10_000, run=enqueue_bulk),
    Measure(name="drain", title="drain of no-op jobs, one worker", jobs=20_000, quick=3_000, run=drain),
    Measure(name="latency-inside", title="enqueue to start, one process", jobs=300, quick=100, run=latency_inside),
    Measure(name="latency-across", title="enqueue to start, two processes", jobs=300, quick=100, run=latency_across),
    Measure(
        name="scaling",
        title="the front of a long line",
        jobs=1_000_000,
        quick=100_000,
        run=scaling,
        only=("toril",),
    ),
)
