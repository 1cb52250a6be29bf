"""`Engine`: what every store offers, assembled from ports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from toril.engine.ports.bus import Bus
from toril.engine.ports.channels import ChannelStore
from toril.engine.ports.flows import FlowStore
from toril.engine.ports.inspect import JobInspector
from toril.engine.ports.jobs import JobStore
from toril.engine.ports.keyvalue import KeyValueStore
from toril.engine.ports.leases import LeaseStore
from toril.engine.ports.limits import LimitStore
from toril.engine.ports.schedules import ScheduleStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an engine can do; the conformance suite reads it to choose its cases.

    shared: several processes may use one store at the same time · durable: what was accepted survives the process ·
    immediate_cancel: a waiting job that is cancelled is `failed` at once instead of at its turn · own_clock: events are
    stamped, and locks and values run out, by the store's own clock instead of the callers'.
    """

    shared: bool
    durable: bool
    immediate_cancel: bool
    own_clock: bool = False


class Health(NamedTuple):
    """How the store is. `round_trip_ms` is the time of one small call; `detail` is for people (`doctor`), without
    secrets.
    """

    ok: bool
    round_trip_ms: float
    detail: dict[str, Any]


class Engine(Protocol):
    """Where everything is stored.

    `start` may raise any EngineError; `close` never does, and may be called twice. The ports may be used from any
    thread that runs an event loop, between `start` and `close`.
    """

    name: str
    """`sqlite` or `redis`."""
    location: str
    """Where it is, for people: an absolute path or a URL without password."""
    capabilities: Capabilities

    @property
    def jobs(self) -> JobStore: ...

    @property
    def inspect(self) -> JobInspector: ...

    @property
    def keyvalue(self) -> KeyValueStore: ...

    @property
    def bus(self) -> Bus: ...

    @property
    def schedules(self) -> ScheduleStore: ...

    @property
    def flows(self) -> FlowStore: ...

    @property
    def channels(self) -> ChannelStore: ...

    @property
    def limits(self) -> LimitStore: ...

    @property
    def leases(self) -> LeaseStore: ...

    async def start(self) -> None:
        """Open the store, check it, bring its schema up to date. Starting twice is once."""
        ...

    async def close(self) -> None:
        """Finish what is under way and let go of everything."""
        ...

    async def health(self) -> Health:
        """Ask the store how it is. Raises nothing: a store that is away answers `ok` false and why."""
        ...
