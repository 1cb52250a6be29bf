"""Keeps the locks of a worker alive from a thread of its own, and notices when the event loop is blocked.

The thread has its own event loop, so that a handler which blocks the worker's keeps its lock.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

from toril.engine.protocol import Engine
from toril.errors import EngineError, EngineUnavailable
from toril.kernel import codec
from toril.kernel.clock import Clock
from toril.kernel.telemetry import LoopBlocked, LoopFailed, Telemetry
from toril.worker.executor import Executor
from toril.worker.options import WorkerOptions
from toril.worker.outage import Outage
from toril.worker.presence import PRESENCE_PREFIX
from toril.worker.run import Run, Runs
from toril.worker.stack import shorten_stack

MOST_RUNNING_SHOWN = 200


class Heartbeat:
    """The thread. `start` and `stop` are called on the worker's event loop."""

    def __init__(
        self,
        *,
        worker: str,
        queues: Sequence[str],
        engine: Engine,
        runs: Runs,
        options: WorkerOptions,
        clock: Clock,
        telemetry: Telemetry,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._worker = worker
        self._queues = tuple(queues)
        self._engine = engine
        self._runs = runs
        self._options = options
        self._clock = clock
        self._telemetry = telemetry
        self._is_stopping = is_stopping
        self._outage = Outage(worker, telemetry)
        self._began_ms = clock.now_ms()
        self._shows_jobs = False
        self._show_at = 0.0
        self._main = asyncio.get_running_loop()
        self._main_thread = threading.get_ident()
        self._answered = time.monotonic()
        self._own: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._early: asyncio.Event | None = None
        self._stop_asked = False
        self._ended: asyncio.Future[None] = self._main.create_future()

    def start(self) -> None:
        """Begin to beat."""
        threading.Thread(target=self._live, name=f"toril-heartbeat-{self._worker[-8:]}", daemon=True).start()

    def beat_now(self) -> None:
        """Something has changed that others should see at once."""
        if self._own is not None and self._early is not None and not self._own.is_closed():
            self._own.call_soon_threadsafe(self._early.set)

    async def stop(self) -> None:
        """Stop beating, take the presence entry away, and wait for the thread."""
        # The thread may not have come so far yet: it looks at this when its loop runs.
        self._stop_asked = True
        if self._own is not None and self._stopping is not None and not self._own.is_closed():
            self._own.call_soon_threadsafe(self._stopping.set)
        await asyncio.wait([self._ended], timeout=self._options.hand_in_timeout_s)

    # in the thread

    def _live(self) -> None:
        try:
            asyncio.run(self._beat_until_stopped())
        except Exception as error:  # noqa: BLE001 - the thread's last word must reach somebody
            self._telemetry.emit(LoopFailed(self._worker, "heartbeat", error, None))
        self._tell(_resolve, self._ended)

    async def _beat_until_stopped(self) -> None:
        self._stopping = stopping = asyncio.Event()
        self._early = asyncio.Event()
        self._own = asyncio.get_running_loop()
        if self._stop_asked:
            stopping.set()
        loops = [asyncio.create_task(self._beat(self._early)), asyncio.create_task(self._watch())]
        await stopping.wait()
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        try:
            async with asyncio.timeout(1.0):
                await self._engine.keyvalue.delete([PRESENCE_PREFIX + self._worker])
        except (EngineError, TimeoutError):
            return  # the entry runs out by itself

    async def _beat(self, early: asyncio.Event) -> None:
        every_s = self._options.heartbeat_ms / 1000
        while True:
            began = time.monotonic()
            early.clear()
            try:
                # Locks of the other queues have been renewed; those of a part that is away have their next turn.
                with suppress(EngineUnavailable):
                    await self._outage.endure("heartbeat", self._renew, parts=False)
                if self._is_to_be_seen():
                    await self._outage.endure("heartbeat", self._show)
                wait_s = every_s
            except EngineError as error:
                # Whatever it is, giving up would lose every lock.
                self._telemetry.emit(LoopFailed(self._worker, "heartbeat", error, every_s / 5))
                wait_s = every_s / 5
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, wait_s - (time.monotonic() - began))):
                    await early.wait()

    async def _renew(self) -> None:
        locks = self._runs.locks()
        if not locks:
            return
        options = self._options
        answer = await self._engine.jobs.renew(locks, lock_ms=options.lock_ms, now=self._clock.now_ms())
        if answer.lost:
            self._tell(self._runs.locks_lost, answer.lost)
        if answer.cancelled:
            self._tell(self._runs.cancel_requested, answer.cancelled)

    def _is_to_be_seen(self) -> bool:
        """With every beat while jobs run or are to end, and once after the last; now and then when nothing happens."""
        busy = self._shows_jobs or self._is_stopping() or bool(self._runs.locks())
        return busy or time.monotonic() >= self._show_at

    async def _show(self) -> None:
        now, options = self._clock.now_ms(), self._options
        running = [lock.id for lock in self._runs.locks()[:MOST_RUNNING_SHOWN]]
        every_ms = options.heartbeat_ms if running else options.idle_beat_ms
        entry = {
            "id": self._worker,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "queues": list(self._queues),
            "concurrency": self._options.concurrency,
            "running": running,
            "started": self._began_ms,
            "beat": now,
            "stopping": self._is_stopping(),
            "every": every_ms,
        }
        item = (PRESENCE_PREFIX + self._worker, codec.encode(entry).encode())
        ttl_ms = 3 * every_ms if running else 2 * every_ms + 2 * options.heartbeat_ms
        await self._engine.keyvalue.set([item], ttl_ms=ttl_ms, now=now)
        self._shows_jobs = bool(running)
        # Beats come a little late: half of one early is still the right one.
        self._show_at = time.monotonic() + (every_ms - options.heartbeat_ms / 2) / 1000

    async def _watch(self) -> None:
        """Ask the worker's loop for a sign every now and then. Told once per episode."""
        patience_s = self._options.blocked_after_s
        asked, told = time.monotonic(), False
        while True:
            asked = time.monotonic()
            self._tell(self._answer)
            await asyncio.sleep(patience_s / 2)
            if self._answered >= asked:
                told = False
            elif not told and time.monotonic() - self._answered >= patience_s:
                told = True
                self._report_blocked(time.monotonic() - self._answered)

    def _report_blocked(self, duration_s: float) -> None:
        frame = sys._current_frames().get(self._main_thread)
        if frame is None:
            return
        run = _run_of(frame)
        stack = shorten_stack("".join(traceback.format_stack(frame, limit=30)))
        queue, job_id, name = ("", "", "") if run is None else (run.owner.queue, run.job.id, run.job.name)
        self._telemetry.emit(LoopBlocked(self._worker, queue, job_id, name, duration_s, stack))

    def _answer(self) -> None:
        self._answered = time.monotonic()

    def _tell(self, function: object, *arguments: object) -> None:
        try:
            self._main.call_soon_threadsafe(function, *arguments)  # type: ignore[arg-type]
        except RuntimeError:
            return  # the worker's loop has closed


def _run_of(frame: FrameType | None) -> Run | None:
    """The run that a stack belongs to: the executor's own frame is below the handler's."""
    code = Executor.run.__code__
    while frame is not None:
        if frame.f_code is code:
            run = frame.f_locals.get("run")
            return run if isinstance(run, Run) else None
        frame = frame.f_back
    return None


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
