"""Keeps the memory of all processes in step: what one of them drops, the others drop within milliseconds.

What is dropped is published on a channel of the store that every process follows. Before a process follows it, it keeps
nothing in memory; after the store was away it begins with an empty one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from typing import Any

from toril.cache.local import LocalTier
from toril.cache.stats import Counters
from toril.cache.vault import Vault
from toril.engine.ports.channels import ChannelTail
from toril.engine.protocol import Engine
from toril.engine.reach import Reach
from toril.errors import EngineUnavailable, TorilError
from toril.kernel import codec
from toril.kernel.clock import Clock

_KEEP = 1_000
_CHANNEL_MS = 3_600_000
_TURN_S = 5.0
_NOTE_MS = 60_000
_PAUSE_S = 0.5
_MOST_IN_ONE = 500

_log = logging.getLogger("toril.cache")


class Coherence:
    """What one process tells the others and hears of them, in one event loop at a time."""

    def __init__(
        self, reach: Reach, vault: Vault, local: LocalTier, counters: Counters, clock: Clock, namespace: str
    ) -> None:
        self._reach = reach
        self._vault = vault
        self._local = local
        self._counters = counters
        self._clock = clock
        self._channel = f"cache:{namespace}"
        self._wanted = local.is_on
        self._me = f"{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}"
        self._task: asyncio.Task[None] | None = None
        self._said = ""
        self._alone = False
        # Until the channel is followed, or the store turns out to be this process's own, nothing is kept.
        local.is_on = False

    @property
    def process(self) -> str:
        """The name of this process among those that share the cache."""
        return self._me

    def ensure(self) -> None:
        """See to it that the channel is followed, by the running loop if by no other."""
        task = self._task
        if self._alone:
            return
        if task is None or task.done() or task.get_loop().is_closed():
            self._local.is_on = False
            self._task = asyncio.get_running_loop().create_task(self._run(), name="toril-cache-coherence")

    async def tell(self, keys: Sequence[str] = (), tags: Sequence[str] = (), prefixes: Sequence[str] = ()) -> None:
        """Have the other processes drop these. Raises EngineUnavailable."""
        engine = await self._reach.engine()
        if engine.capabilities.shared:
            messages = [
                codec.encode({"by": self._me, "keys": keys[at : at + _MOST_IN_ONE]}).encode()
                for at in range(0, len(keys), _MOST_IN_ONE)
            ]
            if tags or prefixes:
                messages.append(codec.encode({"by": self._me, "tags": tags, "prefixes": prefixes}).encode())
            now = self._clock.now_ms()
            await engine.channels.publish(self._channel, messages, keep=_KEEP, ttl_ms=_CHANNEL_MS, now=now)

    async def close(self) -> None:
        """Follow no longer."""
        task, self._task = self._task, None
        self._alone = self._local.is_on = False
        if task is None or task.done():
            return
        if task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.wait([task])
        elif not task.get_loop().is_closed():
            task.get_loop().call_soon_threadsafe(task.cancel)

    async def _run(self) -> None:
        while True:
            try:
                engine = await self._reach.engine()
                if not engine.capabilities.shared:
                    self._alone, self._local.is_on = True, self._wanted
                    return
                await self._follow(engine)
            except EngineUnavailable as error:
                self._reach.lost(error)
            except TorilError:
                _log.exception("The cache's memory is switched off for now: its channel cannot be followed.")
                self._local.is_on = False
            await asyncio.sleep(_PAUSE_S)

    async def _follow(self, engine: Engine) -> None:
        tail = await engine.channels.tail()
        try:
            last = await engine.channels.last(self._channel, now=self._clock.now_ms())
            tail.follow({self._channel: last})
            # What was kept before may have been dropped by others meanwhile.
            self._local.clear()
            self._local.is_on = self._wanted
            while True:
                await self._hear(tail)
                await self._note()
        finally:
            await tail.close()

    async def _hear(self, tail: ChannelTail) -> None:
        for page in await tail.read(timeout=_TURN_S):
            if page.gap:
                self._local.clear()
            for message in page.messages:
                said: dict[str, Any] = codec.decode(message.data)
                if said.get("by") != self._me:
                    prefixes = tuple(said.get("prefixes", ()))
                    self._local.drop(said.get("keys", ()), said.get("tags", ()), prefixes)

    async def _note(self) -> None:
        """Leave the counters in the store, for `toril cache stats`."""
        text = self._counters.stored(len(self._local), self._local.bytes)
        await self._vault.note(self._me, text, ttl_ms=_NOTE_MS)
