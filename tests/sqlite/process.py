"""A process of its own on a store, for the tests of several processes. Commands: see `main`."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from toril.engine.ports.jobs import Finish
from toril.engine.sqlite.engine import SqliteEngine
from toril.jobs.model import NewJob
from toril.jobs.options import JobOptions, encode
from toril.jobs.outcome import Done
from toril.kernel.clock import SystemClock
from toril.kernel.ids import JobIds, token_hex

OPTS = encode(JobOptions())
CLOCK = SystemClock()
QUEUE = "shared"


def say(text: str) -> None:
    """One line to the test, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def produce(engine: SqliteEngine, total: int) -> None:
    """Add jobs one awaited call after another, and say each id when it is stored."""
    ids = JobIds()
    for _ in range(total):
        job = NewJob(ids.new(), "noop", "{}", OPTS, CLOCK.now_ms())
        await engine.jobs.add(QUEUE, [job], batch=token_hex(), now=CLOCK.now_ms())
        say(job.id)


async def work(engine: SqliteEngine, seconds: float, batch: int, lock_ms: int) -> None:
    """Exchange as fast as possible for a time, and say the ids that were handed in."""
    worker, seq = token_hex(), 0
    finished: list[Finish] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or finished:
        seq += 1
        now = CLOCK.now_ms()
        answer = await engine.jobs.exchange(
            QUEUE,
            worker=worker,
            seq=seq,
            token=f"{worker}:{seq}",
            finished=finished,
            want=batch if time.monotonic() < deadline else 0,
            lock_ms=lock_ms,
            now=now,
        )
        done = [finish.id for finish, code in zip(finished, answer.applied, strict=True) if code == "OK"]
        if done:
            say(" ".join(done))
        finished = [Finish(job.id, f"{worker}:{seq}", Done("null"), now, now) for job in answer.jobs]
        if not answer.jobs and not done:
            await engine.jobs.wait_for_work([QUEUE], timeout=0.2)
            await engine.jobs.recover(QUEUE, max_stalls=100, now=CLOCK.now_ms())


async def echo(engine: SqliteEngine) -> None:
    """Take each job as soon as it comes and say when that was."""
    worker, seq = token_hex(), 0
    say("ready")
    while True:
        await engine.jobs.wait_for_work([QUEUE], timeout=10)
        seq += 1
        answer = await engine.jobs.exchange(
            QUEUE,
            worker=worker,
            seq=seq,
            token=f"{worker}:{seq}",
            finished=(),
            want=1,
            lock_ms=60_000,
            now=CLOCK.now_ms(),
        )
        for _ in answer.jobs:
            say(str(time.monotonic_ns()))


async def main(path: str, command: str, *numbers: str) -> None:
    engine = SqliteEngine(Path(path))
    await engine.start()
    if command == "produce":
        await produce(engine, int(numbers[0]))
    elif command == "work":
        await work(engine, float(numbers[0]), int(numbers[1]), int(numbers[2]))
    else:
        await echo(engine)
    await engine.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
