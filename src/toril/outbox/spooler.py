"""The policy `spool`: jobs that are added while the store is away lie in a local file until it is back.

Whatever process has the file open sees to it that they are forwarded, its own and those that others have left.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from toril.engine.ports.jobs import BATCH_MEMORY_MS, Added
from toril.engine.ports.spool import Spool, SpoolStats
from toril.errors import EngineClosed, EngineError, EngineUnavailable, TorilError
from toril.jobs.model import CancelRequest, Job, NewJob
from toril.kernel.backoff import wait_s
from toril.kernel.clock import Clock
from toril.outbox.destination import Destination
from toril.outbox.forwarder import Forwarder
from toril.tasks.handle import Desk

_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 0.5
# How often somebody with nothing to do looks whether another process has left something.
_LOOK_S = 5.0
_LEFT_EVERY_S = 0.1
# Handles find their jobs by this; those of older ones ask the store alone.
_REMEMBERED_JOBS = 100_000

_log = logging.getLogger("toril.spool")

Submit = Callable[[Callable[[], Coroutine[Any, Any, None]]], Future[None]]


class Spooler:
    """Takes jobs in, and forwards them in a thread of its own: `submit` runs a coroutine there.

    `destination` is the store. `opened` begins to forward when there is a file, `take` and `resume` in any case.
    """

    takes_unsure = True

    def __init__(self, spool: Spool, destination: Destination, *, submit: Submit, clock: Clock) -> None:
        self._spool = spool
        self._destination = destination
        self._submit = submit
        self._clock = clock
        self._forwarder = Forwarder(spool, destination, clock)
        self._starting = threading.Lock()
        self._running: _Running | None = None
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._holds = False
        self.promise = f"added jobs wait in {spool.location} (spool)"

    async def take(self, queue: str, jobs: Sequence[NewJob], *, batch: str, now: int, unsure: bool) -> Added:
        """Keep jobs until the store is back; they are durable when this returns. Raises SpoolFull, and what keeps the
        file from being used: StoreFull, StoreReadOnly, StoreCorrupt, UnsupportedFileSystem.
        """
        until = now + BATCH_MEMORY_MS
        await self._spool.put(queue, jobs, batch=batch if unsure else None, until=until, now=now)
        self._holds = True
        self._ids.update((job.id, None) for job in jobs)
        while len(self._ids) > _REMEMBERED_JOBS:
            self._ids.popitem(last=False)
        self._begin().nudge()
        return Added(tuple(job.id for job in jobs), (True,) * len(jobs))

    def opened(self) -> None:
        """Forward what was left in the file, if there is one, and say so if there could not be one."""
        problem = self._spool.problem()
        if problem is not None:
            _log.warning("Jobs that are added while the store is away will be refused. %s", problem)
        elif self._spool.exists():
            self._begin()

    async def resume(self) -> None:
        """From now on look whether there is something to forward, though there is no file yet: for workers."""
        self._begin()

    def furnished(self, desk: Desk) -> Desk:
        """The desk of the application, on which handles find the jobs that wait here too."""
        return desk._replace(spool=self)

    def reopen(self) -> None:
        """Allow use again after `close`: nothing to do."""

    async def detail(self) -> dict[str, Any]:
        """How the spool is, for `health`."""
        try:
            return {"spool": (await self._spool.stats())._asdict()}
        except TorilError as error:
            return {"spool": {"location": self._spool.location, "error": str(error)}}

    async def stats(self) -> SpoolStats:
        """How full the file is. Raises EngineError."""
        return await self._spool.stats()

    @property
    def spool(self) -> Spool:
        """The file, for who decides about what was set aside."""
        return self._spool

    async def find(self, id: str) -> Job | str | None:
        """A job that waits in the file, or was cancelled there; the id of another that stands for it; or None."""
        return await self._spool.find(id) if self._holds or id in self._ids else None

    async def left(self, id: str) -> None:
        """Return when a job waits in the file no more."""
        # Looked at again and again: it may be another process that forwards it.
        while isinstance(job := await self._spool.find(id), Job) and job.spooled:  # noqa: ASYNC110
            await asyncio.sleep(_LEFT_EVERY_S)

    async def cancel(self, id: str, request: CancelRequest) -> bool:
        """Cancel a job that waits in the file. False when it does not, or may be in the store already."""
        return (self._holds or id in self._ids) and await self._spool.cancel(id, request)

    async def close(self) -> None:
        """Stop forwarding, and let go of the file. What is left there is forwarded by the next start."""
        with self._starting:
            running, self._running = self._running, None
        if running is not None:
            await running.stop()
        with suppress(EngineError):
            if await self._spool.waits():
                left = await self._spool.stats()
                _log.warning("%d jobs are left in %s: the next start forwards them.", left.jobs, left.location)
        await self._spool.close()

    def _begin(self) -> _Running:
        with self._starting:
            running = self._running
            if running is None or running.is_over:
                running = self._running = _Running(self._serve, self._submit)
            return running

    async def _serve(self, nudged: asyncio.Event) -> None:
        failures = 0
        while True:
            nudged.clear()
            try:
                left = await self._round()
                failures = failures + 1 if left else 0
            except EngineClosed:
                return
            except TorilError as error:
                failures += 1
                # That the store is away is told by who noticed it.
                level = logging.DEBUG if isinstance(error, EngineUnavailable) or failures > 1 else logging.WARNING
                _log.log(level, "What waits in %s cannot be forwarded now. %s", self._spool.location, error)
            except Exception:  # noqa: BLE001 - forwarding must never end in silence
                failures += 1
                _log.exception("What waits in %s cannot be forwarded now.", self._spool.location)
            if failures:
                await asyncio.sleep(wait_s(failures, base_s=_FIRST_WAIT_S, cap_s=_LONGEST_WAIT_S, jitter=0.3))
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await nudged.wait()

    async def _round(self) -> bool:
        """Forward what there is, unless another process does. True when something is left."""
        self._holds = await self._spool.waits()
        if not self._holds:
            return False
        if await self._destination.is_away() or not self._spool.try_lock():
            return True
        before = self._forwarder.jobs
        try:
            return not await self._forwarder.forward()
        finally:
            self._spool.unlock()
            if self._forwarder.jobs > before:
                count = self._forwarder.jobs - before
                _log.info("%d jobs that waited in %s are in the store.", count, self._spool.location)


class _Running:
    """A forwarding loop in another thread."""

    def __init__(self, serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]], submit: Submit) -> None:
        self._pid = os.getpid()
        self._ended: Future[None] = Future()
        self._stopped = False
        self._inside: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any], asyncio.Event] | None = None
        submit(lambda: self._run(serve))

    @property
    def is_over(self) -> bool:
        """True when it has ended, or is the parent's of this process."""
        return self._ended.done() or self._pid != os.getpid()

    def nudge(self) -> None:
        """There is something to do."""
        if self._inside is not None:
            loop, _, nudged = self._inside
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(nudged.set)

    async def stop(self) -> None:
        """End it, and wait until it has ended."""
        if self.is_over:
            return
        self._stopped = True
        if self._inside is not None:
            loop, task, _ = self._inside
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(task.cancel)
        await asyncio.wrap_future(self._ended)

    async def _run(self, serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
        nudged, task = asyncio.Event(), asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        self._inside = (asyncio.get_running_loop(), task, nudged)
        try:
            if not self._stopped:
                await serve(nudged)
        finally:
            self._ended.set_result(None)
