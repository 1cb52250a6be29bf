"""Wraps any engine: one telemetry event per port call, so that no backend emits its own."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from typing import Any, cast

from toril.engine.ports.bus import Bus
from toril.engine.ports.channels import ChannelStore
from toril.engine.ports.flows import FlowStore
from toril.engine.ports.inspect import JobInspector
from toril.engine.ports.jobs import JobStore
from toril.engine.ports.keyvalue import KeyValueStore
from toril.engine.ports.leases import LeaseStore
from toril.engine.ports.limits import LimitStore
from toril.engine.ports.schedules import ScheduleStore
from toril.engine.protocol import Engine, Health
from toril.errors import TorilError
from toril.kernel.telemetry import PortCalled, Telemetry


class TracedEngine:
    """An engine that behaves as the one it wraps, and tells `telemetry` about every call of it."""

    def __init__(self, engine: Engine, telemetry: Telemetry) -> None:
        self.inner = engine
        self.name = engine.name
        self.location = engine.location
        self.capabilities = engine.capabilities
        self._telemetry = telemetry
        self._wrapped: dict[str, tuple[Any, Any]] = {}

    @property
    def jobs(self) -> JobStore:
        return cast(JobStore, self._port("jobs", JobStore, self.inner.jobs))

    @property
    def inspect(self) -> JobInspector:
        return cast(JobInspector, self._port("inspect", JobInspector, self.inner.inspect))

    @property
    def keyvalue(self) -> KeyValueStore:
        return cast(KeyValueStore, self._port("keyvalue", KeyValueStore, self.inner.keyvalue))

    @property
    def bus(self) -> Bus:
        return cast(Bus, self._port("bus", Bus, self.inner.bus))

    @property
    def schedules(self) -> ScheduleStore:
        return cast(ScheduleStore, self._port("schedules", ScheduleStore, self.inner.schedules))

    @property
    def flows(self) -> FlowStore:
        return cast(FlowStore, self._port("flows", FlowStore, self.inner.flows))

    @property
    def channels(self) -> ChannelStore:
        return cast(ChannelStore, self._port("channels", ChannelStore, self.inner.channels))

    @property
    def limits(self) -> LimitStore:
        return cast(LimitStore, self._port("limits", LimitStore, self.inner.limits))

    @property
    def leases(self) -> LeaseStore:
        return cast(LeaseStore, self._port("leases", LeaseStore, self.inner.leases))

    async def start(self) -> None:
        await _traced("engine", "start", self.inner.start, self._telemetry)()

    async def close(self) -> None:
        await _traced("engine", "close", self.inner.close, self._telemetry)()

    async def health(self) -> Health:
        answer: Health = await _traced("engine", "health", self.inner.health, self._telemetry)()
        return answer

    def _port(self, name: str, protocol: type[Any], inner: Any) -> Any:
        """The wrapped port, made again when the engine was opened again."""
        known = self._wrapped.get(name)
        if known is None or known[0] is not inner:
            known = self._wrapped[name] = (inner, _TracedPort(name, protocol, inner, self._telemetry))
        return known[1]


class _TracedPort:
    """The methods of one port protocol, each wrapped once."""

    def __init__(self, port: str, protocol: type[Any], inner: Any, telemetry: Telemetry) -> None:
        for name, member in vars(protocol).items():
            if inspect.iscoroutinefunction(member) and not name.startswith("_"):
                setattr(self, name, _traced(port, name, getattr(inner, name), telemetry))


def _traced(port: str, name: str, method: Callable[..., Any], telemetry: Telemetry) -> Callable[..., Any]:
    @functools.wraps(method)
    async def call(*args: Any, **kwargs: Any) -> Any:
        if not telemetry.wants(PortCalled):
            return await method(*args, **kwargs)
        began = time.perf_counter()
        code: str | None = None
        try:
            return await method(*args, **kwargs)
        except BaseException as error:
            code = error.code if isinstance(error, TorilError) else type(error).__name__
            raise
        finally:
            telemetry.emit(PortCalled(port, name, time.perf_counter() - began, code))

    return call


_: Callable[[Engine, Telemetry], Engine] = TracedEngine
