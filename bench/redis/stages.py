"""The stages of a round. Each runs one peer on the emptied server and answers the figures of one or more measures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.measures import Figures, quantiles
from bench.redis.adapters.protocol import WAITS
from bench.redis.environments import ROOT, Environments
from bench.redis.peers import OURS_SETTINGS, Peer
from bench.redis.server import Server

Results = dict[str, Figures]

# A figure that needs longer than this is no figure: the peer is stuck.
_PATIENCE_S = 120.0
_FAST = 5_000
# With 500,000 behind them fewer than 524,288 keys, where Redis grows its table, which costs time of its own.
_FRONT = 20_000


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage. `seconds` is about how long its measured part takes at the peer's pace, `pace` which of its paces that
    is; `least` jobs are measured in any case. With `once` peers
    take part in the first round only, Toril in every round.
    """

    name: str
    run: Callable[[Arena, Peer, int], Results]
    pace: int = 1
    seconds: float = 2.0
    least: int = 100
    most: int = 1_000_000
    once: bool = False

    def jobs(self, peer: Peer, *, quick: bool) -> int:
        """How many jobs the peer gets."""
        wished = round(peer.paces[self.pace] * self.seconds * (0.3 if quick else 1))
        return min(self.most, max(self.least, wished))


class Arena:
    """The server, the environments and a folder for the files of one run."""

    def __init__(self, server: Server, environments: Environments, folder: Path, behind: int) -> None:
        self.server = server
        self.environments = environments
        self.folder = folder
        self.behind = behind

    def child(self, peer: Peer, role: str, count: int, task: str, waits: Path | None = None) -> Figures:
        """Run one producer to its end. Raises SubprocessError when it fails or is stuck."""
        command = self.environments.command(peer, role, self.server.url, count, task)
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self._variables(peer, waits),
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=True,
        )
        figures: Figures = json.loads(done.stdout.splitlines()[-1])
        return figures

    @contextmanager
    def worker(self, peer: Peer, slots: int, waits: Path | None = None) -> Iterator[Worker]:
        """One worker process, with what it starts itself; killed in the end."""
        command = self.environments.command(peer, "work", self.server.url, slots, "-")
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self._variables(peer, waits),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
            try:
                yield Worker(process)
            except (TimeoutError, subprocess.TimeoutExpired) as error:
                said.seek(0)
                lines = said.read().decode(errors="replace").strip().splitlines()
                raise TimeoutError(f"{error}; the worker said: {' / '.join(lines[-3:]) or 'nothing'}") from None
            finally:
                # It has a session of its own: no process of anybody else is in this group.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _variables(self, peer: Peer, waits: Path | None) -> Mapping[str, str]:
        return {
            **os.environ,
            **peer.variables,
            "BENCH_NODE": str(self.environments.place(peer)),
            WAITS: str(waits or self.folder / "unused"),
        }


