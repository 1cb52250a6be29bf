"""Where jobs go that are added while the store is away: an embedded store, whose jobs this process runs."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from toril.engine.open import Opening
from toril.engine.ports.jobs import Added
from toril.jobs.model import NewJob
from toril.tasks.handle import Desk, JobHandle
from toril.worker.worker import Worker

# Handles find their jobs by this; an older job can still be looked up in the file.
_REMEMBERED_JOBS = 100_000

Policy = Literal["direct", "embedded"]


class LocalRefuge:
    """A store of its own, and workers for it in this process: one per queue and event loop, begun when needed.

    `direct` keeps nothing beyond the process, so `take` returns when the jobs have ended, and a delay means nothing.
    `embedded` returns when they are stored. `hire` makes the worker of a queue.
    """

    def __init__(self, policy: Policy, *, opening: Opening, hire: Callable[[str], Worker], desk: Desk) -> None:
        self.promise = f"added jobs are run here ({policy})"
        # What the store may have already would run twice.
        self.takes_unsure = False
        self._at_once = policy == "direct"
        self._opening = opening
        self._hire = hire
        self._desk = desk
        self._workers: dict[tuple[asyncio.AbstractEventLoop, str], Worker] = {}
        self._ids: OrderedDict[str, None] = OrderedDict()

    async def take(self, queue: str, jobs: Sequence[NewJob], *, batch: str, now: int, unsure: bool) -> Added:
        """Store jobs here and see to it that they run. Raises EngineError, and EngineClosed when the application is
        closed before jobs that run at once have ended.
        """
        engine = await self._opening.get()
        await self._employ(queue)
        if self._at_once:
            jobs = [job._replace(delay_ms=0) for job in jobs]
        added = await engine.jobs.add(queue, jobs, batch=batch, now=now)
        self._remember(added.ids)
        if self._at_once:
            await asyncio.gather(*(self._ended(queue, id_) for id_ in added.ids))
        return added

    def opened(self) -> None:
        """Nothing: what was left needs a worker, which calls `resume`."""

    async def detail(self) -> dict[str, Any]:
        """Nothing: its jobs are seen in its own store."""
        return {}

    def furnished(self, desk: Desk) -> Desk:
        """The desk of the application, on which handles find the jobs that were taken in here too."""
        return desk._replace(elsewhere=self.desk_of)

    def desk_of(self, id: str) -> Desk | None:
        """The desk of a job that was taken in here."""
        return self._desk if id in self._ids else None

    async def resume(self) -> None:
        """Run what an earlier process has left behind."""
        if self._at_once or not await asyncio.to_thread(Path(self._opening.engine.location).exists):
            return
        engine = await self._opening.get()
        for info in await engine.inspect.queues():
            counts = info.counts
            if counts.waiting or counts.prioritized or counts.delayed or counts.active:
                await self._employ(info.name)

    async def close(self) -> None:
        """Stop the workers, wherever they run, and let go of the store."""
        workers, self._workers = self._workers, {}
        here = asyncio.get_running_loop()
        for (loop, _), worker in workers.items():
            if loop is here:
                await worker.stop()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(worker.stop(), loop))
        await self._opening.close()

    def reopen(self) -> None:
        """Allow use again after `close`."""
        self._opening.reopen()

    async def _employ(self, queue: str) -> None:
        loop = asyncio.get_running_loop()
        for ended in [key for key in self._workers if key[0].is_closed()]:
            del self._workers[ended]
        worker = self._workers.get((loop, queue))
        if worker is None:
            worker = self._workers[loop, queue] = self._hire(queue)
        await worker.start()

    def _remember(self, ids: Sequence[str]) -> None:
        self._ids.update(dict.fromkeys(ids))
        while len(self._ids) > _REMEMBERED_JOBS:
            self._ids.popitem(last=False)

    async def _ended(self, queue: str, id_: str) -> None:
        handle: JobHandle[object] = JobHandle(id_, queue, None, self._desk)
        async for _ in handle.events():
            pass
