"""One listener's way through a channel: what it missed first, by itself, then what comes, through the hub."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from toril.engine.ports.channels import ChannelStore
from toril.errors import EngineClosed, EngineError
from toril.kernel.backoff import wait_s
from toril.realtime.hub import Hub
from toril.realtime.listener import Listener
from toril.realtime.messages import Arrived, ChannelResync, place

_log = logging.getLogger("toril.realtime")

_PAGE = 200
_FIRST_RETRY_S = 0.1
_LONGEST_RETRY_S = 5.0


class Reader:
    """Reads one channel from a place on; made by `Channel`, used by one task."""

    def __init__(
        self,
        name: str,
        after: str | None,
        *,
        store: ChannelStore,
        hub_of: Callable[[], Hub],
        listener: Listener,
        now: Callable[[], int],
        on_end: Callable[[], None],
    ) -> None:
        self.name = name
        self._after = after
        self._store = store
        self._hub_of = hub_of
        self._listener = listener
        self._now = now
        self._on_end = on_end
        self._position = ""
        self._hub: Hub | None = None
        self._found: list[Arrived | ChannelResync] = []
        self._failures = 0

    async def start(self) -> None:
        """Find the place to begin at. From now on nothing is missed. Raises EngineError, and ConfigError for an `after`
        that is no id of the store.
        """
        last = await self._store.last(self.name, now=self._now())
        self._position = last if self._after is None else self._after
        if self._after is not None:
            await self._read()
            if place(self._after) > place(last) and not self._found:
                # From a store that has been replaced since, or from a history that is gone: what comes would be taken
                # for old.
                self._found, self._position = [ChannelResync(last)], last
        if not self._found:
            self._attach()

    async def take(self, timeout: float) -> Sequence[Arrived | ChannelResync]:
        """What has come, waiting for it at most `timeout` seconds. Raises EngineClosed when nothing more can come."""
        while self._hub is None and not self._found:
            try:
                await self._catch_up()
                self._failures = 0
            except EngineClosed:
                raise
            except EngineError as error:
                self._failures += 1
                if self._failures == 1:
                    _log.warning("What a listener of channel %s missed cannot be read (%s).", self.name, error)
                wait = wait_s(self._failures, base_s=_FIRST_RETRY_S, cap_s=_LONGEST_RETRY_S, jitter=0.5)
                await asyncio.sleep(min(wait, timeout))
                if wait >= timeout:
                    return ()
        if self._found:
            found, self._found = self._found, []
            return found
        await self._listener.wait(timeout)
        taken = self._listener.take()
        if not taken and self._listener.closed:
            raise EngineClosed("The store was closed while a channel was listened to.")
        return taken

    def close(self) -> None:
        """Listen no longer. Closing twice is once."""
        hub, self._hub = self._hub, None
        if hub is not None:
            hub.detach(self.name, self._listener)
        self._listener.close()
        self._on_end()
        self._on_end = _nothing

    async def _catch_up(self) -> None:
        await self._read()
        if not self._found and not self._attach():
            hub_position = self._hub_of().position(self.name)
            await self._read()
            if not self._found and hub_position is not None:
                # Others have had messages that are gone now.
                self._found, self._position = [ChannelResync(hub_position)], hub_position

    async def _read(self) -> None:
        page = await self._store.read(self.name, after=self._position, limit=_PAGE, now=self._now())
        if page.messages:
            self._found = [ChannelResync(self._position)] if page.gap else []
            self._found += [Arrived(message) for message in page.messages]
            self._position = page.messages[-1].id

    def _attach(self) -> bool:
        hub = self._hub_of()
        if not hub.attach(self.name, self._listener, self._position):
            return False
        self._hub = hub
        return True


def _nothing() -> None:
    return None
