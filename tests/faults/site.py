"""The application of a trial: `toril worker tests.faults.site:toril`. Its handlers keep the journal.

FAULTS_JOURNAL names the journal; FAULTS_CLOCK a file with the milliseconds by which wall time is off, so that a driver
can set everybody's clock; FAULTS_SKEW_MS by how much this process's clock is off besides.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import time
from pathlib import Path

from tests.faults import journal as j
from toril import Context, Fixed, Toril
from toril.kernel.ids import token_hex

QUEUE = "faults"


class TrialClock:
    """The machine's clock, off by what a file and the environment say."""

    def __init__(self, path: str | None, skew_ms: int) -> None:
        self._skew_ms = skew_ms
        self._shared: mmap.mmap | None = None
        if path:
            with Path(path).open("rb") as file:
                self._shared = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)

    def now_ms(self) -> int:
        off = 0 if self._shared is None else int.from_bytes(self._shared[:8], "little", signed=True)
        return time.time_ns() // 1_000_000 + off + self._skew_ms


journal = j.Journal(Path(os.environ["FAULTS_JOURNAL"]))
toril = Toril(clock=TrialClock(os.environ.get("FAULTS_CLOCK"), int(os.environ.get("FAULTS_SKEW_MS", "0"))))


def begin(ctx: Context, into: j.Journal = journal) -> str:
    run = token_hex(6)
    into.write(j.STARTED, ctx.job_id, run, ctx.starts)
    return run


async def carried(ctx: Context, ms: int) -> str:
    run = begin(ctx)
    try:
        await asyncio.sleep(ms / 1000)
    except asyncio.CancelledError:
        journal.write(j.STOPPED, ctx.job_id, run)
        raise
    journal.write(j.FINISHED, ctx.job_id, run)
    return run


@toril.task(queue=QUEUE)
async def quick(ctx: Context, number: int, ms: int) -> str:
    """Waits for so many milliseconds."""
    return await carried(ctx, ms)


@toril.task(queue=QUEUE)
def plain(ctx: Context, number: int, ms: int) -> str:
    """The same in a thread."""
    run = begin(ctx)
    time.sleep(ms / 1000)
    journal.write(j.FINISHED, ctx.job_id, run)
    return run


@toril.task(queue=QUEUE)
async def blocking(ctx: Context, number: int, ms: int) -> str:
    """Holds up the event loop."""
    run = begin(ctx)
    time.sleep(ms / 1000)  # noqa: ASYNC251 - that is what it is for
    journal.write(j.FINISHED, ctx.job_id, run)
    return run


@toril.task(queue=QUEUE, attempts=2, backoff=Fixed(0.05))
async def flaky(ctx: Context, number: int, ms: int) -> str:
    """Fails at the first attempt."""
    if ctx.attempt > 1:
        return await carried(ctx, ms)
    run = begin(ctx)
    journal.write(j.RAISED, ctx.job_id, run)
    raise LookupError("as it was asked to")


@toril.task(queue=QUEUE, attempts=2, backoff=Fixed(0.05))
async def broken(ctx: Context, number: int, ms: int) -> str:
    """Fails always."""
    run = begin(ctx)
    journal.write(j.RAISED, ctx.job_id, run)
    raise LookupError("as it was asked to")


@toril.task(queue=QUEUE, pool="process")
def heavy(ctx: Context, number: int, ms: int) -> str:
    """In a process of the pool, which keeps a core busy."""
    own = j.Journal(Path(os.environ["FAULTS_JOURNAL"]), pid=os.getppid())
    run = begin(ctx, own)
    until = time.monotonic() + ms / 1000
    while time.monotonic() < until:
        sum(range(1000))
    own.write(j.FINISHED, ctx.job_id, run)
    own.close()
    return run
