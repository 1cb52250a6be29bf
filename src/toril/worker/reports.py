"""Progress and log lines of running jobs, gathered and stored in bulk."""

from __future__ import annotations

import asyncio
import threading

from toril.engine.ports.jobs import JobStore, LogLine, Progress
from toril.errors import EngineClosed, EngineError
from toril.jobs.model import TakenJob
from toril.kernel.clock import Clock
from toril.kernel.telemetry import ReportsDropped, Telemetry
from toril.worker.outage import Outage

GATHER_S = 0.05
MOST_PER_CALL = 1_000
MOST_GATHERED = 20_000


class Reports:
    """The reporter of one queue. Handlers add from any thread; `flush` belongs to the worker's event loop."""

    def __init__(self, queue: str, *, store: JobStore, clock: Clock, telemetry: Telemetry, outage: Outage) -> None:
        self.queue = queue
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._outage = outage
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._flushing = asyncio.Lock()
        self._due = asyncio.Event()
        self._progress: list[Progress] = []
        self._lines: list[LogLine] = []

    @property
    def busy(self) -> bool:
        """True while something waits or is on its way: a run's end must not overtake its reports."""
        return bool(self._progress or self._lines) or self._flushing.locked()

    def progress(self, job: TakenJob, token: str, value: str) -> None:
        """Progress of a job, as JSON text."""
        item = Progress(job.id, token, value, self._clock.now_ms())
        with self._lock:
            self._progress.append(item)
            first = len(self._progress) + len(self._lines) == 1
            if len(self._progress) > MOST_GATHERED:
                # Only the newest number of each run is worth anything when they come this fast.
                self._progress = list({(p.id, p.token): p for p in self._progress}.values())
        if first:
            self._announce()

    def log(self, job: TakenJob, token: str, line: str, keep: int) -> None:
        """A line for a job's log, which keeps its newest `keep` lines."""
        item = LogLine(job.id, token, line, self._clock.now_ms(), keep)
        dropped = 0
        with self._lock:
            self._lines.append(item)
            first = len(self._progress) + len(self._lines) == 1
            if len(self._lines) > MOST_GATHERED:
                dropped = MOST_GATHERED // 2
                del self._lines[:dropped]
        if first:
            self._announce()
        if dropped:
            self._telemetry.emit(ReportsDropped(self.queue, dropped, "they come faster than the store takes them"))

    async def run(self) -> None:
        """Store what gathers, a moment after the first of it."""
        while True:
            await self._due.wait()
            await asyncio.sleep(GATHER_S)
            self._due.clear()
            await self.flush()

    async def flush(self) -> None:
        """Store everything that was reported before this call."""
        async with self._flushing:
            with self._lock:
                progress, self._progress = self._progress, []
                lines, self._lines = self._lines, []
            while progress or lines:
                await self._store_some(progress[:MOST_PER_CALL], lines[:MOST_PER_CALL])
                del progress[:MOST_PER_CALL]
                del lines[:MOST_PER_CALL]

    async def _store_some(self, progress: list[Progress], lines: list[LogLine]) -> None:
        try:
            await self._outage.endure("reports", lambda: self._store.report(self.queue, progress, lines))
        except EngineClosed:
            raise
        except EngineError as error:
            # Reports must never keep the outcomes of jobs from being handed in.
            self._telemetry.emit(ReportsDropped(self.queue, len(progress) + len(lines), str(error)))

    def _announce(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._due.set)
        except RuntimeError:
            return  # the loop has closed: the run was abandoned
