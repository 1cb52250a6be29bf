"""What one of the workers of a queue does for it from time to time: jobs of vanished workers, retention, schedules.

Which one is decided by a lease, and only when there is something to do: a quiet queue needs nobody. Who holds the lease
renews it; when its holder has died it runs out, and the next who asks has it. All that is done may be done by two at
the same time, so a holder that was stopped for a while and goes on does no harm.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from toril.engine.ports.jobs import JobStore, Outlook
from toril.engine.ports.leases import LeaseStore
from toril.errors import EngineError
from toril.kernel.clock import Clock
from toril.kernel.telemetry import JobsPruned, JobsRecovered, Telemetry
from toril.worker.options import QueuePolicy, WorkerOptions
from toril.worker.outage import Outage
from toril.worker.planning import RunPlanner

PART = 1_000
# Sooner and never later: what is promised is how long something takes at most.
JITTER = 0.1
HEAL_EVERY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """What the maintenance of all queues of a worker shares."""

    worker: str
    store: JobStore
    leases: LeaseStore
    options: WorkerOptions
    clock: Clock
    telemetry: Telemetry
    outage: Outage
    planner: RunPlanner | None = None


class Maintenance:
    """The maintenance of one queue, as one worker takes part in it. `noticed` hears of every look at the queue."""

    def __init__(self, queue: str, policy: QueuePolicy, duty: Duty, noticed: Callable[[Outlook], None]) -> None:
        self.queue = queue
        self.is_holder = False
        self._policy = policy
        self._duty = duty
        self._noticed = noticed
        self._turn = asyncio.Lock()
        self._stir = asyncio.Event()
        self._closed = False
        self._active = False
        self._ended = False
        options = duty.options
        self._prune_every_s = options.prune_every_ms / 1000
        # Moments of the monotonic clock. The first chores are done at once.
        self._look_at = self._look_for_due_at = self._ask_at = self._chores_at = 0.0
        self._recover_at = self._prune_at = self._heal_at = 0.0

    def finished(self) -> None:
        """Jobs have ended: there may be something to prune."""
        if not self._ended:
            self._ended = True
            self._prune_at = max(self._prune_at, time.monotonic() + self._duty.options.prune_every_ms / 1000)
            self._stir.set()

    async def run(self) -> None:
        """Look after the queue for ever."""
        while not self._closed:
            self._stir.clear()
            async with self._turn:
                next_at = await self._step()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, next_at - time.monotonic())):
                    await self._stir.wait()

    async def hand_over(self) -> None:
        """Do nothing any more, and let another worker have the lease at once."""
        self._closed = True
        self._stir.set()
        duty = self._duty
        with suppress(EngineError, TimeoutError):
            async with asyncio.timeout(duty.options.hand_in_timeout_s), self._turn:
                if self.is_holder:
                    self.is_holder = False
                    await duty.leases.release(self.queue, duty.worker, now=duty.clock.now_ms())

    async def _step(self) -> float:
        """Do what is due. Answers when to come again."""
        if self._closed:
            return time.monotonic()
        if time.monotonic() >= self._look_at:
            await self._look()
        if not (self._active or self._ended or time.monotonic() >= self._chores_at):
            return min(self._look_at, self._chores_at)
        if time.monotonic() >= self._ask_at:
            await self._ask()
        if not self.is_holder:
            return min(self._look_at, self._ask_at)
        await self._work()
        due = (self._recover_at, self._prune_at) if self._active else (self._prune_at,)
        return min(self._look_at, self._ask_at, *due)

    async def _look(self) -> None:
        duty, options = self._duty, self._duty.options
        due = time.monotonic() >= self._look_for_due_at
        outlook = await duty.outage.endure("look", lambda: duty.store.look(self.queue, due=due))
        if due:
            self._look_for_due_at = time.monotonic() + options.look_for_due_s
        self._active = outlook.active
        every_s = options.look_s
        if outlook.active and self.is_holder:
            every_s = min(every_s, options.recover_every_ms / 1000)
        self._look_at = time.monotonic() + _jittered(every_s)
        self._noticed(outlook)

    async def _ask(self) -> None:
        """Take the lease, or renew it, or learn when to ask again."""
        duty, ttl_ms = self._duty, self._duty.options.lease_ms
        lease = await duty.outage.endure(
            "lease", lambda: duty.leases.hold(self.queue, duty.worker, ttl_ms=ttl_ms, now=duty.clock.now_ms())
        )
        self.is_holder = lease.mine
        wait_ms = ttl_ms / 2 if lease.mine else min(lease.left_ms, ttl_ms) * (1 + JITTER * random.random() / 2) + 1
        self._ask_at = time.monotonic() + wait_ms / 1000

    async def _work(self) -> None:
        """What the holder does, each at its time."""
        options = self._duty.options
        now = time.monotonic()
        chores = now >= self._chores_at
        if chores:
            self._chores_at = now + _jittered(options.chores_every_ms / 1000)
        if chores or (self._active and now >= self._recover_at):
            self._recover_at = time.monotonic() + _jittered(options.recover_every_ms / 1000)
            await self.recover()
        if chores or now >= self._heal_at:
            self._heal_at = time.monotonic() + HEAL_EVERY_S
            await self._heal()
        if chores or now >= self._prune_at:
            await self._prune_in_time()

    async def _prune_in_time(self) -> None:
        """Prune, and more seldom while there is nothing to prune."""
        options = self._duty.options
        self._ended = False
        if await self.prune():
            self._prune_every_s = options.prune_every_ms / 1000
        else:
            self._prune_every_s = min(
                self._prune_every_s * 2, max(options.recover_every_ms, options.prune_every_ms) / 1000
            )
        self._prune_at = max(self._prune_at, time.monotonic() + _jittered(self._prune_every_s))

    async def _heal(self) -> None:
        """Let schedules of the queue go on that have lost their planned run."""
        planner = self._duty.planner
        if planner is not None:
            await self._duty.outage.endure("heal", lambda: planner.heal(self.queue))

    async def recover(self) -> None:
        """Put all jobs whose lock has run out back in line."""
        duty = self._duty
        while True:
            answer = await duty.outage.endure(
                "recover",
                lambda: duty.store.recover(
                    self.queue, max_stalls=duty.options.max_stalls, now=duty.clock.now_ms(), limit=PART
                ),
            )
            if answer.requeued:
                duty.telemetry.emit(JobsRecovered(self.queue, len(answer.requeued), len(answer.condemned)))
            if len(answer.requeued) < PART:
                return
            await asyncio.sleep(0)

    async def prune(self) -> int:
        """Delete everything that is past the bounds of the queue. Answers how many jobs."""
        duty, policy, total = self._duty, self._policy, 0
        while True:
            deleted = await duty.outage.endure(
                "prune",
                lambda: duty.store.prune(
                    self.queue,
                    completed=policy.completed,
                    failed=policy.failed,
                    events=policy.events,
                    now=duty.clock.now_ms(),
                    limit=PART,
                ),
            )
            total += deleted
            if deleted:
                duty.telemetry.emit(JobsPruned(self.queue, deleted))
            if deleted < PART:
                return total
            await asyncio.sleep(0)


def _jittered(every_s: float) -> float:
    """Somewhat sooner, so that workers that were started together do not all ask in the same instant."""
    return every_s * (1 - JITTER * random.random())
