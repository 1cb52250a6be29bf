"""What the suite must be told about an engine: how to open one."""

from __future__ import annotations

from abc import ABC, abstractmethod

from toril.engine.protocol import Engine
from toril.kernel.clock import Clock


class EngineFactory(ABC):
    """Opens engines for one case. The case closes every engine that it got."""

    @abstractmethod
    async def open(self, clock: Clock) -> Engine:
        """A started engine on a store that is empty, and that no other case sees. `clock` is the time of the case."""

    async def second(self, engine: Engine) -> Engine:
        """One more started engine on the store of `engine`, as another process would open it.

        Asked for only where `Capabilities.shared`.
        """
        raise NotImplementedError(f"{type(self).__name__}.second: {engine.name} says that its store can be shared")

    async def reopen(self, engine: Engine) -> Engine:
        """Close `engine` and answer a started one on the same store. Asked for only where `Capabilities.durable`."""
        raise NotImplementedError(f"{type(self).__name__}.reopen: {engine.name} says that its store is durable")

    async def elapse(self, engine: Engine, ms: int) -> None:  # noqa: B027 - most stores have nothing to do
        """Called when the time of the case has been moved by `ms`.

        A store that lets things expire by a clock of its own makes them expire here.
        """
