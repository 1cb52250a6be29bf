"""One trial: producers and workers, faults at random instants, the end, the checker's word on it."""

from __future__ import annotations

import asyncio
import os
import random
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import faults as f
from tests.faults import journal as j
from tests.faults.checker import Ending, Figures, Rules, Verdict, check
from tests.faults.crew import Crew
from tests.faults.faults import Fault
from tests.faults.stores import SqliteStore, Store, finals, unfinished

LOOK_S = 0.25
PATIENCE_S = 30.0
"""How long a busy machine may take beyond what was asked for."""
OUTCRY = re.compile(r"Traceback|CRITICAL|never retrieved|used up its restarts|database is locked")
QUIET_LINES = 5.0
"""Most log lines per second and process while the store is away (A01)."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How large a trial is and what is broken.

    `gap_s`: shortest and longest pause between two faults. `lock_s`: how long locks last; they are renewed and looked
    for in the default's proportion to it. `least_faults`: go on when all is produced until so many things were broken.
    `kinds` and `ms`: which tasks, in which proportion, and how long they take.
    """

    jobs: int
    faults: dict[str, Fault] = field(default_factory=dict)
    gap_s: tuple[float, float] = (1.0, 1.0)
    producers: int = 2
    supervisors: int = 2
    processes: int = 2
    slots: int = 10
    per_second: float = 500.0
    lock_s: float = 15.0
    kinds: str = "quick=80,plain=10,flaky=5,broken=2,blocking=3"
    ms: str = "0,0,1,5,20,20,100,300"
    faultless: bool = False
    skew_ms: int = 0
    drain_s: float = 120.0
    shutdown_s: float = 5.0
    hang_s: float = 3000.0
    least_faults: int = 0


@dataclass
class Report:
    """What a trial led to."""

    name: str
    engine: str
    seed: int
    verdict: Verdict
    seconds: float
    faults: int
    memory: list[tuple[float, int]]
    wal_bytes: int
    lines_away: float

    @property
    def slope(self) -> float | None:
        """How the largest worker grows, in MiB per hour, over the second half of the trial."""
        late = [(at, size) for at, size in self.memory if at > self.seconds / 2]
        if len(late) < 4:
            return None
        mean_at = sum(at for at, _ in late) / len(late)
        mean = sum(size for _, size in late) / len(late)
        spread = sum((at - mean_at) ** 2 for at, _ in late)
        return sum((at - mean_at) * (size - mean) for at, size in late) / spread * 3600 / 2**20

    def lines(self) -> list[str]:
        """For people."""
        it = self.verdict.figures
        again = ", ".join(f"{number} {why}" for why, number in sorted(it.again.items())) or "none"
        good = "FAILED" if self.verdict.problems else "OK"
        faults = f"{self.faults} faults: {it.kills} kills, {it.freezes} freezes, {it.outages} outages"
        lines = [
            f"{self.name} on {self.engine}, seed {self.seed}: {good} after {self.seconds:.0f} s",
            f"{it.jobs} jobs, {it.runs} runs, {faults} ({it.crashes} crashes of the server)",
            f"lost {it.lost}, and {it.lost_in_window} within a crash; stuck {it.stuck}; duplicates {it.duplicates}",
            f"put back in line: {again}; failed for stalls {it.condemned}",
            f"overlapping and fenced off {it.overlapping}; stalled without a fault {it.unprovoked}",
            f"take-over {_times(it.take_over)}; by the second next {_times(it.twice)}",
            f"enqueue, one awaited call {_times(it.enqueue, 1000, 'ms')}",
            f"first start after an outage {_times(it.recovery)}",
            f"log lines per process and second while away ≤ {self.lines_away:.1f}",
        ]
        if self.slope is not None and not self.faults:
            lines.append(
                f"memory of the largest worker {self.slope:+.1f} MiB/h; write-ahead log ≤ {self.wal_bytes:,} bytes"
            )
        return [*lines, *(f"PROBLEM {problem}" for problem in self.verdict.problems)]

    def row(self) -> str:
        """For the table of docs/reliability.md."""
        it = self.verdict.figures
        p99 = Figures.quantile(it.take_over, 0.99)
        worst = max(it.recovery, default=None)
        cells = (self.name, self.engine, it.jobs, self.faults, it.lost, it.duplicates, _s(p99), _s(worst))
        return "| " + " | ".join(str(cell) for cell in cells) + " |"


