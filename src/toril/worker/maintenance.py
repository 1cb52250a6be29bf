"""What every worker does for its queues from time to time: jobs of vanished workers, and retention."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import suppress

from toril.engine.ports.jobs import JobStore
from toril.errors import EngineUnavailable
from toril.kernel.clock import Clock
from toril.kernel.telemetry import JobsPruned, JobsRecovered, Telemetry
from toril.worker.options import QueuePolicy, WorkerOptions
from toril.worker.outage import Outage
from toril.worker.planning import RunPlanner

PART = 1_000
JITTER = 0.2
HEAL_EVERY_S = 60.0


class Maintenance:
    """Two loops: `recover` and `prune`."""

    def __init__(
        self,
        policies: Mapping[str, QueuePolicy],
        *,
        store: JobStore,
        options: WorkerOptions,
        clock: Clock,
        telemetry: Telemetry,
        outage: Outage,
        planner: RunPlanner | None = None,
    ) -> None:
        self._policies = policies
        self._store = store
        self._options = options
        self._clock = clock
        self._telemetry = telemetry
        self._outage = outage
        self._planner = planner
        self._declared = False
        self._finished: set[str] = set()

    def finished(self, queue: str) -> None:
        """Jobs of this queue have ended: there may be something to prune."""
        self._finished.add(queue)

    async def recover(self) -> None:
        """Look for jobs of vanished workers, at once and then every `recover_every_ms`, and once a minute for schedules
        that have lost their run; retention is looked at then too, since jobs grow old without anything ending.
        """
        healed = float("-inf")
        while True:
            with suppress(EngineUnavailable):
                await self.declare()
            heal = time.monotonic() - healed >= HEAL_EVERY_S
            healed = time.monotonic() if heal else healed
            for queue in self._policies:
                # A queue whose part of the store is away has its next turn with the others.
                with suppress(EngineUnavailable):
                    await self.recover_queue(queue)
                    if heal:
                        await self.heal(queue)
                self._finished.add(queue)
            await asyncio.sleep(_jittered(self._options.recover_every_ms))

    async def prune(self) -> None:
        """Keep retention up with what ends."""
        while True:
            await asyncio.sleep(_jittered(self._options.prune_every_ms))
            queues, self._finished = self._finished, set()
            for queue in queues:
                with suppress(EngineUnavailable):
                    await self.prune_queue(queue)

    async def declare(self) -> None:
        """Store the schedules that tasks of these queues declare, once."""
        planner = self._planner
        if planner is not None and not self._declared:
            await self._outage.endure("declare", lambda: planner.declare(list(self._policies)), parts=False)
            self._declared = True

    async def heal(self, queue: str) -> None:
        """Let schedules of the queue go on that have lost their planned run."""
        planner = self._planner
        if planner is not None:
            await self._outage.endure("heal", lambda: planner.heal(queue), parts=False)

    async def recover_queue(self, queue: str) -> None:
        """Put all jobs whose lock has run out back in line."""
        while True:
            answer = await self._outage.endure(
                "recover",
                lambda: self._store.recover(
                    queue, max_stalls=self._options.max_stalls, now=self._clock.now_ms(), limit=PART
                ),
                parts=False,
            )
            if answer.requeued:
                self._telemetry.emit(JobsRecovered(queue, len(answer.requeued), len(answer.condemned)))
            if len(answer.requeued) < PART:
                return
            await asyncio.sleep(0)

    async def prune_queue(self, queue: str) -> None:
        """Delete everything that is past the bounds of the queue."""
        policy = self._policies[queue]
        while True:
            deleted = await self._outage.endure(
                "prune",
                lambda: self._store.prune(
                    queue,
                    completed=policy.completed,
                    failed=policy.failed,
                    events=policy.events,
                    now=self._clock.now_ms(),
                    limit=PART,
                ),
                parts=False,
            )
            if deleted:
                self._telemetry.emit(JobsPruned(queue, deleted))
            if deleted < PART:
                return
            await asyncio.sleep(0)


def _jittered(every_ms: int) -> float:
    """Seconds, so that workers that were started together do not all ask in the same instant."""
    return every_ms / 1000 * (1 - JITTER + 2 * JITTER * random.random())
