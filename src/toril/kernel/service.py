"""One lifecycle for everything that runs in the background: start, started, stop, and loops that are kept alive."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from toril.kernel.backoff import wait_s
from toril.kernel.telemetry import LoopFailed, Telemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartBudget:
    """How often a loop may be started again: `restarts` within `window_s` seconds. Waits between restarts grow from
    `base_s` to `cap_s` seconds, with jitter. A loop that has used that up is tried again every `rest_s` seconds.
    """

    restarts: int = 10
    window_s: float = 60.0
    base_s: float = 0.1
    cap_s: float = 5.0
    rest_s: float = 10.0


class Service:
    """Something that is started, runs loops, and is stopped.

    `start` and `stop` may be called in any order, any number of times and at the same time; a stopped service may be
    started again. A subclass overrides `on_start` (which calls `supervise` for its loops) and `on_stop`. A loop that
    raises is started again within its budget; when that is used up, the service counts as failed: `failure` is set
    and `finished` raises it. Until somebody stops it, it still tries now and then, so that a service which nobody
    watches does not go silent for good.
    """

    def __init__(self, name: str, telemetry: Telemetry, *, budget: RestartBudget | None = None) -> None:
        self.service_name = name
        self.telemetry = telemetry
        self.failure: BaseException | None = None
        self._budget = budget or RestartBudget()
        self._transition = asyncio.Lock()
        self._running = asyncio.Event()
        self._ended = asyncio.Event()
        self._stopping = asyncio.Event()
        self._loops: dict[asyncio.Task[None], str] = {}

    @property
    def is_running(self) -> bool:
        """True between a completed `start` and the begin of `stop`."""
        return self._running.is_set()

    async def start(self) -> None:
        """Start, unless started. Raises what `on_start` raises; nothing is left running then."""
        async with self._transition:
            if self._running.is_set():
                return
            self.failure = None
            self._ended.clear()
            self._stopping.clear()
            try:
                await self.on_start()
            except BaseException:
                await self._end_loops()
                raise
            self._running.set()

    async def started(self) -> None:
        """Wait until the service runs."""
        await self._running.wait()

    async def stop(self) -> None:
        """Stop, unless stopped, and wait until everything has ended."""
        async with self._transition:
            if not self._running.is_set():
                return
            self._running.clear()
            self._stopping.set()
            await self._wind_down()

    async def finished(self) -> None:
        """Wait until the service has stopped or failed. Raises the error of a loop that used up its budget."""
        await self._ended.wait()
        if self.failure is not None:
            raise self.failure

    async def on_start(self) -> None:
        """Begin: open what is needed and `supervise` loops."""

    async def on_stop(self) -> None:
        """End in an orderly way; the loops still run. Not called when `on_start` raised."""

    def supervise(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        """Run `loop()` until it returns; start it again when it raises, within the budget."""
        _ = self.begin_loop(name, loop)

    def begin_loop(self, name: str, loop: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """`supervise`, for who wants to wait until the loop has ended for good."""
        task = asyncio.get_running_loop().create_task(self._keep(name, loop), name=f"{self.service_name}:{name}")
        self._loops[task] = name
        task.add_done_callback(self._loops.pop)
        return task

    async def _keep(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        failures: deque[float] = deque()
        while True:
            try:
                await loop()
                return
            except Exception as error:  # noqa: BLE001 - whatever it was, the loop must live on
                now = time.monotonic()
                failures.append(now)
                while failures[0] < now - self._budget.window_s:
                    failures.popleft()
                used_up = len(failures) > self._budget.restarts
                wait = wait_s(len(failures), base_s=self._budget.base_s, cap_s=self._budget.cap_s, jitter=0.5)
                self.telemetry.emit(LoopFailed(self.service_name, name, error, None if used_up else wait))
                if used_up:
                    self.failure = error
                    self._ended.set()
            if not used_up:
                await asyncio.sleep(wait)
            elif await self._is_stopped_within(self._budget.rest_s):
                return

    async def _is_stopped_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        return self._stopping.is_set()

    async def _wind_down(self) -> None:
        try:
            await self.on_stop()
        finally:
            await self._end_loops()

    async def _end_loops(self) -> None:
        loops = list(self._loops)
        for task in loops:
            task.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        self._ended.set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
