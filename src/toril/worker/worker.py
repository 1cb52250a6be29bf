"""`Worker`: everything that running jobs needs, put together."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count

from toril.engine.protocol import Engine
from toril.errors import ConfigError, EngineError
from toril.jobs.model import TakenJob
from toril.kernel.clock import Clock
from toril.kernel.ids import token_hex
from toril.kernel.service import Service
from toril.kernel.telemetry import Telemetry, WorkerStarted, WorkerStopped
from toril.tasks.registry import Registry
from toril.worker.executor import Executor
from toril.worker.heartbeat import Heartbeat
from toril.worker.kin import Kin
from toril.worker.maintenance import Duty, Maintenance
from toril.worker.options import QueuePolicy, WorkerOptions
from toril.worker.outage import Outage
from toril.worker.planning import RunPlanner
from toril.worker.pools import ThreadPool
from toril.worker.processes import ProcessPool
from toril.worker.pump import Bench, Pump
from toril.worker.reports import Reports
from toril.worker.run import Run, Runs, Stop
from toril.worker.shutdown import StopSignals
from toril.worker.slots import Slots


class Worker(Service):
    """Runs the jobs of some queues until it is stopped.

    `engine` must be started, and stays open when the worker stops. `queues` are served fairly from shared slots.
    `policies` say what is kept of a queue, `QueuePolicy()` where nothing is said. `name` is the begin of the worker's
    id, the host by default. `planner` keeps schedules going; without one their runs are run, and no more is planned.
    Raises ConfigError when no queue is given.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        registry: Registry,
        queues: Sequence[str],
        options: WorkerOptions | None = None,
        clock: Clock,
        telemetry: Telemetry | None = None,
        policies: Mapping[str, QueuePolicy] | None = None,
        name: str | None = None,
        planner: RunPlanner | None = None,
    ) -> None:
        self.id = f"{name or socket.gethostname()}-{os.getpid()}-{token_hex(4)}"
        super().__init__(self.id, telemetry or Telemetry())
        self.queues = tuple(dict.fromkeys(queues))
        if not self.queues:
            raise ConfigError("A worker needs a queue: expected at least one name, got none. Is a task registered?")
        self.options = options or WorkerOptions()
        self._engine = engine
        self._registry = registry
        self._clock = clock
        self._planner = planner
        given = policies or {}
        self._policies = {queue: given.get(queue, QueuePolicy()) for queue in self.queues}
        # Counts on when the worker is started again: a number that was used would be answered as the first time.
        self._seqs = count(1)
        self._pumps: list[Pump] = []
        self._maintenance: dict[str, Maintenance] = {}
        self._runs = Runs(self.id, self.telemetry, grace_s=self.options.grace_s)
        self._closing = False
        self._hurry = asyncio.Event()
        self._stop_asked = asyncio.Event()
        self._deadline_s = self.options.shutdown_timeout_s

    def running(self) -> list[TakenJob]:
        """The jobs that are being run."""
        return [run.job for run in self._runs.unsettled()]

    @property
    def is_stopping(self) -> bool:
        """True from the wish to stop on until the worker has stopped: it takes no jobs any more."""
        return self._closing

    def ask_to_stop(self, *, now: bool = False) -> None:
        """Make `run_until_stopped` stop the worker; with `now` running jobs are cancelled and handed back at once."""
        self._stop_asked.set()
        self._close()
        if now:
            self._hurry.set()

    async def run_until_stopped(self, *, signals: bool = True) -> None:
        """Start, work until SIGTERM or SIGINT (a second one is for at once), `ask_to_stop` or `stop`, and stop.

        Raises the error of a loop that cannot be kept running, such as a store that has become read-only.
        """
        with StopSignals(self.ask_to_stop, enabled=signals):
            await self.start()
            finished = asyncio.ensure_future(self.finished())
            asked = asyncio.ensure_future(self._stop_asked.wait())
            try:
                await asyncio.wait([finished, asked], return_when=asyncio.FIRST_COMPLETED)
            finally:
                asked.cancel()
                await self.stop()
            await finished

    async def stop(self, timeout: float | None = None) -> None:
        """Stop: take no more jobs at once, let running ones end within `timeout` seconds (`shutdown_timeout_s` by
        default), then cancel them and hand them back; their attempt is not counted.
        """
        self._deadline_s = self.options.shutdown_timeout_s if timeout is None else timeout
        if self._pumps:
            self._close()
        await super().stop()

    async def on_start(self) -> None:
        options, telemetry, store = self.options, self.telemetry, self._engine.jobs
        self._deadline_s = options.shutdown_timeout_s
        self._runs = runs = Runs(self.id, telemetry, grace_s=options.grace_s)
        outage = Outage(self.id, telemetry)
        self._threads = ThreadPool(self.id, options.concurrency)
        self._processes = ProcessPool(
            self.id, options.process_count, runs=runs, telemetry=telemetry, grace_s=options.grace_s
        )
        executor = Executor(
            worker=self.id,
            registry=self._registry,
            options=options,
            clock=self._clock,
            telemetry=telemetry,
            runs=runs,
            threads=self._threads,
            processes=self._processes,
            children=Kin(self._engine.flows),
        )
        bench = Bench(
            worker=self.id,
            store=store,
            options=options,
            clock=self._clock,
            telemetry=telemetry,
            slots=Slots(options.concurrency),
            runs=runs,
            executor=executor,
            outage=outage,
            seqs=self._seqs,
            on_finished=lambda queue: self._maintenance[queue].finished(),
            planner=self._planner,
        )
        self._heartbeat = Heartbeat(
            worker=self.id,
            queues=self.queues,
            engine=self._engine,
            runs=runs,
            options=options,
            clock=self._clock,
            telemetry=telemetry,
            is_stopping=lambda: self._closing,
        )
        self._pumps = []
        for queue in self.queues:
            reports = Reports(queue, store=store, clock=self._clock, telemetry=telemetry, outage=outage)
            self._pumps.append(Pump(queue, reports, bench))
        self._heartbeat.start()
        self._exchanges = [
            self.begin_loop(f"exchange {pump.queue}", self._serving(pump, outage)) for pump in self._pumps
        ]
        for pump in self._pumps:
            self.supervise(f"listen {pump.queue}", pump.listen)
            self.supervise(f"reports {pump.queue}", pump.reports.run)
        self.supervise("attend", lambda: outage.endure("attend", lambda: store.attend(self.id, self.queues)))
        self._maintain(outage)
        telemetry.emit(WorkerStarted(self.id, self.queues, options.concurrency))

    def _serving(self, pump: Pump, outage: Outage) -> Callable[[], Awaitable[None]]:
        """The exchange loop of a queue, which begins when the store knows what was declared of it."""
        limits, told = self._policies[pump.queue].limits, self._policies[pump.queue].told
        if limits is None and told is None:
            return pump.run
        inspect, queue, now = self._engine.inspect, pump.queue, self._clock.now_ms

        async def serve() -> None:
            if limits is not None:
                await outage.endure("limits", lambda: inspect.set_limits(queue, limits, now=now(), declared=True))
            if told is not None:
                await outage.endure("events", lambda: inspect.set_told(queue, told, now=now(), declared=True))
            await pump.run()

        return serve

    async def on_stop(self) -> None:
        """Quiet, then wait, then cancel, then give up waiting; the heartbeat goes last, since it keeps the locks."""
        self._close()
        handed_over = asyncio.gather(*(one.hand_over() for one in self._maintenance.values()))
        exchanges = set(self._exchanges)
        patience_s = self._deadline_s
        if not self._runs.unsettled():
            # Nothing runs: all that can still be waited for is a store that is away.
            owes = any(pump.owes for pump in self._pumps)
            patience_s = min(patience_s, self.options.hand_in_timeout_s if owes else self.options.grace_s)
        # A loop that has failed for good has left its jobs running.
        await self._wait(exchanges, patience_s, hurry=True)
        if running := self._runs.unsettled():
            for run in running:
                self._runs.stop(run, Stop.SHUTDOWN)
            if not await self._wait(exchanges, self.options.grace_s + 0.1) or self._runs.unsettled():
                self._give_up(self._runs.abandon())
                await self._hand_in(exchanges)
        self._processes.close()
        self._threads.close()
        await self._heartbeat.stop()
        await handed_over
        with suppress(EngineError):
            await self._engine.jobs.leave(self.id)
        released = sum(pump.released for pump in self._pumps)
        # Cleared at the end and not at the begin: whoever asks before the start is over means this run.
        self._hurry.clear()
        self._stop_asked.clear()
        self._closing = False
        self._pumps = []
        self.telemetry.emit(WorkerStopped(self.id, released))

    def _close(self) -> None:
        """Take no more jobs, and let others see it."""
        told, self._closing = self._closing, True
        for pump in self._pumps:
            pump.close()
        if self._pumps and not told:
            self._heartbeat.beat_now()

    def _maintain(self, outage: Outage) -> None:
        duty = Duty(
            worker=self.id,
            store=self._engine.jobs,
            leases=self._engine.leases,
            options=self.options,
            clock=self._clock,
            telemetry=self.telemetry,
            outage=outage,
            planner=self._planner,
        )
        for pump in self._pumps:
            self.supervise(f"declare {pump.queue}", functools.partial(self._declare, pump.queue, outage))
            one = Maintenance(pump.queue, self._policies[pump.queue], duty, pump.notice)
            self._maintenance[pump.queue] = one
            self.supervise(f"maintain {pump.queue}", one.run)

    async def _declare(self, queue: str, outage: Outage) -> None:
        planner = self._planner
        if planner is not None:
            await outage.endure("declare", lambda: planner.declare([queue]))

    def _give_up(self, runs: list[Run]) -> None:
        for run in runs:
            run.stop = run.stop or Stop.SHUTDOWN
            run.owner.give_up(run)

    async def _wait(self, exchanges: set[asyncio.Task[None]], timeout: float, *, hurry: bool = False) -> bool:
        """Wait until the exchange loops have ended by themselves. False after `timeout`, or at a second signal."""
        hurried = asyncio.ensure_future(self._hurry.wait())
        everything = asyncio.ensure_future(asyncio.wait(exchanges))
        try:
            await asyncio.wait(
                [everything, hurried] if hurry else [everything],
                timeout=timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            return everything.done()
        finally:
            hurried.cancel()
            everything.cancel()

    async def _hand_in(self, exchanges: set[asyncio.Task[None]]) -> None:
        """Handlers that do not end keep their slots, so the loops never end by themselves: wait for the outcomes."""
        for pump in self._pumps:
            pump.leave()
        await self._wait(exchanges, self.options.hand_in_timeout_s)
