"""An application in a process of its own, for the tests of the spool: `spooling.py URL SPOOL add FROM COUNT PER_S`,
which says each number whose job was accepted, or `spooling.py URL SPOOL wait`, which only has the spool open.
"""

from __future__ import annotations

import asyncio
import sys

from toril import Settings, Toril
from toril.settings import JobSettings, RedisSettings


def app(url: str, spool: str, *, keep: int = 100_000) -> Toril:
    """An application that keeps no finished job, so that nothing but the memory of batches keeps jobs from doubling."""
    jobs = JobSettings(on_outage="spool", spool_url=f"sqlite:///{spool}", enqueue_timeout=2.0, keep_completed_max=keep)
    return Toril(url, settings=Settings(jobs=jobs, redis=RedisSettings(timeout=1.0)))


def say(text: str) -> None:
    """One line to the test, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def add(toril: Toril, first: int, count: int, per_s: float) -> None:
    """Add jobs one after the other, at a pace that does not wait for them, and say which were accepted."""

    @toril.task
    async def note(n: int) -> None:
        raise AssertionError("expected a worker of the test to run it, this process has none")

    async def one(n: int) -> None:
        await note.enqueue(n)
        say(str(n))

    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with toril, asyncio.TaskGroup() as group:
        say("ready")
        for n in range(count):
            group.create_task(one(first + n))
            await asyncio.sleep(max(0.0, begun + (n + 1) / per_s - loop.time()))
        # What is left in the spool stays there: whoever has it open forwards it.


async def wait(toril: Toril) -> None:
    """Have the spool open until standard input ends."""
    async with toril:
        say("ready")
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    url, spool, command, *words = sys.argv[1:]
    if command == "add":
        asyncio.run(add(app(url, spool), int(words[0]), int(words[1]), float(words[2])))
    else:
        asyncio.run(wait(app(url, spool)))
