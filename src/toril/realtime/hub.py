"""One subscription at the store per event loop, however many listen."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from toril.engine.ports.channels import ChannelTail, MessagePage
from toril.engine.protocol import Engine
from toril.errors import EngineClosed, EngineError
from toril.kernel.backoff import wait_s
from toril.realtime.listener import Listener
from toril.realtime.messages import Arrived, place

_log = logging.getLogger("toril.realtime")

_READ_S = 30.0
_FIRST_RETRY_S = 0.1
_LONGEST_RETRY_S = 5.0


class _Feed:
    """One channel: up to where its messages were handed out, and to whom."""

    __slots__ = ("joining", "live", "position")

    def __init__(self, position: str) -> None:
        self.position = position
        self.live: set[Listener] = set()
        # Who has read further than this feed by itself, and up to where.
        self.joining: dict[Listener, str] = {}

    def hand_out(self, page: MessagePage) -> None:
        messages = [Arrived(message) for message in page.messages]
        size = sum(len(message.data) for message in messages)
        if page.gap:
            for listener in self.live:
                listener.miss(self.position)
        for listener in self.live:
            listener.put(messages, size)
        self.position = messages[-1].id
        for listener, after in list(self.joining.items()):
            later = [message for message in messages if place(message.id) > place(after)]
            if later:
                listener.put(later, sum(len(message.data) for message in later))
            if place(self.position) >= place(after):
                del self.joining[listener]
                self.live.add(listener)


class Hub:
    """All listeners of one event loop. It reads while there are any; `on_idle` is called when there are none."""

    def __init__(self, open_store: Callable[[], Awaitable[Engine]], on_idle: Callable[[Hub], None]) -> None:
        self._open = open_store
        self._on_idle = on_idle
        self._feeds: dict[str, _Feed] = {}
        self._tail: ChannelTail | None = None
        self._task = asyncio.get_running_loop().create_task(self._run(), name="toril-realtime")
        # Not in the task itself: it may be cancelled before it has begun.
        self._task.add_done_callback(self._tell_end)
        self.failing_since: float | None = None
        """Monotonic seconds since when the store could not be read; None while it can."""

    @property
    def ended(self) -> bool:
        """True when nothing will come any more."""
        return self._task.done()

    @property
    def channels(self) -> int:
        """How many channels are listened to."""
        return len(self._feeds)

    @property
    def listeners(self) -> int:
        """How many listen."""
        return sum(len(feed.live) + len(feed.joining) for feed in self._feeds.values())

    def attach(self, name: str, listener: Listener, after: str) -> bool:
        """Give a listener everything after the message `after` of a channel. False when it must read further by itself
        first, because others are ahead of it.
        """
        feed = self._feeds.get(name)
        if feed is None:
            feed = self._feeds[name] = _Feed(after)
            if self._tail is not None:
                self._tail.follow({name: after})
        if place(feed.position) > place(after):
            return False
        if feed.position == after:
            feed.live.add(listener)
        else:
            feed.joining[listener] = after
        return True

    def position(self, name: str) -> str | None:
        """Up to where a channel was handed out; None when nobody listens to it."""
        feed = self._feeds.get(name)
        return None if feed is None else feed.position

    def detach(self, name: str, listener: Listener) -> None:
        """Give a listener nothing any more."""
        feed = self._feeds.get(name)
        if feed is None:
            return
        feed.live.discard(listener)
        feed.joining.pop(listener, None)
        if not feed.live and not feed.joining:
            del self._feeds[name]
            if self._tail is not None:
                self._tail.leave([name])
            if not self._feeds:
                self._on_idle(self)

    async def close(self) -> None:
        """Stop reading; listeners are told that nothing will come any more."""
        self._task.cancel()
        await asyncio.wait([self._task])

    def stop(self) -> None:
        """As `close`, without waiting."""
        self._task.cancel()

    async def _run(self) -> None:
        failures = 0
        try:
            while True:
                try:
                    pages = await (self._tail or await self._opened()).read(timeout=_READ_S)
                except EngineClosed:
                    return
                except EngineError as error:
                    failures += 1
                    await self._endure(error, failures)
                    continue
                if failures:
                    _log.warning("Channels can be read again after %.1f s.", time.monotonic() - self._failed())
                    failures, self.failing_since = 0, None
                for page in pages:
                    feed = self._feeds.get(page.messages[0].channel)
                    if feed is not None:
                        feed.hand_out(page)
        finally:
            if self._tail is not None:
                await self._tail.close()

    async def _opened(self) -> ChannelTail:
        engine = await self._open()
        tail = self._tail = await engine.channels.tail()
        tail.follow({name: feed.position for name, feed in self._feeds.items()})
        return tail

    async def _endure(self, error: EngineError, failures: int) -> None:
        if self.failing_since is None:
            self.failing_since = time.monotonic()
            _log.warning("Channels cannot be read (%s); trying on.", error)
        await asyncio.sleep(wait_s(failures, base_s=_FIRST_RETRY_S, cap_s=_LONGEST_RETRY_S, jitter=0.5))

    def _tell_end(self, task: asyncio.Task[None]) -> None:
        for feed in self._feeds.values():
            for listener in (*feed.live, *feed.joining):
                listener.close()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("Listening to channels has ended by a mistake of Toril.", exc_info=error)

    def _failed(self) -> float:
        return time.monotonic() if self.failing_since is None else self.failing_since
