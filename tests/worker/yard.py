"""Worker processes of `station.py` on one store, and an application that looks on."""

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from toril.app import Toril
from toril.jobs.model import Job, NewJob
from toril.jobs.states import State

ROOT = Path(__file__).parents[2]


class Station:
    """One per test. What still runs at the end is killed by `close`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.toril = Toril(self.url)
        self.children: list[Process] = []

    async def spawn(self, mode: str = "worker") -> Process:
        return await self.command(sys.executable, "-m", "tests.worker.station", self.url, mode)

    async def supervise(self, count: int, mode: str = "worker", timeout: float = 5.0) -> Process:
        overseer = ("-m", "tests.worker.overseer", self.url, mode, str(count), str(timeout))
        return await self.command(sys.executable, *overseer)

    async def command(self, *command: str) -> Process:
        child = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=PIPE)
        self.children.append(child)
        return child

    async def enqueue(self, name: str, data: str) -> str:
        now = self.toril.clock.now_ms()
        options = '{"attempts":3,"toril":{"v":1}}'
        id = f"{name}-{time.monotonic_ns()}"
        await self.toril.engine.jobs.add("default", [NewJob(id, name, data, options, now)], batch=id, now=now)
        return id

    async def close(self) -> None:
        for child in self.children:
            if child.returncode is None:
                child.kill()
            await child.communicate()
        await self.toril.close()

    async def in_state(self, id: str, *states: State) -> Job:
        while True:
            after = await self.toril.engine.bus.tail("default")
            job = await self.toril.engine.inspect.get(id, "default")
            assert job is not None
            if job.state in states:
                return job
            await self.toril.engine.bus.wait("default", after=after, timeout=1.0)


async def said(child: Process, word: str) -> list[str]:
    """The words of the next line that begins with `word`."""
    assert child.stdout is not None
    while line := (await child.stdout.readline()).decode():
        if line.split()[0] == word:
            return line.split()
    raise AssertionError(f"the process ended before it said {word!r}")
