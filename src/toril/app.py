"""`Toril`: the one object of an application. Assembly only: no rule about jobs lives here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, TypeVar
from weakref import WeakSet

from toril.blocks import Blocks, Stores
from toril.engine.open import Opening, check_url, open_engine, redacted
from toril.engine.ports.inspect import QueueInfo
from toril.engine.ports.spool import SpoolStats
from toril.engine.protocol import Engine, Health
from toril.engine.sheltered import ShelteredEngine
from toril.errors import ConfigError
from toril.flows.flow import Flow
from toril.jobs.model import Counts
from toril.jobs.options import JobOptions, Keep, Retention
from toril.kernel.blocking import BlockingLoop
from toril.kernel.clock import Clock, SystemClock
from toril.kernel.durations import Duration
from toril.kernel.ids import JobIds
from toril.kernel.telemetry import JobLockLost, Telemetry
from toril.observability.logs import Logs
from toril.outbox.spooler import Spooler
from toril.refuges import Means, stand_in_of
from toril.scheduling.planner import SchedulePlanner
from toril.scheduling.schedules import Schedules
from toril.settings import Address, Settings, store_address, unknown_variables
from toril.tasks.call import Call
from toril.tasks.declared import DeclaredQueues
from toril.tasks.decorator import TaskDecorator
from toril.tasks.enqueue import Enqueuer, Limits
from toril.tasks.handle import Desk, JobHandle, handle_of
from toril.tasks.middleware import EnqueueMiddleware, RunMiddleware
from toril.tasks.queue import Queue
from toril.tasks.registry import Registry, check_name
from toril.tasks.signature import Signature
from toril.tasks.watch import Watcher
from toril.worker.hooks import LockLostCallback, call_back
from toril.worker.opening import OpeningWorker, options_of
from toril.worker.options import QueuePolicy, WorkerOptions
from toril.worker.presence import live_workers
from toril.worker.worker import Worker

R = TypeVar("R")

_log = logging.getLogger("toril")


class AppStats(NamedTuple):
    """An application at a glance. `mode` is the engine's name, `queues` holds declared queues too, `workers` what each
    live worker says of itself (id, host, pid, queues, concurrency, running, started, beat), `spool` how many jobs wait
    here for a store that was away (None with another policy).
    """

    mode: str
    location: str
    health: Health
    queues: tuple[QueueInfo, ...]
    workers: tuple[dict[str, Any], ...]
    spool: SpoolStats | None = None


class Toril(Blocks):
    """The backbone of an application: its tasks, and the store where their jobs are.

    `url` is where jobs are stored: `sqlite:///toril.db` (beside the working directory), `sqlite:////absolute/path.db`,
    `sqlite://` (memory), `redis://…` (Redis or Valkey); without it TORIL_URL decides, then REDIS_URL or REDIS_HOST,
    else `sqlite:///toril.db`. `imports` are modules that hold further tasks; workers import them. `settings` replace
    the environment. `outbox` is the database of `task.enqueue_in`, for workers: a URL or engine of SQLAlchemy, or a
    function that makes connections. Several may live in one process.

    The store is opened at the first use, or by `start`. Raises ConfigError for a URL or a setting that is wrong.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        imports: Sequence[str] = (),
        settings: Settings | None = None,
        clock: Clock | None = None,
        outbox: object | None = None,
    ) -> None:
        settings, telemetry = settings or Settings(), Telemetry()
        Logs().attach(telemetry)
        self.registry = Registry()
        self.imports = tuple(imports)
        self._address = store_address(url, settings)
        decided_by = self._address.decided_by
        check_url(self._address.url, None if decided_by.startswith("the argument") else decided_by)
        self._opening = Opening(self._engine_made)
        super().__init__(
            Stores(self._opening, self._address.url, settings, telemetry),
            self._opening.get,
            settings=settings,
            clock=clock or SystemClock(),
            telemetry=telemetry,
            blocking=BlockingLoop(),
            outbox=outbox,
        )
        self._refuge = stand_in_of(self._address.url, self.settings, self._means())
        self._desk = self._desk_at(self._opening)
        if self._refuge is not None:
            self._desk = self._refuge.furnished(self._desk)
        jobs = self.settings.jobs
        self._enqueuer = Enqueuer(
            self._opening.get, JobIds(self.clock), Limits(jobs.payload_limit, jobs.enqueue_timeout), self._desk
        )
        self._enqueuer.outbox = self.outbox
        defaults, named = JobOptions(attempts=jobs.attempts), self.breakers.named
        self.task = TaskDecorator(self.registry, self._enqueuer, named, default_queue=jobs.queue, defaults=defaults)
        self.schedules = Schedules(self._opening.get, self.registry, self.clock, JobIds(self.clock), self._desk)
        self._planner = SchedulePlanner(self._opening.get, self.registry, self.clock, self.telemetry)
        self._declared = DeclaredQueues()
        self._workers: WeakSet[OpeningWorker] = WeakSet()

    def __repr__(self) -> str:
        return f"<Toril at {redacted(self._address.url)}, {len(self.registry)} tasks>"

    @property
    def engine(self) -> Engine:
        """The store, started or not. Raises EngineClosed after `close`."""
        return self._opening.engine

    @property
    def address(self) -> Address:
        """Which store was chosen, what decided that, and a warning, if any. The URL may hold a password."""
        return self._address

    @property
    def is_stopping(self) -> bool:
        """True while a worker of this application in this process is stopping: `/health/ready` says no then."""
        return any(worker.is_stopping for worker in list(self._workers))

    @property
    def spool(self) -> Spooler | None:
        """Where jobs wait while the store is away; None with another policy, or another store than a Redis."""
        return self._refuge if isinstance(self._refuge, Spooler) else None

    async def start(self) -> None:
        """Open the store, unless it is open, and say in the log where it is. Raises EngineError."""
        self._opening.reopen()
        self._stores.reopen()
        if self._refuge is not None:
            self._refuge.reopen()
        if self._opening.started:
            return
        engine = await self._opening.get()
        if self._address.warning:
            _log.warning("%s", self._address.warning)
        for sentence in unknown_variables():
            _log.warning("%s", sentence)
        away = isinstance(engine, ShelteredEngine) and engine.is_away
        _log.info(
            "Toril is %s: mode %s, %s (decided by: %s); queues: %s; slots per worker process: %d.",
            "not connected yet" if away else "connected",
            engine.name,
            engine.location,
            self._address.decided_by,
            ", ".join(sorted(self.registry.queues())) or "none yet",
            self.settings.worker.concurrency,
        )

    async def close(self) -> None:
        """Stop this loop's workers of the application, and let go of the store. Closing twice is once; `start` opens
        again.
        """
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(worker.stop() for worker in list(self._workers) if worker.loop is loop))
        await self._close_stores()
        await asyncio.to_thread(self._blocking.close)

    def start_sync(self) -> None:
        """`start` for synchronous code."""
        self._blocking.run(self.start)

    def close_sync(self) -> None:
        """`close` for synchronous code."""
        self._blocking.run(self._close_stores)
        self._blocking.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """For web frameworks: `FastAPI(lifespan=toril.lifespan)`.

        Opens the store, warms up the cache and, unless TORIL_WORKER_LIFESPAN is false, runs a worker for all queues in
        this process.
        """
        async with self:
            self.discover()
            await self.cache.warm()
            if self.settings.worker.lifespan and len(self.registry):
                async with self.worker():
                    yield
            else:
                yield

    async def enqueue_many(self, calls: Iterable[Call[R]]) -> list[JobHandle[R]]:
        """Store many calls, made by `task.call(...)`, and answer their handles in the order given.

        Every call is checked before any is stored. Then they are stored in chunks of at most 500 jobs or 1 MiB, each
        whole or not at all; when the store fails in between, a note on the error says how many are stored. Raises
        PayloadTooLarge, EngineUnavailable, and what `task.call` raises.
        """
        return await self._enqueuer.enqueue_many(calls)

    def enqueue_many_sync(self, calls: Iterable[Call[R]]) -> list[JobHandle[R]]:
        """`enqueue_many` for synchronous code; blocks."""
        return self._enqueuer.enqueue_many_sync(calls)

    def flow(
        self,
        parent: Call[R],
        children: Sequence[Call[Any] | Flow[Any]],
        *,
        on_child_failure: Literal["fail", "continue", "ignore", "remove"] = "fail",
    ) -> Flow[R]:
        """A call that runs when all `children` have ended, which are calls or further flows; `enqueue` it.

        In its handler `await ctx.children()` has their results. When a child has failed for good, or was cancelled:
        `fail` fails the parent, `continue` runs it at once, `ignore` waits for the others, `remove` does so as if the
        child had never been one. Raises ConfigError.
        """
        return Flow(parent, children, on_child_failure, self._enqueuer)

    def job(self, id: str, queue: str | None = None) -> JobHandle[Any]:
        """A handle of a stored job; without `queue` all queues are searched. Asks nothing of the store yet."""
        return handle_of(id, queue, self._desk)

    def queue(
        self,
        name: str,
        *,
        retention: Retention | None = None,
        concurrency: int | None = None,
        rate: str | None = None,
        events: Literal["all", "finished", "off"] | None = None,
    ) -> Queue:
        """A queue, to look at and to operate.

        `retention` declares how long workers of this application keep Toril's own finished jobs of the queue; a kind
        (completed, failed) without bounds keeps the defaults. `concurrency` is how many of its jobs run at once and
        `rate` how many start in a time (`"3000/s"`, `"1000/15m"`), over all workers on all machines. `events` says what
        is written to the queue's log of events: all (the default), only how jobs end and what their handlers report
        (`finished`), or nothing (`off`). Workers write limits and `events` to the store when they start, if they are
        not what was declared the last time, so that what was set with `Queue.set_limits` stays. Raises ConfigError for
        a name that cannot be one, for bad values, and when two declarations differ.
        """
        check_name(name, "queue")
        self._declared.declare(name, retention=retention, concurrency=concurrency, rate=rate, events=events)
        return Queue(name, self._opening.get, self.clock)

    def add_middleware(self, *, enqueue: EnqueueMiddleware | None = None, run: RunMiddleware | None = None) -> None:
        """Put code of yours around storing jobs, or around running them, inside of what was added before."""
        if enqueue is not None:
            self._enqueuer.use(enqueue)
        if run is not None:
            self.registry.run_middleware = (*self.registry.run_middleware, run)

    def on_lock_lost(self, callback: LockLostCallback) -> LockLostCallback:
        """Call `callback`, also as a decorator, when a worker of this process loses its right to finish a job, since it
        gave no sign of life for too long: the handler is being cancelled, what it returns is not stored, and another
        worker may have begun. It is called on the worker's event loop; what it raises is logged.
        """
        call_back(self.telemetry, JobLockLost, callback)
        return callback

    def worker(
        self,
        queues: Sequence[str] | None = None,
        concurrency: int | None = None,
        *,
        shutdown_timeout: Duration | None = None,
        eco: bool | None = None,
        name: str | None = None,
    ) -> Worker:
        """A worker, to be used as `async with toril.worker(): …`; by default for the queues of all tasks, with the
        slots of TORIL_WORKER_CONCURRENCY and the patience of TORIL_WORKER_SHUTDOWN_TIMEOUT. `eco` is for a Redis whose
        commands are counted, TORIL_WORKER_ECO by default. `name` is the begin of its id. Raises ConfigError when there
        is no queue to serve.
        """
        self.discover()
        names = sorted(self.registry.queues()) if queues is None else [check_name(one, "queue") for one in queues]
        options = options_of(self.settings, concurrency, shutdown_timeout, eco)
        worker = self._worker_at(self._opening, names, options, name)
        self._workers.add(worker)
        return worker

    def run_worker(self, queues: Sequence[str] | None = None, concurrency: int | None = None) -> None:
        """Run a worker in this process until SIGTERM or Ctrl-C. Blocks."""
        asyncio.run(self._serve(queues, concurrency))

    def discover(self) -> None:
        """Import the modules named by `imports`, so that their tasks are known. Raises ConfigError."""
        for name in self.imports:
            try:
                import_module(name)
            except ImportError as error:
                raise ConfigError(f"Toril(imports=…) names {name!r}, which cannot be imported: {error}.") from error

    async def stats(self) -> AppStats:
        """Engine, queues and workers at a glance. Raises EngineUnavailable."""
        engine = await self._opening.get()
        known = {info.name: info for info in await engine.inspect.queues()}
        for name in self.registry.queues() - known.keys():
            known[name] = QueueInfo(name, await engine.inspect.is_paused(name), Counts())
        return AppStats(
            mode=engine.name,
            location=engine.location,
            health=await engine.health(),
            queues=tuple(known[name] for name in sorted(known)),
            workers=await live_workers(engine, self.clock.now_ms()),
            spool=None if self.spool is None else await self.spool.stats(),
        )

    def _engine_made(self) -> Engine:
        engine = open_engine(self._address.url, telemetry=self.telemetry, redis=self.settings.redis)
        # A store that is part of this process is never away.
        return engine if engine.name == "sqlite" else ShelteredEngine(engine, self._refuge)

    def _means(self) -> Means:
        def hire(opening: Opening, queue: str, slots: int, policy: str) -> Worker:
            return self._worker_at(opening, [queue], options_of(self.settings, slots, None), f"{policy}-{queue}")

        return Means(self._opening.get, self._desk_at, hire, self._blocking, self.clock, self.telemetry)

    def _desk_at(self, opening: Opening) -> Desk:
        return Desk(opening.get, Watcher(opening.get), self._blocking, self.clock, self._signature_of)

    def _worker_at(
        self,
        opening: Opening,
        queues: Sequence[str],
        options: WorkerOptions,
        name: str | None,
    ) -> OpeningWorker:
        refuge = self._refuge if opening is self._opening else None
        return OpeningWorker(
            opening,
            resume=None if refuge is None else refuge.resume,
            relay=self.outbox.relay if opening is self._opening else None,
            engine=opening.engine,
            registry=self.registry,
            queues=queues,
            options=options,
            clock=self.clock,
            telemetry=self.telemetry,
            policies={queue: self._policy(queue) for queue in queues},
            name=name,
            # Schedules live in the store itself, never in what stands in for it.
            planner=self._planner if opening is self._opening else None,
        )

    async def _close_stores(self) -> None:
        await self._close_blocks()
        if self._refuge is not None:
            await self._refuge.close()
        await self._stores.close()
        await self._opening.close()

    async def _serve(self, queues: Sequence[str] | None, concurrency: int | None) -> None:
        async with self:
            await self.worker(queues, concurrency).run_until_stopped()

    def _signature_of(self, name: str) -> Signature | None:
        task = self.registry.get(name)
        return None if task is None else task.signature

    def _policy(self, queue: str) -> QueuePolicy:
        jobs, declared = self.settings.jobs, self._declared.retentions.get(queue, Retention())
        return QueuePolicy(
            completed=declared.keep_completed() or Keep(jobs.keep_completed, jobs.keep_completed_max),
            failed=declared.keep_failed() or Keep(jobs.keep_failed, jobs.keep_failed_max),
            events=jobs.keep_events,
            limits=self._declared.limits.get(queue),
            told=self._declared.told.get(queue),
        )
