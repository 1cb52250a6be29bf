"""One client per event loop, made at the first use there, and closed when the loop ends or the engine is closed.

A connection belongs to one event loop, but an engine may be used from any. What blocks on the server (waiting for work
or for events) has connections of its own.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from toril.engine.redis.address import Address
from toril.engine.redis.blocking import BlockingClient
from toril.engine.redis.client import RedisClient
from toril.engine.redis.cluster import Cluster
from toril.engine.redis.faults import translated
from toril.engine.redis.keys import QueueKeys
from toril.engine.redis.link import ClientOptions
from toril.engine.redis.replies import ReplyError
from toril.engine.redis.routing import ClusterClient, Master
from toril.engine.redis.scripts import Script, keys_of, run
from toril.engine.redis.slots import key_slot
from toril.engine.redis.tailing import EventWaiter
from toril.engine.redis.waiting import WorkWaiter, wait_together
from toril.engine.redis.wire import Arg
from toril.errors import EngineClosed, EngineUnavailable

T = TypeVar("T")

# How long `close` waits for a loop in another thread to close its connections.
_CLOSE_S = 3.0

_log = logging.getLogger("toril.redis")


class Locator(Protocol):
    """A server that is looked for before every attempt to connect."""

    @property
    def redacted(self) -> str:
        """Where it is looked for, as a URL without passwords."""
        ...

    @property
    def options(self) -> Mapping[str, str]:
        """As those of an `Address`."""
        ...

    async def locate(self) -> Address:
        """Where it is now. Raises OSError when nobody knows."""
        ...


@dataclass(slots=True)
class _Work:
    """Who waits for the work of one slot, and on what."""

    waiter: WorkWaiter
    blocking: BlockingClient


@dataclass(slots=True)
class _Connections:
    """What one event loop has, by slot where it waits for keys. A single server is one slot."""

    client: RedisClient | ClusterClient
    life: AsyncGenerator[None, None] | None = None
    work: dict[int, _Work] = field(default_factory=dict)
    unheard: dict[int, frozenset[str]] = field(default_factory=dict)
    events: dict[int, EventWaiter] = field(default_factory=dict)
    blocking: list[BlockingClient] = field(default_factory=list)
    attending: dict[str, list[BlockingClient]] = field(default_factory=dict)

    async def close(self) -> None:
        try:
            for work in self.work.values():
                await work.waiter.close()
            for events in self.events.values():
                await events.close()
            for blocking in self.blocking:
                await blocking.close(timeout_s=0)
            await self.client.close()
        finally:
            # A loop that comes to its end meanwhile cancels this, too.
            for client in (*self.blocking, self.client):
                client.drop("the engine was closed")


class Clients:
    """The clients of one engine. Safe to use from any thread; what it hands out belongs to the running event loop."""

    def __init__(self, place: Address | Locator | Cluster, options: ClientOptions) -> None:
        self.location = place.redacted
        self._address = place if isinstance(place, Address) else None
        self._locate = None if isinstance(place, Address) else place.locate
        self._cluster = place if isinstance(place, Cluster) else None
        self._options = options
        self._lock = threading.Lock()
        self._by_loop: dict[asyncio.AbstractEventLoop, _Connections] = {}
        self._closed = False

    async def client(self) -> RedisClient | ClusterClient:
        """The client of the running loop. Raises EngineClosed after `close`."""
        return (await self._connections()).client

    async def masters(self) -> tuple[Master, ...]:
        """The masters of the cluster as the running loop reaches them; none on a single server. Raises as
        `ClusterClient.masters`.
        """
        client = await self.client()
        return await client.masters() if isinstance(client, ClusterClient) else ()

    async def call(self, *command: Arg, repeatable: bool = False, timeout_s: float | None = None) -> Any:
        """One command. Raises EngineUnavailable, EngineClosed, and what an error reply means."""
        return await self.guarded(self._call(command, repeatable, timeout_s))

    async def run(
        self, script: Script, key: str, *args: Arg, repeatable: bool = True, timeout_s: float | None = None
    ) -> Any:
        """One script. `key` decides the Cluster slot. Raises as `call` does."""
        return await self.guarded(self._run(script, key, args, repeatable, timeout_s))

    async def wait_for_work(self, queues: Mapping[str, QueueKeys], timeout: float) -> frozenset[str]:
        """The queues of `queues` that may have work; none after `timeout` seconds. Raises EngineUnavailable."""
        connections = await self._connections()
        by_slot: dict[int, dict[str, QueueKeys]] = {}
        for queue, keys in queues.items():
            by_slot.setdefault(self._slot(keys), {})[queue] = keys
        parts = []
        for slot, group in by_slot.items():
            work = connections.work.get(slot) or self._work(connections, slot, self._blocking(connections, slot))
            parts.append((work.waiter, group))
        return await wait_together(parts, timeout)

    async def attend(self, worker: str, names: Sequence[tuple[QueueKeys, str]]) -> None:
        """Have connections of the running loop carry the name for each queue until `leave`, without waiting for any.

        The one that waits for the work of a slot carries the first, unless it carries another worker's.
        """
        connections = await self._connections()
        if worker in connections.attending:
            return
        carriers = connections.attending.setdefault(worker, [])
        for keys, name in names:
            slot = self._slot(keys)
            # Only one of them is heard of in the log when the server is away: the client that does the work.
            quiet = bool(carriers) or slot in connections.work
            carrier = self._blocking(connections, slot, name=name, quiet=quiet)
            if slot not in connections.work:
                self._work(connections, slot, carrier)
            carrier.call("PING", repeatable=True).add_done_callback(_consume)
            carriers.append(carrier)

    async def leave(self, worker: str) -> None:
        """Let go of the connections that carry the names of a worker on the running loop."""
        connections = self._by_loop.get(asyncio.get_running_loop())
        if connections is None:
            return
        for carrier in connections.attending.pop(worker, ()):
            connections.blocking.remove(carrier)
            slot = next((slot for slot, work in connections.work.items() if work.blocking is carrier), None)
            if slot is not None:
                # Others who wait are woken, and wait on a connection without a name from now on.
                connections.unheard[slot] = await connections.work.pop(slot).waiter.close()
            await carrier.close(timeout_s=0)

    async def event_waiter(self, keys: QueueKeys) -> EventWaiter:
        """Who waits for events of a queue on the running loop."""
        connections = await self._connections()
        slot = self._slot(keys)
        if slot not in connections.events:
            connections.events[slot] = EventWaiter(self._blocking(connections, slot), connections.client)
        return connections.events[slot]

    async def borrow(self, key: str) -> BlockingClient:
        """A connection of the running loop for one who blocks for long, until `give_back`. `key` decides the Cluster
        slot.
        """
        connections = await self._connections()
        return self._blocking(connections, 0 if self._cluster is None else key_slot(key), quiet=True)

    async def give_back(self, blocking: BlockingClient) -> None:
        """Close a connection that was borrowed. It raises nothing."""
        connections = self._by_loop.get(asyncio.get_running_loop())
        if connections is not None and blocking in connections.blocking:
            connections.blocking.remove(blocking)
        await blocking.close(timeout_s=0)

    async def guarded(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` answers, its errors in Toril's words."""
        try:
            return await work
        except ReplyError as error:
            raise translated(error, self.location) from error
        except EngineUnavailable as error:
            if self._closed:
                raise EngineClosed(f"{self.location}: the engine was closed before the answer came.") from error
            client = await self.client()
            error.partial = isinstance(client, ClusterClient) and client.is_connected
            raise

    async def close(self) -> None:
        """Let go of all connections, those of other loops included. Closing twice is once; it raises nothing."""
        with self._lock:
            self._closed = True
            left, self._by_loop = self._by_loop, {}
        for loop, connections in left.items():
            await _in_its_loop(loop, functools.partial(_end, connections))

    async def _connections(self) -> _Connections:
        loop = asyncio.get_running_loop()
        connections = self._by_loop.get(loop)
        if connections is not None:
            return connections
        with self._lock:
            if self._closed:
                raise EngineClosed(f"{self.location}: the engine is closed. Call start() to open it again.")
            for ended in [each for each in self._by_loop if each.is_closed()]:
                del self._by_loop[ended]
            connections = self._by_loop[loop] = _Connections(self._client())
        # A loop that ends closes the asynchronous generators that are left in it: this one closes the connections.
        connections.life = self._while_loop_lives(loop, connections)
        await anext(connections.life)
        return connections

    async def _while_loop_lives(
        self, loop: asyncio.AbstractEventLoop, connections: _Connections
    ) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            with self._lock:
                self._by_loop.pop(loop, None)
            await connections.close()

    def _client(self) -> RedisClient | ClusterClient:
        if self._cluster is not None:
            return ClusterClient(self._cluster, self._options)
        return RedisClient(self._address, locate=self._locate, options=self._options)

    def _slot(self, keys: QueueKeys) -> int:
        return 0 if self._cluster is None else key_slot(keys.base)

    def _work(self, connections: _Connections, slot: int, blocking: BlockingClient) -> _Work:
        waiter = WorkWaiter(blocking, connections.client, connections.unheard.pop(slot, ()))
        work = connections.work[slot] = _Work(waiter, blocking)
        return work

    def _blocking(
        self, connections: _Connections, slot: int, *, name: str | None = None, quiet: bool = False
    ) -> BlockingClient:
        # It waits most of the time, so it needs no PING to know that the connection lives.
        options = replace(self._options, ping_after_s=None, name=name or self._options.name, quiet=quiet)
        if isinstance(connections.client, ClusterClient):
            # Each node of a cluster is heard of in the log by its own client.
            blocking: BlockingClient = connections.client.blocking(slot, replace(options, quiet=True))
        else:
            blocking = BlockingClient(self._address, locate=self._locate, options=options)
        connections.blocking.append(blocking)
        return blocking

    async def _call(self, command: tuple[Arg, ...], repeatable: bool, timeout_s: float | None) -> Any:
        return await (await self.client()).call(*command, repeatable=repeatable, timeout_s=timeout_s)

    async def _run(
        self, script: Script, key: str, args: tuple[Arg, ...], repeatable: bool, timeout_s: float | None
    ) -> Any:
        keys = keys_of(key, cluster=self._cluster is not None)
        return await run(await self.client(), script, keys, *args, repeatable=repeatable, timeout_s=timeout_s)


def _consume(future: asyncio.Future[Any]) -> None:
    # Connecting goes on, whatever became of the first word.
    if not future.cancelled():
        future.exception()


async def _end(connections: _Connections) -> None:
    if connections.life is not None:
        await connections.life.aclose()
    else:
        await connections.close()


async def _in_its_loop(loop: asyncio.AbstractEventLoop, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine in the loop that it belongs to, which may be another thread's, or at its end."""
    if loop is asyncio.get_running_loop():
        await make()
    elif loop.is_running():
        work = asyncio.run_coroutine_threadsafe(make(), loop)
        try:
            await asyncio.wait_for(asyncio.wrap_future(work), _CLOSE_S)
        except (TimeoutError, asyncio.CancelledError, RuntimeError) as error:
            if isinstance(error, asyncio.CancelledError) and not work.cancelled():
                raise
            _log.debug("The connections of another event loop could not be closed in time.")
