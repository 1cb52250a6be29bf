"""`JobHandle`: one stored job, seen from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeVar, cast

from toril.engine.ports.bus import Event
from toril.engine.ports.inspect import LogPage
from toril.engine.ports.jobs import CancelAnswer
from toril.engine.protocol import Engine
from toril.errors import EngineUnavailable, JobCancelled, JobFailed, JobNotFound, ResultExpired, ResultTimeout
from toril.jobs.model import CancelRequest, Job
from toril.jobs.states import State
from toril.kernel import codec
from toril.kernel.blocking import BlockingLoop
from toril.kernel.clock import Clock
from toril.kernel.durations import Duration, human, seconds
from toril.tasks.signature import Signature
from toril.tasks.waiting import WaitingRoom
from toril.tasks.watch import Subscription, Watcher, place

R_co = TypeVar("R_co", covariant=True)

# How often a waiting caller looks at its job although no event came: an event can be pruned before it is read.
_LOOK_AGAIN_S = 5.0
_FIRST_LOOK_S = 0.02
_LONGEST_LOOK_S = 0.5
_ENDS = frozenset({"completed", "failed", "removed"})


class Snapshot(NamedTuple):
    """The first thing that `events()` gives: the job as it is. `id` is the event after which the rest follows."""

    id: str
    job: Job
    at: int
    kind: str = "snapshot"


class Resync(NamedTuple):
    """Events are missing before this one; the job as it is now takes their place."""

    id: str
    job: Job
    at: int
    kind: str = "resync"


JobEvent = Snapshot | Resync | Event


class Desk(NamedTuple):
    """What a handle works with; one for all handles of a `Toril`, and one for those of jobs that are elsewhere because
    the store was away when they were added. `elsewhere` knows them; `spool` those that still wait for the store.
    """

    open: Callable[[], Awaitable[Engine]]
    watcher: Watcher
    blocking: BlockingLoop
    clock: Clock
    signature_of: Callable[[str], Signature | None]
    elsewhere: Callable[[str], Desk | None] = lambda _: None
    spool: WaitingRoom | None = None


class JobHandle(Generic[R_co]):
    """One stored job. `queue` is None while a handle made by `toril.job(id)` has not looked for its job yet.

    `created` is False when enqueueing made no job, because one with its id or its unique key was there: the handle is
    then that job's.
    """

    __slots__ = ("_awaited", "_home", "_signature", "created", "id", "queue")

    id: str
    queue: str | None
    created: bool

    def __init__(
        self,
        id: str,
        queue: str | None,
        signature: Signature | None,
        desk: Desk,
        created: bool = True,
        *,
        awaited: bool = False,
    ) -> None:
        self.id = id
        self.queue = queue
        self.created = created
        self._signature = signature
        self._home = desk
        # It comes to the store when somebody's transaction has been committed.
        self._awaited = awaited

    @property
    def _desk(self) -> Desk:
        return self._home.elsewhere(self.id) or self._home

    def __repr__(self) -> str:
        return f"<JobHandle {self.id} in queue {self.queue or 'unknown'}>"

    async def info(self) -> Job | None:
        """The job as it is now, or None when it is not stored (any more). `spooled` says that it is not in the store
        yet, but waits in a local file because the store is away. Raises EngineUnavailable.
        """
        if self._desk.spool is not None:
            found = await self._desk.spool.find(self.id)
            if isinstance(found, str):
                self.id, self.created = found, False
            elif found is not None:
                self.queue = found.queue
                return found
        engine = await self._desk.open()
        job = await engine.inspect.get(self.id, self.queue)
        if job is not None:
            self.queue = job.queue
        return job

    def info_sync(self) -> Job | None:
        """`info` for synchronous code; blocks."""
        return self._desk.blocking.run(self.info)

    async def result(self, timeout: Duration | None = None) -> R_co:
        """Wait until the job has finished, and return its result. `timeout` is a duration; None waits for ever. A job
        that waits for a store that is away is waited for too.

        Raises JobFailed, JobCancelled, ResultTimeout, ResultExpired (the job was pruned or removed), JobNotFound,
        InvalidResult (the stored result is not what the task returns) and EngineUnavailable, when the store is away at
        the begin; one that is away later is waited for.
        """
        limit = None if timeout is None else seconds(timeout, "timeout")
        job = None if self._awaited else await self._job()
        if job is None or not _settled(job):
            try:
                async with asyncio.timeout(limit) as waiting:
                    job = await self._in_store(job or await self._arrived())
                    if not _settled(job):
                        job = await self._finished(job.queue)
            except TimeoutError:
                if limit is None or not waiting.expired():
                    raise
                raise ResultTimeout(
                    f"Job {self.id} did not finish within {human(limit)}; it goes on: result() may be called again.",
                    job_id=self.id,
                ) from None
        return self._result_of(job)

    def result_sync(self, timeout: Duration | None = None) -> R_co:
        """`result` for synchronous code; blocks."""
        return self._desk.blocking.run(lambda: self.result(timeout))

    async def logs(self, *, start: int = 0, limit: int = 1000) -> LogPage:
        """Lines of the job's log from the `start`-th on, oldest first. Raises JobNotFound, EngineUnavailable."""
        queue = self.queue or (await self._job()).queue
        engine = await self._desk.open()
        return await engine.inspect.logs(queue, self.id, start=start, limit=limit)

    async def cancel(self, reason: str = "", by: str = "") -> bool:
        """Cancel the job. True when it will not run, or its worker has been told to stop it; False when it has
        finished already, or a worker of BullMQ that is not Toril's runs it: nothing was changed then.

        `reason` and `by` (who) are shown with the job. Raises JobNotFound, EngineUnavailable.
        """
        request = CancelRequest(by, reason, self._desk.clock.now_ms())
        if self._desk.spool is not None and await self._desk.spool.cancel(self.id, request):
            return True
        queue = self.queue or (await self._job()).queue
        engine = await self._desk.open()
        answer = await engine.jobs.cancel(queue, self.id, by=by, reason=reason, now=request.at)
        if answer is CancelAnswer.MISSING:
            raise self._missing()
        return answer not in {CancelAnswer.FINISHED, CancelAnswer.FOREIGN}

    def cancel_sync(self, reason: str = "", by: str = "") -> bool:
        """`cancel` for synchronous code; blocks."""
        return self._desk.blocking.run(lambda: self.cancel(reason, by))

    async def events(self, after: str | None = None) -> AsyncGenerator[JobEvent, None]:
        """What happens to the job, until it has finished.

        Begins with a `Snapshot`, then events come live. With `after`, the id of an event seen earlier, what happened
        since then is given again instead of the snapshot. Where events are missing, because they were pruned or the
        caller was too slow, a `Resync` with the job as it is now takes their place. Raises JobNotFound,
        ResultExpired, EngineUnavailable, and ConfigError for an `after` that is no event id.
        """
        if self._awaited:
            await self._arrived()
        ended = await self._ended_outside()
        if ended is not None:
            yield Snapshot("0", ended, self._desk.clock.now_ms())
            return
        queue = self.queue or (await self._job()).queue
        async with self._desk.watcher.subscribe(queue, self.id) as subscription:
            job = await self._job()
            last = subscription.position
            if after is None:
                yield Snapshot(last, job, self._desk.clock.now_ms())
            else:
                async for event in self._replay(queue, after, upto=last):
                    yield event
                last = max(after, last, key=place)
            if job.state.finished:
                return
            async for event in self._live(subscription, last):
                yield event
                if event.kind in _ENDS or (isinstance(event, Resync) and event.job.state.finished):
                    return

    async def _replay(self, queue: str, after: str, upto: str) -> AsyncIterator[JobEvent]:
        engine = await self._desk.open()
        end = place(upto)
        while True:
            page = await engine.bus.read(queue, after=after)
            if page.gap:
                yield Resync(after, await self._job(), self._desk.clock.now_ms())
            for event in page.events:
                if place(event.id) > end:
                    return
                if event.job_id == self.id:
                    yield event
            if not page.events:
                return
            after = page.events[-1].id

    async def _live(self, subscription: Subscription, last: str) -> AsyncIterator[JobEvent]:
        while True:
            woken = await subscription.wait(_LOOK_AGAIN_S)
            events = subscription.take()
            if subscription.gap or not woken:
                was_gap, subscription.gap = subscription.gap, False
                job = await self._job()
                if was_gap or job.state.finished:
                    yield Resync(last, job, self._desk.clock.now_ms())
            for event in events:
                if place(event.id) > place(last):
                    last = event.id
                    yield event

    async def _arrived(self) -> Job:
        """The job, once it has come out of an outbox."""
        wait = _FIRST_LOOK_S
        while (job := await self.info()) is None:
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_LOOK_S)
        self._awaited = False
        return job

    async def _in_store(self, job: Job) -> Job:
        """The job, once it is in the store, or was cancelled before it came there."""
        while job.spooled and self._desk.spool is not None:
            await self._desk.spool.left(self.id)
            job = await self._job()
        return job

    async def _ended_outside(self) -> Job | None:
        """Wait until the job is in the store. The job, if it was cancelled before it came there."""
        spool = self._desk.spool
        if spool is None or not isinstance(found := await spool.find(self.id), Job):
            return None
        await self._in_store(found)
        found = await spool.find(self.id)
        return found if isinstance(found, Job) else None

    async def _finished(self, queue: str) -> Job:
        async with self._desk.watcher.subscribe(queue, self.id) as subscription:
            while True:
                # Its events are waited for through an outage, so it is not given up for one either.
                with suppress(EngineUnavailable):
                    job = await self._job(known=True)
                    if _settled(job):
                        return job
                await self._something_final(subscription)

    @staticmethod
    async def _something_final(subscription: Subscription) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + _LOOK_AGAIN_S
        while await subscription.wait(until - loop.time()):
            events = subscription.take()
            if subscription.gap or any(event.kind in _ENDS for event in events):
                subscription.gap = False
                return

    async def _job(self, *, known: bool = False) -> Job:
        job = await self.info()
        if job is None:
            raise self._missing(known=known)
        return job

    def _missing(self, *, known: bool = False) -> JobNotFound | ResultExpired:
        if known or self._signature is not None:
            return ResultExpired(
                f"Job {self.id} is not stored any more: it was removed, or pruned by retention.", job_id=self.id
            )
        where = f"in queue {self.queue!r}" if self.queue else "in any queue"
        return JobNotFound(f"No job {self.id!r} is stored {where}.", job_id=self.id)

    def _result_of(self, job: Job) -> R_co:
        if job.cancelled and job.cancel is not None:
            said = f": {job.cancel.reason}" if job.cancel.reason else ""
            raise JobCancelled(
                f"Job {self.id} ({job.name}) was cancelled{said}.",
                job_id=self.id,
                reason=job.cancel.reason,
                by=job.cancel.by,
            )
        if job.state is State.FAILED:
            reason = job.failed_reason or "no reason given"
            stack = job.stacktrace[-1] if job.stacktrace else ""
            raise JobFailed(f"Job {self.id} ({job.name}) failed: {reason}", job_id=self.id, reason=reason, stack=stack)
        signature = self._signature or self._desk.signature_of(job.name)
        text = "null" if job.result is None else job.result
        return cast(R_co, codec.decode(text) if signature is None else signature.load_result(text))


def _settled(job: Job) -> bool:
    return job.state.finished or job.cancelled


def handle_of(id: str, queue: str | None, desk: Desk) -> JobHandle[Any]:
    """A handle of a job known only by its id."""
    return JobHandle(id, queue, None, desk)
