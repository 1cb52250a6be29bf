"""Real worker processes on one file: killed, stopped, supervised."""

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from toril.app import Toril
from toril.jobs.model import Job, NewJob
from toril.jobs.states import State

ROOT = Path(__file__).parents[2]


class Station:
    """Worker processes of `station.py` on one database, and an application that looks on."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder}/jobs.db"
        self.toril = Toril(self.url)
        self.children: list[Process] = []

    async def spawn(self, mode: str = "worker") -> Process:
        return await self.command(sys.executable, "-m", "tests.worker.station", self.url, mode)

    async def supervise(self, count: int, mode: str = "worker", timeout: float = 5.0) -> Process:
        code = (
            "import sys; from toril.worker.supervisor import run_processes; "
            f"sys.exit(run_processes([sys.executable, '-m', 'tests.worker.station', {self.url!r}, {mode!r}], {count}, "
            f"shutdown_timeout_s={timeout}))"
        )
        return await self.command(sys.executable, "-c", code)

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

    async def in_state(self, id: str, *states: State) -> Job:
        while True:
            after = await self.toril.engine.bus.tail("default")
            job = await self.toril.engine.inspect.get(id, "default")
            assert job is not None
            if job.state in states:
                return job
            await self.toril.engine.bus.wait("default", after=after, timeout=1.0)


@pytest.fixture
async def station(tmp_path: Path) -> AsyncIterator[Station]:
    station = Station(tmp_path)
    await station.toril.start()
    yield station
    for child in station.children:
        if child.returncode is None:
            child.kill()
        await child.communicate()
    await station.toril.close()


async def said(child: Process, word: str) -> list[str]:
    """The words of the next line that begins with `word`."""
    assert child.stdout is not None
    while line := (await child.stdout.readline()).decode():
        if line.split()[0] == word:
            return line.split()
    raise AssertionError(f"the process ended before it said {word!r}")


async def test_a_killed_worker_is_taken_over(station: Station) -> None:  # S0-03 S2-23 A02
    # S0-26, S1-02, S1-15
    first = await station.spawn()
    id = await station.enqueue("hold", '{"seconds":2}')
    await said(first, "started")
    second = await station.spawn()
    await said(second, "up")
    first.kill()
    killed = time.monotonic()
    assert (await said(second, "started"))[1:] == [id, "2"]
    assert time.monotonic() - killed < 3.0
    job = await station.in_state(id, State.COMPLETED, State.FAILED)
    assert (job.state, job.result) == (State.COMPLETED, f'"{second.pid}"')
    assert (job.attempts_made, job.stalls, job.starts) == (1, 1, 2)


async def test_two_processes_share_a_file_and_nothing_runs_twice(station: Station) -> None:  # S0-21
    children = [await station.spawn(), await station.spawn()]
    for child in children:
        await said(child, "up")
    ids = [await station.enqueue("count", f'{{"number":{number}}}') for number in range(200)]
    workers = {(await station.in_state(id, State.COMPLETED)).worker for id in ids}
    runs: Counter[str] = Counter()
    for child in children:
        child.terminate()
        out, _ = await child.communicate()
        runs.update(line for line in out.decode().splitlines() if line.startswith("ran"))
        assert child.returncode == 0
    assert runs == {f"ran {number}": 1 for number in range(200)}
    assert len(workers) == 2


@pytest.mark.parametrize("name", ["hold", "stubborn", "deaf"])
async def test_sigterm_hands_back_and_exits_with_0_in_time(station: Station, name: str) -> None:  # A07 S2-30
    child = await station.spawn("hasty")
    id = await station.enqueue(name, '{"seconds":60}' if name == "hold" else "{}")
    await said(child, "started")
    began = time.monotonic()
    child.terminate()
    await child.communicate()
    assert child.returncode == 0
    assert time.monotonic() - began < 0.3 + 2.0
    job = await station.in_state(id, State.WAITING)
    assert job.attempts_made == 0


async def test_a_second_signal_ends_at_once(station: Station) -> None:  # A07
    child = await station.spawn()
    id = await station.enqueue("hold", '{"seconds":60}')
    await said(child, "started")
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    await asyncio.wait([asyncio.ensure_future(child.wait())], timeout=0.4)
    ended_too_early = child.returncode is not None
    child.send_signal(signal.SIGINT)
    await child.communicate()
    assert (ended_too_early, child.returncode) == (False, 0)
    assert time.monotonic() - began < 3.0
    assert (await station.in_state(id, State.WAITING)).attempts_made == 0


async def test_a_supervisor_starts_a_killed_child_again_and_stops_all(station: Station) -> None:  # S2-23
    supervisor = await station.supervise(2)
    pids = [int((await said(supervisor, "up"))[1]) for _ in range(2)]
    os.kill(pids[0], signal.SIGKILL)
    pids.append(int((await said(supervisor, "up"))[1]))
    assert len(set(pids)) == 3
    assert Path(f"/proc/{pids[0]}").exists() is False
    supervisor.terminate()
    out, _ = await supervisor.communicate()
    assert supervisor.returncode == 0
    assert out.decode().split() == ["down", "down"]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


async def test_no_child_outlives_a_killed_supervisor(station: Station) -> None:  # A02
    supervisor = await station.supervise(1)
    await said(supervisor, "up")
    supervisor.kill()
    # The child holds the other end of the output: it is closed when the child is gone.
    out, _ = await supervisor.communicate()
    assert out.decode().split() == ["down"]


async def test_a_child_that_cannot_start_ends_the_supervisor(station: Station) -> None:
    supervisor = await station.supervise(2, "wrong")
    await supervisor.communicate()
    assert supervisor.returncode == 2


async def test_children_that_crash_are_started_with_growing_waits(station: Station) -> None:
    supervisor = await station.supervise(1, "crash")
    await asyncio.wait([asyncio.ensure_future(supervisor.wait())], timeout=1.5)
    assert supervisor.returncode is None
    supervisor.terminate()
    await supervisor.communicate()
    assert supervisor.returncode == 0


async def test_children_that_do_not_stop_are_killed_in_the_end(station: Station) -> None:
    supervisor = await station.supervise(1, timeout=-4.5)
    pid = int((await said(supervisor, "up"))[1])
    os.kill(pid, signal.SIGSTOP)
    supervisor.terminate()
    await supervisor.communicate()
    assert supervisor.returncode == 0
    assert not Path(f"/proc/{pid}").exists()
