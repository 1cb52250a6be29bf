"""Following jobs: one reader of a queue's event log per event loop, shared by all who wait for jobs of that queue."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from toril.engine.ports.bus import Event
from toril.engine.protocol import Engine
from toril.errors import ConfigError, EngineClosed, EngineError
from toril.kernel.backoff import wait_s

_log = logging.getLogger("toril.watch")
# Only a backstop: an event wakes the reader at once.
_WAIT_S = 30.0
# A follower that is this many events behind is told that there is a gap, and looks at its job again.
_MOST_UNREAD = 1000


class Subscription:
    """The events of one job as they come. `position` is the id after which this subscription sees everything."""

    __slots__ = ("_events", "_wake", "closed", "gap", "position")

    def __init__(self, position: str) -> None:
        self.position = position
        self.gap = False
        self.closed = False
        self._events: deque[Event] = deque()
        self._wake = asyncio.Event()

    async def wait(self, timeout: float) -> bool:
        """Wait until there is something to take, or `timeout` seconds have passed (False)."""
        if not self._wake.is_set():
            try:
                async with asyncio.timeout(timeout):
                    await self._wake.wait()
            except TimeoutError:
                return False
        return True

    def take(self) -> list[Event]:
        """The events since the last call, in order. `gap` tells that some before them are missing; the caller resets
        it. Raises EngineClosed when no more can come.
        """
        events = list(self._events)
        self._events.clear()
        if not self.closed:
            self._wake.clear()
        elif not events:
            raise EngineClosed("The store was closed while a job was followed.")
        return events

    def put(self, event: Event) -> None:
        if len(self._events) >= _MOST_UNREAD:
            self.skip()
        self._events.append(event)
        self._wake.set()

    def skip(self) -> None:
        """Tell the follower that events are missing."""
        self._events.clear()
        self.gap = True
        self._wake.set()

    def close(self) -> None:
        self.closed = True
        self._wake.set()


class Watcher:
    """Hands out subscriptions; runs one reader per event loop and queue while there are any."""

    def __init__(self, open_store: Callable[[], Awaitable[Engine]]) -> None:
        self._open = open_store
        self._readers: dict[tuple[asyncio.AbstractEventLoop, str], _Reader] = {}

    @asynccontextmanager
    async def subscribe(self, queue: str, job_id: str) -> AsyncIterator[Subscription]:
        """Follow one job while the block runs. Raises EngineError when the store cannot be read."""
        key = (asyncio.get_running_loop(), queue)
        reader = self._readers.get(key)
        if reader is None or reader.ended:
            reader = self._readers[key] = _Reader(queue, self._open)
        reader.users += 1
        try:
            subscription = await reader.subscribe(job_id)
            try:
                yield subscription
            finally:
                reader.unsubscribe(job_id, subscription)
        finally:
            reader.users -= 1
            if reader.users == 0:
                reader.stop()
                if self._readers.get(key) is reader:
                    del self._readers[key]


class _Reader:
    """Reads a queue's events from now on and hands them to the followers of their jobs."""

    def __init__(self, queue: str, open_store: Callable[[], Awaitable[Engine]]) -> None:
        self.users = 0
        self._queue = queue
        self._open = open_store
        self._position = "0"
        self._followers: dict[str, list[Subscription]] = {}
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name=f"toril-watch:{queue}")

    @property
    def ended(self) -> bool:
        return self._task.done()

    async def subscribe(self, job_id: str) -> Subscription:
        await asyncio.shield(self._ready)
        subscription = Subscription(self._position)
        self._followers.setdefault(job_id, []).append(subscription)
        return subscription

    def unsubscribe(self, job_id: str, subscription: Subscription) -> None:
        followers = self._followers.get(job_id, [])
        followers.remove(subscription)
        if not followers:
            del self._followers[job_id]

    def stop(self) -> None:
        self._task.cancel()
        self._ready.cancel()

    async def _run(self) -> None:
        try:
            engine = await self._open()
            self._position = await engine.bus.tail(self._queue)
        except EngineError as error:
            self._ready.set_exception(error)
            # Nobody may be waiting any more, and nobody needs to hear it then.
            self._ready.exception()
            return
        self._ready.set_result(None)
        failures = 0
        while True:
            try:
                await self._read()
                failures = 0
            except EngineClosed:
                break
            except EngineError as error:
                failures += 1
                wait = wait_s(failures, base_s=0.1, cap_s=5.0, jitter=0.5)
                _log.log(
                    logging.WARNING if failures == 1 else logging.DEBUG,
                    "The events of queue %s cannot be read (%s); trying again.",
                    self._queue,
                    error,
                )
                await asyncio.sleep(wait)
        for subscription in self._all():
            subscription.close()

    async def _read(self) -> None:
        engine = await self._open()
        await engine.bus.wait(self._queue, after=self._position, timeout=_WAIT_S)
        page = await engine.bus.read(self._queue, after=self._position)
        if page.gap:
            for subscription in self._all():
                subscription.skip()
        for event in page.events:
            for subscription in self._followers.get(event.job_id, ()):
                subscription.put(event)
        if page.events:
            self._position = page.events[-1].id

    def _all(self) -> list[Subscription]:
        return [subscription for followers in self._followers.values() for subscription in followers]


def place(event_id: str) -> tuple[int, ...]:
    """Where an event stands in its log, to compare. Raises ConfigError for what is no event id."""
    try:
        return tuple(int(part) for part in event_id.split("-"))
    except ValueError:
        raise ConfigError(f"Expected the id of an event, such as one that events() gave, got {event_id!r}.") from None
