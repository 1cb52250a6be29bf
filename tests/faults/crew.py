"""The processes of a trial: supervisors with their workers, and producers. They can be killed and frozen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from tests.faults import journal as j
from tests.faults.journal import Journal

ROOT = Path(__file__).resolve().parents[2]
APP = "tests.faults.site:toril"


class Crew:
    """Starts processes in `folder`, where each writes its log. What is done to them is written into the journal."""

    def __init__(self, folder: Path, journal: Journal, environ: Mapping[str, str]) -> None:
        self.supervisors: list[subprocess.Popen[bytes]] = []
        self.producers: dict[int, subprocess.Popen[bytes]] = {}
        self.exits: list[int] = []
        self._leaving: list[subprocess.Popen[bytes]] = []
        self._killed: set[int] = set()
        self._folder = folder
        self._journal = journal
        self._mark = f"FAULTS_JOURNAL={environ['FAULTS_JOURNAL']}"
        path = os.pathsep.join([str(ROOT), str(ROOT / "src"), str(ROOT / "examples")])
        self._environ = {**os.environ, "PYTHONPATH": path, **environ}
        self._begun = 0
        self._logs: dict[int, Path] = {}

    # starting

    def supervise(self, processes: int, slots: int, **environ: str) -> None:
        """Start `toril worker` with so many processes; one is without a supervisor."""
        command = ("-m", "toril", "worker", APP, "--processes", str(processes), "--concurrency", str(slots))
        self.supervisors.append(self._start(*command, **environ))

    def produce(self, lane: int, *arguments: str) -> None:
        """Start the producer of a lane."""
        self.producers[lane] = self._start("-m", "tests.faults.producer", str(lane), *arguments)

    def _start(self, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
        self._begun += 1
        path = self._folder / f"log-{self._begun}"
        with path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self._folder,
                env={**self._environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._logs[process.pid] = path
        return process

    # who is there

    def workers(self) -> list[int]:
        """The processes that run jobs."""
        found: list[int] = []
        for supervisor in self.supervisors:
            if supervisor.poll() is None:
                children = self._workers_below(supervisor.pid)
                found += children
        return found

    def is_complete(self) -> bool:
        """Whether every supervisor has come so far as to have workers: before that a signal just ends it."""
        return all(self._is_up(supervisor.pid) for supervisor in self.supervisors)

    def _is_up(self, pid: int) -> bool:
        workers = self._workers_below(pid)
        # One without a supervisor says what it is when it can be told to stop.
        return bool(workers) and (workers != [pid] or self._logs[pid].stat().st_size > 0)

    def _workers_below(self, pid: int) -> list[int]:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if "--processes" in (line := process.cmdline()) and line[line.index("--processes") + 1] == "1":
                return [pid]
            return [child.pid for child in process.children()]
        return []

    def all_pids(self) -> list[int]:
        """Every process of the trial that lives, whoever its parent is now."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                name, _, value = self._mark.partition("=")
                if process.pid != os.getpid() and process.environ().get(name) == value:
                    found.append(process.pid)
        return found

    def memory(self) -> list[int]:
        """Resident bytes of each worker."""
        sizes = []
        for pid in self.workers():
            with suppress(psutil.Error):
                sizes.append(psutil.Process(pid).memory_info().rss)
        return sizes

    # breaking

    def kill(self, pid: int) -> None:
        """SIGKILL."""
        # Written before: nobody must be seen to take over before the fault.
        self._journal.write(j.KILLED, pid)
        self._killed.add(pid)
        self._signal(pid, signal.SIGKILL)

    def freeze(self, pid: int) -> None:
        """SIGSTOP."""
        self._journal.write(j.FROZEN, pid)
        self._signal(pid, signal.SIGSTOP)

    def thaw(self, pid: int) -> None:
        """SIGCONT."""
        self._signal(pid, signal.SIGCONT)
        self._journal.write(j.THAWED, pid)

    def dismiss(self, supervisor: subprocess.Popen[bytes]) -> None:
        """Ask a supervisor to end, if it has come so far that it can; it has left the crew then."""
        if self._is_up(supervisor.pid):
            supervisor.terminate()
            self.supervisors.remove(supervisor)
            self._leaving.append(supervisor)

    def reap(self) -> None:
        """Forget the dead; their parent, which is this process, must ask for them."""
        self.supervisors = [each for each in self.supervisors if each.poll() is None]

    @staticmethod
    def _signal(pid: int, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    # the end

    def stop(self, patience_s: float) -> None:
        """Ask all workers to end, and note how they do."""
        for supervisor in self.supervisors:
            if supervisor.poll() is None:
                supervisor.terminate()
        for supervisor in (*self.supervisors, *self._leaving):
            try:
                code = supervisor.wait(patience_s)
            except subprocess.TimeoutExpired:
                code = -1000
            if supervisor.pid not in self._killed:
                self.exits.append(code)

    def clear(self) -> list[str]:
        """End whatever is left, and answer what that was."""
        left = []
        for pid in self.all_pids():
            with suppress(psutil.Error):
                left.append(f"{pid} {' '.join(psutil.Process(pid).cmdline()[1:])}")
            self._signal(pid, signal.SIGKILL)
        for process in (*self.supervisors, *self._leaving, *self.producers.values()):
            process.wait()
        return left

    def logs(self) -> list[Path]:
        """What the processes have written."""
        return sorted(self._folder.glob("log-*"))