class Trial:
    """Runs once. `folder` holds the journal, the logs and, unless `store` says otherwise, the store."""

    def __init__(self, name: str, store: Store, shape: Shape, *, seed: int, folder: Path) -> None:
        self.store = store
        self.random = random.Random(seed)
        self.lock_s = shape.lock_s
        self._name, self._shape, self._seed, self._folder = name, shape, seed, folder
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "journal"
        self.journal = j.Journal(self._path)
        self._clock = os.open(folder / "clock", os.O_RDWR | os.O_CREAT, 0o600)
        self.set_clock(0)
        self.crew: Crew
        self._tail = j.Tail(self._path)
        self._at_work: set[int] = set()
        self._broken = 0
        self._away = 0.0
        self._memory: list[tuple[float, int]] = []
        self._wal = 0

    def set_clock(self, off_ms: int) -> None:
        """Set wall time, for everybody."""
        os.pwrite(self._clock, off_ms.to_bytes(8, "little", signed=True), 0)

    def at_work(self) -> list[int]:
        """Workers that have begun a job."""
        self._at_work |= {event.pid for event in self._tail.news() if event.kind == j.STARTED}
        return [pid for pid in self.crew.workers() if pid in self._at_work]

    def staff(self) -> None:
        """Start what was killed anew, as a service manager does."""
        self._hire()
        shape, crew = self._shape, self.crew
        for lane in range(shape.producers):
            if lane not in crew.producers or crew.producers[lane].poll() not in (None, 0):
                quota = shape.jobs // shape.producers + (lane < shape.jobs % shape.producers)
                each = shape.per_second / shape.producers
                crew.produce(lane, *map(str, (shape.producers, quota, each, self._seed, shape.kinds, shape.ms)))

    def _hire(self) -> None:
        shape, crew = self._shape, self.crew
        crew.reap()
        while len(crew.supervisors) < shape.supervisors:
            skew = self.random.randint(-shape.skew_ms, shape.skew_ms)
            crew.supervise(shape.processes, shape.slots, FAULTS_SKEW_MS=str(skew))

    async def run(self) -> Report:
        """Run it to its end."""
        began = time.monotonic()
        await self.store.start()
        self.crew = Crew(self._folder, self.journal, self._environ())
        try:
            drained = await self._until_done(began)
            await asyncio.to_thread(self.crew.stop, self._shape.shutdown_s + PATIENCE_S)
            jobs, locks = await finals(self.store), await self.store.locks()
            ending = Ending(jobs, drained, locks, self.crew.exits, [*self._outcries(), *await self._left_behind()])
            rules = Rules(loss_s=self.store.loss_s, faultless=self._shape.faultless)
            verdict = check(j.read(self._path), ending, rules)
            if self._away > QUIET_LINES:
                verdict.problems.append(f"too many words while the store is away: {self._away:.1f} lines/s")
        finally:
            self.crew.clear()
            await self.store.close()
            os.close(self._clock)
            self.journal.close()
            self._tail.close()
        took = time.monotonic() - began
        return Report(
            self._name, self.store.name, self._seed, verdict, took, self._broken, self._memory, self._wal, self._away
        )

    def _environ(self) -> dict[str, str]:
        lock = self._shape.lock_s
        return {
            "FAULTS_JOURNAL": str(self._path),
            "FAULTS_CLOCK": str(self._folder / "clock"),
            "TORIL_URL": self.store.url,
            "TORIL_WORKER_LOCK": str(lock),
            "TORIL_WORKER_HEARTBEAT": str(lock / 3),
            "TORIL_WORKER_RECOVER_EVERY": str(lock * 2 / 3),
            "TORIL_WORKER_SHUTDOWN_TIMEOUT": str(self._shape.shutdown_s),
            "TORIL_JOBS_KEEP_COMPLETED_MAX": "100000000",
            "TORIL_JOBS_KEEP_FAILED_MAX": "100000000",
            "PYTHONUNBUFFERED": "1",
        }

    async def _until_done(self, began: float) -> bool:
        """Break things while jobs are produced, then let everybody finish. False when that takes too long."""
        shape = self._shape
        deadline = began + shape.hang_s
        self._hire()
        while not self.crew.is_complete() and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_S)
        self.staff()
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch(began))
            try:
                while (self._producing() or self._broken < shape.least_faults) and time.monotonic() < deadline:
                    # Else all faults would come and go before anybody is there, on a busy machine.
                    if shape.faults and self.at_work():
                        await self._break_something()
                    else:
                        await asyncio.sleep(LOOK_S)
                        self.staff()
                for pid in self.crew.all_pids():
                    self.crew.thaw(pid)
                self.staff()
                while (self._producing() or not self.crew.is_complete()) and time.monotonic() < deadline:
                    await asyncio.sleep(LOOK_S)
                    self.staff()
                return await self._drained(min(deadline, time.monotonic() + shape.drain_s))
            finally:
                watching.cancel()

    def _producing(self) -> bool:
        return any(producer.poll() != 0 for producer in self.crew.producers.values())

    async def _break_something(self) -> None:
        shape = self._shape
        await asyncio.sleep(self.random.uniform(*shape.gap_s))
        name = self.random.choice(sorted(shape.faults))
        self._broken += 1
        began, lines = time.monotonic(), self._written()
        await shape.faults[name](self)
        took = time.monotonic() - began
        if name in {"kill_server", "freeze_server", "black_hole", "fill_disk"} and took > 1:
            self._away = max(self._away, (self._written() - lines) / took / len(self.crew.logs()))
        self.staff()

    def _written(self) -> int:
        return sum(path.read_bytes().count(b"\n") for path in self.crew.logs())

    async def _drained(self, deadline: float) -> bool:
        while await unfinished(self.store):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(LOOK_S)
        return True

    async def _left_behind(self) -> list[str]:
        """Processes that go on although all were told to end, or have lost their parent."""
        deadline = time.monotonic() + PATIENCE_S
        while self.crew.all_pids() and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_S)
        return [f"still there: {line}" for line in self.crew.clear()]

    async def _watch(self, began: float) -> None:
        while True:
            self._memory.append((time.monotonic() - began, max(self.crew.memory(), default=0)))
            if isinstance(self.store, SqliteStore):
                self._wal = max(self._wal, self.store.wal_bytes)
            if not self._shape.faults:
                # As a dashboard does.
                await unfinished(self.store)
            await asyncio.sleep(2.0)

    def _outcries(self) -> list[str]:
        return [
            f"{path.name}: {line}"
            for path in self.crew.logs()
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
            if OUTCRY.search(line)
        ]


def said(report: Report) -> None:
    """Print a report; pytest shows it with -s, and when the test fails."""
    sys.stdout.write("\n" + "\n".join(report.lines()) + "\n" + report.row() + "\n")
    sys.stdout.flush()


def _times(values: list[float], factor: float = 1, unit: str = "s") -> str:
    if not values:
        return "none"
    parts = [Figures.quantile(values, part) or 0 for part in (0.5, 0.99, 1.0)]
    p50, p99, most = (f"{part * factor:.1f} {unit}" for part in parts)
    return f"p50 {p50} p99 {p99} max {most} (of {len(values)})"


def _s(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


RANDOM = {"sqlite": f.SQLITE, "redis": f.REDIS}
