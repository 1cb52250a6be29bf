"""`Enqueuer`: how calls become stored jobs.

Enqueues awaited at the same time are joined into one `add` per queue, as bulk enqueues are cut into chunks: in both,
everything is checked before it is joined, so that one bad call cannot fail its neighbours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from toril.engine.ports.jobs import Added
from toril.engine.protocol import Engine
from toril.errors import ConfigError, EngineError, EngineUnavailable, PayloadTooLarge
from toril.jobs import options as job_options
from toril.jobs.flow import FlowNode
from toril.jobs.model import NewJob
from toril.jobs.unique import with_key
from toril.kernel.backoff import wait_s
from toril.kernel.blocking import BlockingLoop
from toril.kernel.ids import JobIds, token_hex
from toril.tasks.call import Call
from toril.tasks.handle import Desk, JobHandle
from toril.tasks.middleware import EnqueueMiddleware, EnqueueNext, around_enqueue
from toril.tasks.transaction import TransactionWriter

R = TypeVar("R")

MOST_JOBS = 500
MOST_BYTES = 1024 * 1024
_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 1.0


class Limits(NamedTuple):
    """`payload` is the most bytes of a job's arguments, `deadline_s` how long a lost answer is asked for again."""

    payload: int
    deadline_s: float


class Enqueuer:
    """Checks calls, turns them into jobs and stores them, together where that is possible."""

    def __init__(self, open_store: Callable[[], Awaitable[Engine]], ids: JobIds, limits: Limits, desk: Desk) -> None:
        self._open = open_store
        self._ids = ids
        self._limits = limits
        self._desk = desk
        self._joined: dict[tuple[asyncio.AbstractEventLoop, str], _Batch] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._middleware: tuple[EnqueueMiddleware, ...] = ()
        self._add: EnqueueNext = self._store
        self.outbox: TransactionWriter | None = None
        """Where jobs are put with a transaction."""

    def use(self, middleware: EnqueueMiddleware) -> None:
        """Put middleware around storing, inside of what is there already."""
        self._middleware = (*self._middleware, middleware)
        self._add = around_enqueue(self._middleware, self._store)

    def now_ms(self) -> int:
        """Wall time in milliseconds."""
        return self._desk.clock.now_ms()

    @property
    def blocking(self) -> BlockingLoop:
        """What runs coroutines for synchronous code."""
        return self._desk.blocking

    def prepare(self, call: Call[Any]) -> NewJob:
        """A call as a job, checked. Raises PayloadTooLarge."""
        return self._job(call, self.now_ms())

    def handle(self, call: Call[R], id: str, created: bool) -> JobHandle[R]:
        """The handle of a call that was stored."""
        return JobHandle(id, call.plan.queue, call.plan.signature, self._desk, created)

    async def enqueue_flow(self, nodes: Sequence[FlowNode]) -> Added:
        """Store a tree of jobs in one step. Middleware sees its jobs one by one."""
        if self._middleware:
            nodes = [node._replace(job=await self._through_middleware(node.queue, node.job)) for node in nodes]

        async def add(engine: Engine, batch: str, now: int) -> Added:
            return await engine.flows.add(nodes, batch=batch, now=now)

        return await self._answered(add, [node.job for node in nodes])

    async def _through_middleware(self, queue: str, job: NewJob) -> NewJob:
        """A job that is not added by `JobStore.add`, as middleware wants it. Raises ConfigError when it keeps it."""
        if not self._middleware:
            return job
        kept: list[NewJob] = []

        async def keep(queue: str, jobs: Sequence[NewJob]) -> Added:
            kept.extend(jobs)
            return Added(tuple(job.id for job in jobs), (True,) * len(jobs))

        await around_enqueue(self._middleware, keep)(queue, [job])
        if len(kept) != 1:
            raise ConfigError(
                f"Enqueue middleware: expected job {job.id} to be passed on, found {len(kept)} jobs: in a flow or an "
                "outbox each job stands alone."
            )
        return kept[0]

    async def enqueue(self, call: Call[R]) -> JobHandle[R]:
        """Store one call, together with those that others enqueue in the same turn of the loop."""
        job = self._job(call, self.now_ms())
        queue = call.plan.queue
        loop = asyncio.get_running_loop()
        batch = self._joined.get((loop, queue))
        if batch is None:
            batch = self._joined[loop, queue] = _Batch([], [])
            loop.call_soon(self._send, loop, queue)
        stored: asyncio.Future[_Stored] = loop.create_future()
        batch.jobs.append(job)
        batch.stored.append(stored)
        stored_as, created = await stored
        return JobHandle(stored_as, queue, call.plan.signature, self._desk, created)

    async def enqueue_in(self, transaction: object, call: Call[R]) -> JobHandle[R]:
        """Store one call with a transaction of the application's database. See `Task.enqueue_in`."""
        queue, now = call.plan.queue, self.now_ms()
        job = await self._through_middleware(queue, self._job(call, now))
        await self._outbox().put(transaction, queue, job, now)
        return JobHandle(job.id, queue, call.plan.signature, self._desk, awaited=True)

    def enqueue_in_sync(self, transaction: object, call: Call[R]) -> JobHandle[R]:
        """The same in synchronous code."""
        queue, now = call.plan.queue, self.now_ms()
        job = self._job(call, now)
        if self._middleware:
            job = self._desk.blocking.run(lambda: self._through_middleware(queue, job))
        self._outbox().put_sync(transaction, queue, job, now)
        return JobHandle(job.id, queue, call.plan.signature, self._desk, awaited=True)

    def _outbox(self) -> TransactionWriter:
        if self.outbox is None:
            raise ConfigError("enqueue_in: expected the task to be one of a Toril, found no outbox.")
        return self.outbox

    def enqueue_sync(self, call: Call[R]) -> JobHandle[R]:
        """`enqueue`, blocking."""
        return self._desk.blocking.run(lambda: self.enqueue(call))

    async def enqueue_many(self, calls: Iterable[Call[R]]) -> list[JobHandle[R]]:
        """Store many calls, in chunks that are each stored whole or not at all. See `Toril.enqueue_many`."""
        handles: list[JobHandle[R]] = []
        chunks: list[_Chunk] = []
        filling: dict[str, _Chunk] = {}
        desk, now = self._desk, self.now_ms()
        for position, call in enumerate(calls):
            plan = call.plan
            job = self._job(call, now)
            handles.append(JobHandle(job.id, plan.queue, plan.signature, desk))
            size = _size(job)
            chunk = filling.get(plan.queue)
            if chunk is None or len(chunk.jobs) >= MOST_JOBS or chunk.size + size > MOST_BYTES:
                chunk = filling[plan.queue] = _Chunk(plan.queue)
                chunks.append(chunk)
            chunk.jobs.append(job)
            chunk.positions.append(position)
            chunk.size += size
            if not position % MOST_JOBS:
                # Others in this loop get their turn, however many calls there are.
                await asyncio.sleep(0)
        await self._send_chunks(chunks, handles)
        return handles

    def enqueue_many_sync(self, calls: Iterable[Call[R]]) -> list[JobHandle[R]]:
        """`enqueue_many`, blocking."""
        return self._desk.blocking.run(lambda: self.enqueue_many(calls))

    async def _send_chunks(self, chunks: Sequence[_Chunk], handles: Sequence[JobHandle[Any]]) -> None:
        stored = 0
        for chunk in chunks:
            try:
                added = await self._add(chunk.queue, chunk.jobs)
            except Exception as error:
                error.add_note(f"Of {len(handles)} jobs, the first {stored} in the order of storing were stored.")
                raise
            stored += len(chunk.jobs)
            for position, stored_as, created in zip(chunk.positions, added.ids, added.created, strict=True):
                if not created:
                    handles[position].id = stored_as
                    handles[position].created = False

    def _job(self, call: Call[Any], now: int) -> NewJob:
        plan, data = call.plan, call.data
        limit = self._limits.payload
        # No character takes more than four bytes, so that nearly every payload need not be counted.
        if len(data) * 4 > limit and (size := len(data.encode("utf-8"))) > limit:
            raise PayloadTooLarge(
                f"The arguments of task {plan.name!r} take {size:,} bytes as JSON, the limit is {limit:,}. "
                "Store the data elsewhere and pass its address, or raise TORIL_JOBS_PAYLOAD_LIMIT.",
                size=size,
                limit=limit,
            )
        job_id = plan.id or self._ids.new()
        delay, opts = plan.delay_ms, plan.stored_options
        if plan.timed:
            delay = plan.options.delay_ms(now)
            opts = job_options.encode(plan.options, delay_ms=delay)
        if plan.unique is None:
            return NewJob(job_id, plan.name, data, opts, now, delay, plan.priority, plan.lifo)
        key = plan.unique.key_of(data)
        return NewJob(job_id, plan.name, data, with_key(opts, key), now, delay, plan.priority, plan.lifo, key)

    def _send(self, loop: asyncio.AbstractEventLoop, queue: str) -> None:
        batch = self._joined.pop((loop, queue))
        task = loop.create_task(self._send_batch(queue, batch))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send_batch(self, queue: str, batch: _Batch) -> None:
        # Whoever was cancelled before anything was sent does not want the job any more.
        wanted = [pair for pair in zip(batch.jobs, batch.stored, strict=True) if not pair[1].done()]
        part: list[tuple[NewJob, asyncio.Future[_Stored]]] = []
        size = 0
        for pair in wanted:
            length = _size(pair[0])
            if part and (len(part) >= MOST_JOBS or size + length > MOST_BYTES):
                await self._send_part(queue, part)
                part, size = [], 0
            part.append(pair)
            size += length
        if part:
            await self._send_part(queue, part)

    async def _send_part(self, queue: str, part: Sequence[tuple[NewJob, asyncio.Future[_Stored]]]) -> None:
        try:
            added = await self._add(queue, [job for job, _ in part])
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to those who wait
            if len(part) > 1 and not isinstance(error, EngineError):
                # Middleware refused the batch because of one job: the others must not suffer for it.
                for pair in part:
                    await self._send_part(queue, [pair])
                return
            for job, stored in part:
                if not stored.done():
                    stored.set_exception(_for_job(error, job.id))
            return
        except BaseException:
            for _, stored in part:
                stored.cancel()
            raise
        for (_, stored), job_id, created in zip(part, added.ids, added.created, strict=True):
            if not stored.done():
                stored.set_result(_Stored(job_id, created))

    async def _store(self, queue: str, jobs: Sequence[NewJob]) -> Added:
        async def add(engine: Engine, batch: str, now: int) -> Added:
            return await engine.jobs.add(queue, jobs, batch=batch, now=now)

        return await self._answered(add, jobs)

    async def _answered(self, add: Callable[[Engine, str, int], Awaitable[Added]], jobs: Sequence[NewJob]) -> Added:
        """Add jobs. When an answer is lost, the same batch is sent again until the deadline: it is stored once."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._limits.deadline_s
        batch, now = token_hex(), self.now_ms()
        lost = 0
        while True:
            engine = await self._open()
            try:
                return await add(engine, batch, now)
            except EngineUnavailable as error:
                if not lost and not error.ambiguous:
                    raise
                lost += 1
                wait = wait_s(lost, base_s=_FIRST_WAIT_S, cap_s=_LONGEST_WAIT_S, jitter=0.5)
                if loop.time() + wait > until:
                    raise EngineUnavailable(
                        f"The answer of the store was lost and could not be asked for again within "
                        f"{self._limits.deadline_s:g} s: the {len(jobs)} jobs may or may not be stored ({error}).",
                        ambiguous=True,
                        id=jobs[0].id if len(jobs) == 1 else None,
                    ) from error
            await asyncio.sleep(wait)


class _Stored(NamedTuple):
    """What became of one job: under which id it is stored, and whether it was made."""

    id: str
    created: bool


class _Batch(NamedTuple):
    """Jobs that are enqueued one by one in the same turn of a loop, and who waits for each."""

    jobs: list[NewJob]
    stored: list[asyncio.Future[_Stored]]


class _Chunk:
    """Jobs of a bulk enqueue that are stored together, and their positions in it."""

    __slots__ = ("jobs", "positions", "queue", "size")

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.jobs: list[NewJob] = []
        self.positions: list[int] = []
        self.size = 0


def _size(job: NewJob) -> int:
    """The bytes of what is stored of a job, but for a few."""
    data = job.data
    return len(job.opts) + (len(data) if data.isascii() else len(data.encode("utf-8")))


def _for_job(error: Exception, job_id: str) -> Exception:
    """An error of a whole batch, as the one who waits for one of its jobs should see it."""
    if isinstance(error, EngineUnavailable) and error.ambiguous:
        own = EngineUnavailable(str(error), ambiguous=True, id=job_id)
        own.__cause__ = error
        return own
    return error
