"""An application in memory, a clock that is moved by hand, and everything that telemetry tells."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from toril.app import Toril
from toril.engine.ports.jobs import Added
from toril.engine.protocol import Engine
from toril.jobs.model import Job, NewJob
from toril.jobs.options import JobOptions, encode
from toril.jobs.states import State
from toril.kernel import telemetry
from toril.settings import Settings
from toril.testing.clock import ManualClock
from toril.worker.options import QueuePolicy, WorkerOptions
from toril.worker.worker import Worker

E = TypeVar("E")

QUICK: dict[str, Any] = {"poll_s": 0.02, "grace_s": 0.05, "hand_in_timeout_s": 1.0}
"""What waits in real time waits briefly; what is in wall time follows the clock."""

EVENTS = [
    kind
    for kind in vars(telemetry).values()
    if isinstance(kind, type) and issubclass(kind, tuple) and kind is not telemetry.PortCalled
]


class Workshop:
    """One per test."""

    def __init__(self, url: str = "sqlite://") -> None:
        self.clock = ManualClock()
        self.toril = Toril(url, clock=self.clock, settings=Settings())
        self.told: list[Any] = []
        self._told_more = asyncio.Event()
        self.toril.telemetry.subscribe(self._hear, *EVENTS)
        self._loop = asyncio.get_running_loop()

    @property
    def engine(self) -> Engine:
        return self.toril.engine

    def worker(
        self,
        *queues: str,
        engine: Engine | None = None,
        policies: dict[str, QueuePolicy] | None = None,
        **options: Any,
    ) -> Worker:
        return Worker(
            engine=engine or self.engine,
            registry=self.toril.registry,
            queues=queues or ("default",),
            options=WorkerOptions(**{**QUICK, **options}),
            clock=self.clock,
            telemetry=self.toril.telemetry,
            policies=policies or {},
            name="test",
        )

    async def add(self, *jobs: NewJob, queue: str = "default") -> Added:
        """Store jobs as another producer would."""
        return await self.engine.jobs.add(queue, jobs, batch=f"b-{jobs[0].id}", now=self.clock.now_ms())

    def job(self, id: str, name: str, data: str = "{}", options: JobOptions | None = None) -> NewJob:
        return NewJob(id, name, data, encode(options or JobOptions()), self.clock.now_ms())

    async def get(self, id: str, queue: str = "default") -> Job:
        job = await self.engine.inspect.get(id, queue)
        assert job is not None
        return job

    async def in_state(self, id: str, *states: State, queue: str = "default", starts: int = 0) -> Job:
        """The job, once it is in one of `states` and was started `starts` times."""
        while True:
            after = await self.engine.bus.tail(queue)
            job = await self.get(id, queue)
            if job.state in states and job.starts >= starts:
                return job
            await self.engine.bus.wait(queue, after=after, timeout=1.0)

    async def finished(self, id: str, queue: str = "default") -> Job:
        return await self.in_state(id, State.COMPLETED, State.FAILED, queue=queue)

    async def heard(self, kind: type[E], number: int = 1, where: Callable[[E], bool] = lambda _: True) -> list[E]:
        """The events of a class, once there are `number` of them."""
        while True:
            self._told_more.clear()
            found = [event for event in self.told if isinstance(event, kind) and where(event)]
            if len(found) >= number:
                return found
            await self._told_more.wait()

    def _hear(self, event: Any) -> None:
        self.told.append(event)
        self._loop.call_soon_threadsafe(self._told_more.set)
