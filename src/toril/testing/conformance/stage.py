"""What a case stands on: an engine on an empty store, a clock moved by hand, and short words for what is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from itertools import count

import pytest
import pytest_asyncio

from toril.engine.ports.bus import Bus, Event
from toril.engine.ports.channels import ChannelStore
from toril.engine.ports.flows import FlowStore
from toril.engine.ports.inspect import JobInspector
from toril.engine.ports.jobs import Added, Code, Exchanged, Finish, JobStore, Lock
from toril.engine.ports.keyvalue import KeyValueStore
from toril.engine.ports.leases import LeaseStore
from toril.engine.ports.limits import LimitStore
from toril.engine.ports.schedules import ScheduleStore
from toril.engine.protocol import Engine
from toril.errors import EngineClosed
from toril.jobs.model import Counts, Job, NewJob, TakenJob
from toril.jobs.options import Keep
from toril.jobs.outcome import Done, Failed, Outcome
from toril.jobs.states import State
from toril.testing.clock import START_MS, ManualClock
from toril.testing.conformance.factory import EngineFactory

QUEUE = "line"
LOCK_MS = 15_000
OWN = '{"attempts":3,"toril":{"v":1}}'
FOREIGN = '{"attempts":3}'
MINUTE = 60_000
# Listing every job to prove the counts of a case is worth it only while that is quick.
MOST_TO_COUNT = 2_000
REACHABLE = (State.WAITING, State.PRIORITIZED, State.DELAYED, State.ACTIVE, State.COMPLETED, State.FAILED)
"""The states that a case can bring a job into."""


def job(
    id: str,
    *,
    name: str = "work",
    data: str = "{}",
    opts: str = OWN,
    timestamp: int = START_MS,
    delay_ms: int = 0,
    priority: int = 0,
    lifo: bool = False,
) -> NewJob:
    """A job to add."""
    return NewJob(id, name, data, opts, timestamp, delay_ms, priority, lifo)


def ids_of(jobs: Sequence[TakenJob] | Sequence[Job]) -> list[str]:
    """The ids of jobs, in order."""
    return [each.id for each in jobs]


class HandWorker:
    """A worker that does nothing by itself: it counts `seq`, makes tokens, and remembers what it took."""

    def __init__(self, stage: Stage, name: str, queue: str, engine: Engine | None) -> None:
        self.name = name
        self.queue = queue
        self.tokens: dict[str, str] = {}
        self._stage = stage
        self._engine = engine
        self._seq = 0
        self._last: tuple[str, tuple[Finish, ...], int, int] = ("", (), 0, LOCK_MS)

    async def exchange(self, *finished: Finish, want: int = 0, lock_ms: int = LOCK_MS) -> Exchanged:
        """The next exchange."""
        self._seq += 1
        self._last = (f"{self.name}:{self._seq}", finished, want, lock_ms)
        return await self.repeat()

    async def repeat(self) -> Exchanged:
        """The last exchange once more, as after a lost reply; the time is the present one."""
        token, finished, want, lock_ms = self._last
        engine = self._engine or self._stage.engine
        answer = await engine.jobs.exchange(
            self.queue,
            worker=self.name,
            seq=self._seq,
            token=token,
            finished=finished,
            want=want,
            lock_ms=lock_ms,
            now=self._stage.now,
        )
        self.tokens.update((each.id, token) for each in answer.jobs)
        return answer

    async def take(self, want: int = 1, lock_ms: int = LOCK_MS) -> tuple[TakenJob, ...]:
        """Take jobs, hand in nothing."""
        return (await self.exchange(want=want, lock_ms=lock_ms)).jobs

    def ended(self, id: str, outcome: Outcome, *, keep: Keep | None = None, token: str | None = None) -> Finish:
        """The end of a run, by default with the token that the job was taken with."""
        now = self._stage.now
        return Finish(id, token or self.tokens.get(id, "nobody:0"), outcome, now, now, keep)

    async def end(self, id: str, outcome: Outcome, *, keep: Keep | None = None, token: str | None = None) -> Code:
        """Hand in one ended run, take nothing."""
        return (await self.exchange(self.ended(id, outcome, keep=keep, token=token))).applied[0]

    def lock(self, id: str, token: str | None = None) -> Lock:
        """The right to finish a job that was taken."""
        return Lock(self.queue, id, token or self.tokens[id])


class Stage:
    """One case: its engine, its clock, its workers."""

    def __init__(self, factory: EngineFactory, engine: Engine, clock: ManualClock) -> None:
        self.factory = factory
        self.engine = engine
        self.clock = clock
        self._opened = [engine]
        self._numbers = count(1)

    @property
    def now(self) -> int:
        """The time of the case, in milliseconds."""
        return self.clock.now_ms()

    @property
    def jobs(self) -> JobStore:
        return self.engine.jobs

    @property
    def inspect(self) -> JobInspector:
        return self.engine.inspect

    @property
    def keyvalue(self) -> KeyValueStore:
        return self.engine.keyvalue

    @property
    def bus(self) -> Bus:
        return self.engine.bus

    @property
    def schedules(self) -> ScheduleStore:
        return self.engine.schedules

    @property
    def flows(self) -> FlowStore:
        return self.engine.flows

    @property
    def channels(self) -> ChannelStore:
        return self.engine.channels

    @property
    def limits(self) -> LimitStore:
        return self.engine.limits

    @property
    def leases(self) -> LeaseStore:
        return self.engine.leases

    async def elapse(self, ms: int) -> None:
        """Let time pass."""
        self.clock.advance_ms(ms)
        for engine in self._opened:
            await self.factory.elapse(engine, ms)

    async def second(self) -> Engine:
        """One more engine on the same store; skips the case where stores are not shared."""
        if not self.engine.capabilities.shared:
            pytest.skip(f"{self.engine.name}: a store is used by one engine only")
        self._opened.append(await self.factory.second(self.engine))
        return self._opened[-1]

    async def reopen(self) -> None:
        """Close the engine and open the store again; skips the case where stores do not last."""
        if not self.engine.capabilities.durable:
            pytest.skip(f"{self.engine.name}: a store ends with its engine")
        self._opened.remove(self.engine)
        self.engine = await self.factory.reopen(self.engine)
        self._opened.append(self.engine)

    async def close(self) -> None:
        """Close every engine of the case."""
        for engine in self._opened:
            await engine.close()

    def batch(self) -> str:
        """A batch id that was not used before."""
        return f"batch-{next(self._numbers)}"

    def worker(self, name: str | None = None, *, queue: str = QUEUE, engine: Engine | None = None) -> HandWorker:
        """A new worker, on the engine of the case unless another one is named."""
        return HandWorker(self, name or f"worker-{next(self._numbers)}", queue, engine)

    async def add(self, *jobs: NewJob | str, queue: str = QUEUE) -> Added:
        """Add jobs as one new batch; a text is the id of a plain one."""
        given = [job(each, timestamp=self.now) if isinstance(each, str) else each for each in jobs]
        return await self.jobs.add(queue, given, batch=self.batch(), now=self.now)

    async def bring(self, id: str, state: State, *, priority: int = 0, opts: str = OWN) -> HandWorker:
        """Add a job and bring it into a state. Answers the worker that ran it."""
        worker = self.worker()
        if state is State.PRIORITIZED:
            await self.add(job(id, opts=opts, timestamp=self.now, priority=priority or 5))
        elif state is State.DELAYED:
            await self.add(job(id, opts=opts, timestamp=self.now, priority=priority, delay_ms=10 * MINUTE))
        else:
            await self.add(job(id, opts=opts, timestamp=self.now, priority=priority, lifo=True))
        if state in {State.ACTIVE, State.COMPLETED, State.FAILED}:
            assert ids_of(await worker.take()) == [id]
        if state.finished:
            outcome = Done('"done"') if state is State.COMPLETED else Failed("it broke", "Error: it broke")
            assert await worker.end(id, outcome) is Code.OK
        return worker

    async def read(self, id: str, queue: str = QUEUE) -> Job:
        """A job that must be there."""
        found = await self.inspect.get(id, queue)
        assert found is not None, f"job {id} is gone"
        return found

    async def state(self, id: str) -> State | None:
        """The state of a job, None without one."""
        found = await self.inspect.get(id, QUEUE)
        return None if found is None else found.state

    async def pages(
        self, *states: State, queue: str = QUEUE, newest_first: bool = False, limit: int = 1000
    ) -> list[Job]:
        """All jobs of some states, through as many pages as it takes."""
        jobs: list[Job] = []
        cursor: str | None = None
        while True:
            page = await self.inspect.list(queue, states, limit=limit, cursor=cursor, newest_first=newest_first)
            jobs += page.jobs
            cursor = page.cursor
            if cursor is None:
                return jobs

    async def ids(self, *states: State, newest_first: bool = False) -> list[str]:
        """The ids of all jobs of some states, as listed."""
        return ids_of(await self.pages(*states, newest_first=newest_first))

    async def line(self) -> list[str]:
        """The ids of all jobs in line, next to run first."""
        return await self.ids(State.WAITING, State.PRIORITIZED)

    async def counts(self) -> Counts:
        """The counts of the queue."""
        return await self.inspect.counts(QUEUE)

    async def events(self, after: str = "0", queue: str = QUEUE) -> list[Event]:
        """All events after an id."""
        events: list[Event] = []
        while page := (await self.bus.read(queue, after=after)).events:
            events += page
            after = page[-1].id
        return events

    async def told(self, after: str = "0") -> list[tuple[str, str]]:
        """What happened after an id: kind and job."""
        return [(event.kind, event.job_id) for event in await self.events(after)]

    async def check_counts(self) -> None:
        """The counts of every queue are those of a real listing."""
        for info in await self.inspect.queues():
            if info.counts.total > MOST_TO_COUNT:
                continue
            listed = Counter(each.state for each in await self.pages(*State, queue=info.name))
            assert {state: info.counts.of(state) for state in State} == {state: listed[state] for state in State}


class Cases:
    """Gives the cases of a group their stage. The class that uses it has a fixture `engines`, an `EngineFactory`."""

    @pytest_asyncio.fixture
    async def stage(self, engines: EngineFactory) -> AsyncIterator[Stage]:
        clock = ManualClock()
        stage = Stage(engines, await engines.open(clock), clock)
        try:
            yield stage
            try:
                await stage.check_counts()
            except EngineClosed:
                return
        finally:
            await stage.close()
