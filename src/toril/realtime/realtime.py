"""What all channels of an application share: the store, and one hub per event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from toril.engine.protocol import Engine
from toril.kernel.blocking import BlockingLoop
from toril.kernel.clock import Clock
from toril.realtime.hub import Hub
from toril.realtime.listener import Listener
from toril.realtime.presence import Presence, count
from toril.realtime.reader import Reader
from toril.settings import RealtimeSettings


class RealtimeStatus(NamedTuple):
    """What is listened to in this process. `failing_s` is how long the store could not be read, 0 while it can."""

    channels: int
    listeners: int
    failing_s: float


class Realtime:
    """The means of channels. Safe to use from several event loops, each of which has a hub of its own."""

    def __init__(
        self,
        open_store: Callable[[], Awaitable[Engine]],
        *,
        clock: Clock,
        settings: RealtimeSettings,
        blocking: BlockingLoop,
    ) -> None:
        self._open = open_store
        self._clock = clock
        self.settings = settings
        self.blocking = blocking
        self._hubs: dict[asyncio.AbstractEventLoop, Hub] = {}
        self._presences: dict[asyncio.AbstractEventLoop, Presence] = {}

    def status(self) -> RealtimeStatus:
        """What is listened to in this process, and whether the store can be read."""
        hubs = [hub for loop, hub in list(self._hubs.items()) if not loop.is_closed()]
        since = min((hub.failing_since for hub in hubs if hub.failing_since is not None), default=None)
        return RealtimeStatus(
            channels=sum(hub.channels for hub in hubs),
            listeners=sum(hub.listeners for hub in hubs),
            failing_s=0.0 if since is None else time.monotonic() - since,
        )

    async def publish(self, name: str, messages: list[bytes], *, keep: int, ttl_ms: int) -> tuple[str, ...]:
        """Store messages. Raises EngineError."""
        store = (await self._open()).channels
        return await store.publish(stored(name), messages, keep=keep, ttl_ms=ttl_ms, now=self._clock.now_ms())

    async def reader(self, name: str, after: str | None, *, presence: bool) -> Reader:
        """A started reader of a channel. Raises as `Reader.start`."""
        engine = await self._open()
        present = self._presence() if presence else None
        reader = Reader(
            stored(name),
            after,
            store=engine.channels,
            hub_of=self._hub,
            listener=Listener(self.settings.buffer, self.settings.buffer_bytes),
            now=self._clock.now_ms,
            on_end=(lambda: None) if present is None else (lambda: present.leave(name)),
        )
        if present is not None:
            present.join(name)
        try:
            await reader.start()
        except BaseException:
            reader.close()
            raise
        return reader

    async def present(self, name: str) -> int:
        """How many listen to a channel, over all processes. Raises EngineError."""
        presence = self._presences.get(asyncio.get_running_loop())
        if presence is not None:
            await presence.flush()
        return await count(await self._open(), name, self._clock.now_ms())

    async def close(self) -> None:
        """Let go of what the running event loop has; listeners are told. Raises nothing."""
        loop = asyncio.get_running_loop()
        hub, presence = self._hubs.pop(loop, None), self._presences.pop(loop, None)
        if presence is not None:
            await presence.close()
        if hub is not None:
            await hub.close()

    def _hub(self) -> Hub:
        loop = asyncio.get_running_loop()
        hub = self._hubs.get(loop)
        if hub is None or hub.ended:
            self._forget_ended()
            hub = self._hubs[loop] = Hub(self._open, self._idle)
        return hub

    def _presence(self) -> Presence:
        loop = asyncio.get_running_loop()
        presence = self._presences.get(loop)
        if presence is None:
            self._forget_ended()
            presence = self._presences[loop] = Presence(self._open, self._clock.now_ms)
        return presence

    def _idle(self, hub: Hub) -> None:
        loop = asyncio.get_running_loop()
        if self._hubs.get(loop) is hub:
            del self._hubs[loop]
        hub.stop()

    def _forget_ended(self) -> None:
        for loop in [loop for loop in self._hubs if loop.is_closed()]:
            del self._hubs[loop]
        for loop in [loop for loop in self._presences if loop.is_closed()]:
            del self._presences[loop]


def stored(name: str) -> str:
    """What a channel is called in the store, where others have channels too."""
    return f"realtime:{name}"
