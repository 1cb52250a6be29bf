"""One listener of a channel: what has come for it and was not taken yet, never more than a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from toril.realtime.messages import Arrived, ChannelResync


class Listener:
    """Filled by the hub, emptied by one task of the same event loop.

    When more than `most` messages or `most_bytes` bytes are waiting, they are all dropped and a resync takes their
    place: a slow listener costs others nothing.
    """

    __slots__ = ("_bytes", "_deadline", "_most", "_most_bytes", "_timer", "_unread", "_waiter", "closed", "overruns")

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._unread: list[Arrived | ChannelResync] = []
        self._bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        # Set again only when it has come: most waits end long before their time.
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self.closed = False
        self.overruns = 0

    def put(self, messages: Sequence[Arrived], size: int) -> None:
        """Messages have come, of `size` bytes in all."""
        self._unread.extend(messages)
        self._bytes += size
        if len(self._unread) > self._most or self._bytes > self._most_bytes:
            self.overruns += 1
            self._unread = [ChannelResync(messages[-1].id)]
            self._bytes = 0
        self._wake()

    def miss(self, id: str) -> None:
        """Messages after `id` are missing before those that come next."""
        self._unread.append(ChannelResync(id))
        self._wake()

    def close(self) -> None:
        """Nothing will come any more."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    def take(self) -> list[Arrived | ChannelResync]:
        """All that has come since the last time."""
        unread, self._unread, self._bytes = self._unread, [], 0
        return unread

    async def wait(self, timeout: float) -> None:
        """Wait until there is something to take, the end, or `timeout` seconds have passed."""
        if self._unread or self.closed:
            return
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        self._deadline = loop.time() + timeout
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = loop.call_at(self._deadline, self._tick, loop)
        try:
            await waiter
        finally:
            self._waiter = None

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._waiter is not None and loop.time() < self._deadline:
            self._timer = loop.call_at(self._deadline, self._tick, loop)
        else:
            self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
