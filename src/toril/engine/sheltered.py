"""An engine whose store may be away: at the start, and later. What becomes of jobs that are added then is a policy.

While the store is known to be away nobody waits for it: one task looks after it, all others are answered at once.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, cast

from toril.engine.ports.bus import Bus
from toril.engine.ports.channels import ChannelStore
from toril.engine.ports.flows import FlowStore
from toril.engine.ports.inspect import JobInspector
from toril.engine.ports.jobs import LONG_MEMORY_MS, Added, JobStore
from toril.engine.ports.keyvalue import KeyValueStore
from toril.engine.ports.leases import LeaseStore
from toril.engine.ports.limits import LimitStore
from toril.engine.ports.schedules import ScheduleStore
from toril.engine.protocol import Engine, Health
from toril.errors import EngineError, EngineUnavailable, TorilError
from toril.jobs.model import NewJob
from toril.kernel.backoff import wait_s

_FIRST_LOOK_S = 0.1
_LONGEST_LOOK_S = 1.0
# A batch whose answer was lost is asked for again within seconds.
_UNSURE_BATCHES = 10_000
_PROBE = "toril:probe"
_PROBE_KEPT_MS = 1_000

_log = logging.getLogger("toril.outage")


class Refuge(Protocol):
    """Who takes jobs in while the store is away."""

    promise: str
    """What becomes of added jobs, for the log."""
    takes_unsure: bool
    """Whether it may have jobs, too, that the store may have already."""

    async def take(self, queue: str, jobs: Sequence[NewJob], *, batch: str, now: int, unsure: bool) -> Added:
        """As `JobStore.add`. `unsure` jobs were sent to the store as `batch`. Raises EngineError."""
        ...

    def opened(self) -> None:
        """Called when the engine is started, whether its store answers or not."""
        ...

    async def detail(self) -> dict[str, Any]:
        """What `health` says of it."""
        ...


class ShelteredEngine:
    """An engine that starts although its store is away, and answers at once while it is.

    Without a refuge jobs cannot be added while the store is away: EngineUnavailable.
    """

    def __init__(self, engine: Engine, refuge: Refuge | None = None) -> None:
        self.inner = engine
        self.name = engine.name
        self.location = engine.location
        self.capabilities = engine.capabilities
        self._refuge = refuge
        self._started = False
        self._away: TorilError | None = None
        self._since = 0.0
        self._lock = threading.Lock()
        self._look: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None
        self._jobs = cast(JobStore, _ShelteredJobs(self))
        self._late: dict[str, Any] = {
            name: _LatePort(name, protocol, self)
            for name, protocol in (
                ("inspect", JobInspector),
                ("keyvalue", KeyValueStore),
                ("bus", Bus),
                ("schedules", ScheduleStore),
                ("flows", FlowStore),
                ("channels", ChannelStore),
                ("limits", LimitStore),
                ("leases", LeaseStore),
            )
        }

    @property
    def jobs(self) -> JobStore:
        return self._jobs

    @property
    def inspect(self) -> JobInspector:
        return self.inner.inspect if self._started else cast(JobInspector, self._late["inspect"])

    @property
    def keyvalue(self) -> KeyValueStore:
        return self.inner.keyvalue if self._started else cast(KeyValueStore, self._late["keyvalue"])

    @property
    def bus(self) -> Bus:
        return self.inner.bus if self._started else cast(Bus, self._late["bus"])

    @property
    def schedules(self) -> ScheduleStore:
        return self.inner.schedules if self._started else cast(ScheduleStore, self._late["schedules"])

    @property
    def flows(self) -> FlowStore:
        return self.inner.flows if self._started else cast(FlowStore, self._late["flows"])

    @property
    def channels(self) -> ChannelStore:
        return self.inner.channels if self._started else cast(ChannelStore, self._late["channels"])

    @property
    def limits(self) -> LimitStore:
        return self.inner.limits if self._started else cast(LimitStore, self._late["limits"])

    @property
    def leases(self) -> LeaseStore:
        return self.inner.leases if self._started else cast(LeaseStore, self._late["leases"])

    @property
    def is_away(self) -> bool:
        """True while the store is known to be away."""
        return self._away is not None

    async def start(self) -> None:
        try:
            await self._start_inner()
        except EngineUnavailable as error:
            self.lost(error)
        if self._refuge is not None:
            self._refuge.opened()

    async def close(self) -> None:
        with self._lock:
            look, self._look = self._look, None
        if look is not None:
            loop, task = look
            if loop is asyncio.get_running_loop():
                task.cancel()
                await asyncio.wait([task])
            elif not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)
        self._started, self._away = False, None
        await self.inner.close()

    async def health(self) -> Health:
        if self._started:
            health = await self.inner.health()
        else:
            health = Health(False, 0.0, {"location": self.location, "error": str(self._away or "not started")})
        if self._refuge is not None:
            health.detail.update(await self._refuge.detail())
        return health

    def ready(self) -> None:
        """Raises what keeps the store from being used, unless it has been started."""
        if not self._started and self._away is not None:
            self._keep_looking()
            raise _again(self._away)

    async def add(self, queue: str, jobs: Sequence[NewJob], *, batch: str, now: int, unsure: bool) -> Added:
        """Add to the store, or let the refuge have what the store surely does not have."""
        error: TorilError | None = self._away
        if error is None:
            try:
                return await self.inner.jobs.add(queue, jobs, batch=batch, now=now)
            except EngineUnavailable as failed:
                if not failed.partial:
                    self.lost(failed)
                error = failed
        else:
            self._keep_looking()
        unsure = unsure or (isinstance(error, EngineUnavailable) and error.ambiguous)
        refuge = self._refuge if isinstance(error, EngineUnavailable) else None
        if refuge is not None and refuge.takes_unsure:
            return await self._kept(refuge, queue, jobs, batch=batch, now=now, unsure=unsure)
        if unsure:
            raise EngineUnavailable(str(error), ambiguous=True, id=jobs[0].id if len(jobs) == 1 else None) from error
        if refuge is None:
            raise _again(error)
        return await refuge.take(queue, jobs, batch=batch, now=now, unsure=False)

    async def forward(self, queue: str, jobs: Sequence[NewJob], *, batch: str, now: int) -> Added:
        """Add to the store and nowhere else, to be remembered for long. Raises at once while the store is away."""
        if self._away is not None:
            self._keep_looking()
            raise _again(self._away)
        try:
            return await self.inner.jobs.add(queue, jobs, batch=batch, now=now, remember_ms=LONG_MEMORY_MS)
        except EngineUnavailable as error:
            if not error.partial:
                self.lost(error)
            raise

    @staticmethod
    async def _kept(refuge: Refuge, queue: str, jobs: Sequence[NewJob], *, batch: str, now: int, unsure: bool) -> Added:
        try:
            return await refuge.take(queue, jobs, batch=batch, now=now, unsure=unsure)
        except EngineError as error:
            if not unsure:
                raise
            # Whatever the refuge says, the store may have them: that comes first.
            raise EngineUnavailable(str(error), ambiguous=True, id=jobs[0].id if len(jobs) == 1 else None) from error

    def lost(self, error: EngineUnavailable) -> None:
        """The store did not answer: from now on nobody waits for it, until it is back."""
        with self._lock:
            first, self._away = self._away is None, self._away or _again(error)
        if first:
            self._since = time.monotonic()
            then = "adding jobs fails" if self._refuge is None else self._refuge.promise
            _log.warning("%s is away: until it is back %s. %s", self.location, then, error)
        self._keep_looking()

    def _keep_looking(self) -> None:
        """See to it that somebody looks after the store, in a loop that runs."""
        loop = asyncio.get_running_loop()
        with self._lock:
            known = self._look
            if known is not None and not known[1].done() and not known[0].is_closed():
                return
            self._look = (loop, loop.create_task(self._until_back(), name="toril-outage"))

    async def _until_back(self) -> None:
        tries = 0
        while self._away is not None:
            tries += 1
            await asyncio.sleep(wait_s(tries, base_s=_FIRST_LOOK_S, cap_s=_LONGEST_LOOK_S, jitter=0.3))
            try:
                if self._started:
                    # Written, not read: a server that has lost its replicas, or its disk, still answers readers.
                    await self.inner.keyvalue.set([(_PROBE, b"")], ttl_ms=_PROBE_KEPT_MS, now=0)
                else:
                    await self._start_inner()
            except TorilError as error:
                # Also when it answers, and says why it is of no use: whoever calls is told that.
                self._away = _again(error)
            else:
                self._away = None
        _log.warning("%s is back after %.1f s.", self.location, time.monotonic() - self._since)

    async def _start_inner(self) -> None:
        await self.inner.start()
        self._started = True


class _LatePort:
    """A port of an engine that was not started yet when somebody took it."""

    def __init__(self, name: str, protocol: type[Any], engine: ShelteredEngine) -> None:
        for member in _methods(protocol):
            setattr(self, member, self._late(name, member, engine))

    @staticmethod
    def _late(port: str, method: str, engine: ShelteredEngine) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            engine.ready()
            return await getattr(getattr(engine.inner, port), method)(*args, **kwargs)

        return call


class _ShelteredJobs(_LatePort):
    """`JobStore` whose `add` follows the policy."""

    def __init__(self, engine: ShelteredEngine) -> None:
        super().__init__("jobs", JobStore, engine)
        self._engine = engine
        # Batches whose answer was lost: they may be stored, so the refuge must not have them.
        self._unsure: OrderedDict[str, None] = OrderedDict()
        self.add = self._add

    async def _add(self, queue: str, jobs: Sequence[NewJob], *, batch: str, now: int) -> Added:
        try:
            added = await self._engine.add(queue, jobs, batch=batch, now=now, unsure=batch in self._unsure)
        except EngineUnavailable as error:
            if error.ambiguous:
                self._unsure[batch] = None
                while len(self._unsure) > _UNSURE_BATCHES:
                    self._unsure.popitem(last=False)
            raise
        self._unsure.pop(batch, None)
        return added


def _methods(protocol: type[Any]) -> list[str]:
    return [
        name
        for name, member in vars(protocol).items()
        if inspect.iscoroutinefunction(member) and not name.startswith("_")
    ]


def _again(error: TorilError) -> TorilError:
    """The error for another caller, whose command was not sent at all."""
    return type(error)(str(error))


_: Callable[[Engine], Engine] = ShelteredEngine