class Worker:
    """A running worker, seen from outside."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._popen = process
        self._process = psutil.Process(process.pid)

    def check(self) -> None:
        """Raises TimeoutError when it has ended by itself."""
        if self._popen.poll() is not None:
            raise TimeoutError(f"expected a worker that runs, found exit code {self._popen.returncode}")

    def cpu_us(self) -> float:
        """Processor time of it and all that it started, in µs."""
        spent: float = sum(times.user + times.system for times in (one.cpu_times() for one in self._all()))
        return spent * 1e6

    def rss_mb(self) -> float:
        """Resident memory of it and all that it started, in MB."""
        held: float = sum(one.memory_info().rss for one in self._all())
        return held / 1e6

    def _all(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]


class Meter:
    """How many jobs of a peer are finished, asked of the server."""

    def __init__(self, server: Server, peer: Peer) -> None:
        self._server = server
        self._progress = peer.progress
        self._polls = 0
        self._start = self._read()
        self._pause = 0.005 if peer.paces[1] > _FAST else 0.02

    @property
    def commands(self) -> int:
        """How many commands the meter itself has sent."""
        return self._polls * len(self._progress.commands)

    def finished(self) -> int:
        """Since the meter was made."""
        moved = self._read() - self._start
        return -moved if self._progress.falls else moved

    def wait(self, jobs: int, worker: Worker) -> int:
        """Until so many are finished; answers how many really are. Raises TimeoutError."""
        until = time.monotonic() + _PATIENCE_S
        while (finished := self.finished()) < jobs:
            worker.check()
            if time.monotonic() > until:
                raise TimeoutError(f"expected {jobs} finished jobs, found {finished}")
            time.sleep(self._pause)
        return finished

    def _read(self) -> int:
        self._polls += 1
        pipe: Any
        with self._server.client.pipeline(transaction=False) as pipe:
            for command in self._progress.commands:
                pipe.execute_command(*command)
            return sum(int(one) for one in pipe.execute())


def drain(arena: Arena, peer: Peer, jobs: int, slots: int) -> Figures:
    """From the first jobs that the server knows as finished until all are. Starting the worker does not count."""
    server = arena.server
    meter = Meter(server, peer)
    with arena.worker(peer, slots) as worker:
        early = meter.wait(1, worker)
        begun, used, cpu, polled = time.perf_counter(), server.usage(), worker.cpu_us(), meter.commands
        meter.wait(jobs, worker)
        took = time.perf_counter() - begun
        usage, cpu = server.usage().since(used), worker.cpu_us() - cpu
        memory = worker.rss_mb()
    counted = jobs - early
    if counted < jobs / 2:
        raise RuntimeError(f"expected most of {jobs} jobs after the first look, found {counted}: measure more jobs")
    # Reading the server's figures twice is two commands more.
    commands = usage.commands - (meter.commands - polled) - 2
    return {
        "per_s": counted / took,
        "commands": commands / counted,
        "redis_us": usage.cpu_us / counted,
        "worker_us": cpu / counted,
        "worker_mb": memory,
    }


def single(arena: Arena, peer: Peer, jobs: int) -> Results:
    """Enqueue one by one."""
    return {"enqueue-single": {"per_s": arena.child(peer, "single", jobs, "noop")["single_per_s"]}}


def noop(arena: Arena, peer: Peer, jobs: int) -> Results:
    """Enqueue in bulk, weigh what waits, drain it."""
    empty = arena.server.memory()
    bulk = arena.child(peer, "bulk", jobs, "noop")
    waiting = (arena.server.memory() - empty) / jobs
    return {
        "enqueue-bulk": {"per_s": bulk["bulk_per_s"]},
        "waiting": {"bytes": waiting},
        "drain": drain(arena, peer, jobs, peer.slots),
    }


def nap(arena: Arena, peer: Peer, jobs: int) -> Results:
    """Drain jobs that sleep."""
    arena.child(peer, "bulk", jobs, "nap")
    return {"drain-nap": {"per_s": drain(arena, peer, jobs, peer.nap_slots)["per_s"]}}


def latency(arena: Arena, peer: Peer, jobs: int) -> Results:
    """From just before the enqueue to the start of the job, in another process, at about 50 jobs a second."""
    waits = Path(tempfile.mkdtemp(dir=arena.folder)) / "waits"
    with arena.worker(peer, peer.slots, waits) as worker:
        arena.child(peer, "send", jobs, "stamp", waits)
        until = time.monotonic() + _PATIENCE_S
        while len(found := waits.read_text(encoding="utf-8").split()) <= jobs:
            worker.check()
            if time.monotonic() > until:
                raise TimeoutError(f"expected {jobs + 1} waits, found {len(found)}")
            time.sleep(0.05)
    # The first one waited for the worker to start.
    return {"latency": quantiles([float(one) for one in found[1:]])}


def behind(arena: Arena, peer: Peer, jobs: int) -> Results:
    """Drain as many jobs with nothing behind them, then the front of a long line: one right after the other, so that
    whatever else the machine does meets both. Toril makes the line, also for the others on its layout: it is quicker.
    """
    arena.child(peer, "bulk", jobs, "noop")
    alone = drain(arena, peer, jobs, peer.slots)
    arena.server.empty()
    arena.child(peer, "bulk", jobs, "noop")
    arena.child(OURS_SETTINGS[0], "bulk", arena.behind, "noop")
    return {"drain-alone": alone, "drain-behind": drain(arena, peer, jobs, peer.slots)}


def equal(arena: Arena, peer: Peer, jobs: int) -> Results:
    """Weigh waiting jobs of equal options and ids."""
    empty = arena.server.memory()
    arena.child(peer, "bulk", jobs, "noop")
    return {"waiting-equal": {"bytes": (arena.server.memory() - empty) / jobs}}


STAGES = (
    Stage(name="single", run=single, pace=0, seconds=0.8),
    Stage(name="noop", run=noop, seconds=1.7),
    Stage(name="nap", run=nap, pace=2, seconds=1.2),
    Stage(name="latency", run=latency, least=90, most=90),
    Stage(name="behind", run=behind, seconds=1.5, most=_FRONT, once=True),
    Stage(name="equal", run=equal, least=10_000, most=10_000),
)
