"""The client of a Redis Cluster: one `NodeClient` per master, each command sent to the one that holds its first key.

The map of the slots is asked for at the start, and again whenever a node says that a slot is elsewhere or loses its
connection. Until it is known, and for what has no key, any node is asked. A call that a node refuses keeps its
deadline and goes to the right one; what a dead node did not answer goes to its successor if it is repeatable, by the
same rules as on a single server.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, NamedTuple

from toril.engine.redis.address import Address
from toril.engine.redis.cluster import Cluster
from toril.engine.redis.link import ClientOptions, Listener
from toril.engine.redis.node import BlockingNodeClient, NodeClient
from toril.engine.redis.replies import Moved, ReplyError
from toril.engine.redis.slots import SLOTS, Place, Range, key_slot, name_of, ranges_of, slot_of, slot_of_encoded
from toril.engine.redis.wire import WRITTEN, Arg, Call
from toril.errors import ConfigError, EngineClosed, EngineUnavailable

_AGAIN_S = 0.1
_BETWEEN_MAPS_S = 0.1
_MAP_WITHIN_S = 2.0
_GUIDE_CONNECTS_S = 2.0
_RETIRES_S = 1.0
# What says "elsewhere" twice within this time, each time somewhere else, is told to wait.
_BOUNCE_S = 0.5

_log = logging.getLogger("toril.redis")


def _added(replies: Sequence[int]) -> int:
    return sum(replies)


# Commands over several keys, which may lie in several slots: one for each key, and how the replies are joined.
_SPLIT: dict[bytes, Callable[[Sequence[Any]], Any]] = {
    b"MGET": list,
    **dict.fromkeys((b"DEL", b"UNLINK", b"EXISTS", b"TOUCH"), _added),
}
_SINGLE = {b"MGET": b"GET"}


class Master(NamedTuple):
    """A master as callers see it: the lowest of its slots, and how many it has."""

    address: Address
    client: NodeClient
    first: int
    slots: int


@dataclass(frozen=True, slots=True, eq=False)
class _Node:
    address: Address
    client: NodeClient

    @property
    def place(self) -> Place:
        return self.address.host, self.address.port


class ClusterClient:
    """One cluster, for everything in one event loop. Calls as those of `RedisClient`."""

    def __init__(self, cluster: Cluster, options: ClientOptions) -> None:
        self.location = cluster.redacted
        self._cluster = cluster
        self._options = options
        self._nodes: dict[Place, _Node] = {}
        self._owners: list[_Node | None] = [None] * SLOTS
        self._moved: dict[int, tuple[Place, float]] = {}
        self._known: asyncio.Future[None] | None = None
        self._reason = "no node has answered yet"
        self._turn = 0
        self._wanted = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._mapping: asyncio.Task[None] | None = None
        self._closed = False
        # One round of all seeds is one attempt.
        retries = options.max_retries
        rounds = None if retries is None else (retries + 1) * len(cluster.seeds) - 1
        connects = min(options.connect_timeout_s, _GUIDE_CONNECTS_S)
        guided = replace(options, connect_timeout_s=connects, max_retries=rounds, quiet=True)
        listener = Listener(up=self._stale)
        self._guide = NodeClient(self._anywhere, reroute=self._rerouted, options=guided, listener=listener)

    # What callers use

    def call(self, *command: Arg, timeout_s: float | None = None, repeatable: bool = False) -> asyncio.Future[Any]:
        """As `RedisClient.call`. Of commands over several keys those of `_SPLIT` may have them in several slots; then
        each key is dealt with by itself, and not all in one step.
        """
        name = name_of(command)
        joined = _SPLIT.get(name) if len(command) > 2 else None
        if joined is not None and len({key_slot(key) for key in command[1:]}) > 1:
            single = _SINGLE.get(name, name)
            calls = [self.call(single, key, timeout_s=timeout_s, repeatable=repeatable) for key in command[1:]]
            return asyncio.ensure_future(_join(calls, joined))
        return self._client(slot_of(command)).call(*command, timeout_s=timeout_s, repeatable=repeatable)

    async def masters(self) -> tuple[Master, ...]:
        """All masters that have slots, by the lowest of them. Raises EngineUnavailable while nobody tells them, and
        ConfigError when the user of the URL may not ask, or the server is none of a cluster.
        """
        await self._map()
        slots: dict[_Node, list[int]] = {}
        for slot, node in enumerate(self._owners):
            if node is not None:
                slots.setdefault(node, []).append(slot)
        return tuple(Master(node.address, node.client, held[0], len(held)) for node, held in slots.items())

    @property
    def is_connected(self) -> bool:
        """True while at least one of several masters can be reached."""
        return len(self._nodes) > 1 and any(node.client.is_connected for node in self._nodes.values())

    def blocking(self, slot: int, options: ClientOptions) -> BlockingNodeClient:
        """A new client for waits on the keys of one slot; it is the caller's."""
        return BlockingNodeClient(self._locator(slot), moved=self._blocking_moved, options=options)

    async def close(self) -> None:
        """As `RedisClient.close`."""
        self._closed = True
        for task in [*self._tasks, *([] if self._mapping is None else [self._mapping])]:
            task.cancel()
            await asyncio.wait([task])
        for client in (*(node.client for node in self._nodes.values()), self._guide):
            await client.close()

    def drop(self, reason: str) -> None:
        """As `RedisClient.drop`, for all connections."""
        for client in (*(node.client for node in self._nodes.values()), self._guide):
            client.drop(reason)

    # Where a call goes

    def _client(self, slot: int | None) -> NodeClient:
        owner = None if slot is None else self._owners[slot]
        return self._guide if owner is None else owner.client

    def _route(self, call: Call, node: _Node | None = None, *, asking: bool = False) -> None:
        if call[0].done():
            return
        client = self._client(slot_of_encoded(call[1])) if node is None else node.client
        try:
            client.take(call, asking=asking)
        except EngineClosed as error:
            call[0].set_exception(EngineUnavailable(str(error), ambiguous=call[3] == WRITTEN))

    def _pass_on(self, calls: Iterable[Call], node: _Node | None = None) -> None:
        """Route what a node gave back. What has no key was for that very node, and stays there."""
        for call in calls:
            if slot_of_encoded(call[1]) is not None:
                self._route(call)
            elif node is not None:
                self._route(call, node)
            elif not call[0].done():
                reason = f"{self.location}: the node that was asked has left the cluster. Ask again."
                call[0].set_exception(EngineUnavailable(reason, ambiguous=call[3] == WRITTEN))

    def _rerouted(self, client: NodeClient, call: Call, error: ReplyError) -> bool:
        """A node has refused a call (see `Reroute`)."""
        loop = call[0].get_loop()
        if not isinstance(error, Moved):
            if error.code != "TRYAGAIN":
                self._stale()
                return False
            # A part of its keys is on the way to another node; other calls need not wait for that.
            loop.call_later(_AGAIN_S, self._route, call)
            return True
        bounces, node = self._says_elsewhere(error, client)
        asking = error.code == "ASK"
        if bounces:
            loop.call_later(_AGAIN_S, functools.partial(self._route, call))
        else:
            self._route(call, node, asking=asking)
        return True

    def _says_elsewhere(self, error: ReplyError, client: NodeClient | None = None) -> tuple[bool, _Node | None]:
        """Learn from a refusal. Answers whether two nodes name each other, and the node that is named."""
        if not isinstance(error, Moved):
            return False, None
        host = error.host or self._host_of(client)
        node = self._node((host, error.port))
        if error.code == "ASK":
            return False, node
        now = monotonic()
        before, at = self._moved.get(error.slot, (node.place, now))
        self._moved[error.slot] = (node.place, now)
        self._owners[error.slot] = node
        self._stale()
        return (before != node.place and now - at < _BOUNCE_S) or node.client is client, node

    def _blocking_moved(self, error: ReplyError) -> None:
        self._says_elsewhere(error)

    def _host_of(self, client: NodeClient | None) -> str:
        known = next((node.address.host for node in self._nodes.values() if node.client is client), None)
        return known or self._cluster.seeds[0].host

    def _node(self, place: Place) -> _Node:
        node = self._nodes.get(place)
        if node is None:
            address = replace(self._cluster.seeds[0], host=place[0], port=place[1])
            client = NodeClient(self._fixed(address), reroute=self._rerouted, options=self._options)
            node = self._nodes[place] = _Node(address, client)
        return node

    # Where to connect

    async def _anywhere(self) -> Address:
        """For what any node can answer: the masters that were reached last, and the seeds, in turn."""
        self._turn += 1
        known = [node.address for node in self._nodes.values() if node.client.is_connected]
        places = [*known, *self._cluster.seeds]
        return places[self._turn % len(places)]

    def _fixed(self, address: Address) -> Callable[[], Awaitable[Address]]:
        attempts = 0

        async def locate() -> Address:
            nonlocal attempts
            attempts += 1
            if attempts > 1:
                # It was lost, or cannot be reached: another node may hold its slots by now.
                self._stale()
            return address

        return locate

    def _locator(self, slot: int) -> Callable[[], Awaitable[Address]]:
        attempts = 0

        async def locate() -> Address:
            nonlocal attempts
            attempts += 1
            if attempts > 1:
                self._stale()
            await self._map()
            owner = self._owners[slot]
            if owner is None:
                raise OSError(f"no node of {self.location} holds slot {slot}")
            return owner.address

        return locate

    # The map

    def _stale(self) -> None:
        """The map may be wrong: ask for it, if nobody does."""
        self._wanted = True
        if not self._closed and (self._mapping is None or self._mapping.done()):
            self._mapping = asyncio.get_running_loop().create_task(self._keep_map(), name="toril-redis-cluster-map")

    async def _keep_map(self) -> None:
        while self._wanted:
            self._wanted = False
            await self._ask()
            await asyncio.sleep(_BETWEEN_MAPS_S)

    async def _map(self) -> None:
        """Wait until the map is known. Raises as `masters` does."""
        if self._known is None or _failed(self._known):
            self._known = asyncio.get_running_loop().create_future()
            self._stale()
        known = self._known
        await asyncio.wait([known], timeout=self._options.timeout_s)
        if not known.done():
            raise EngineUnavailable(f"{self.location}: no node tells where the slots are: {self._reason}.")
        known.result()

    async def _ask(self) -> None:
        """Ask one node for the map; the next one if it does not tell."""
        clients = [node.client for node in self._nodes.values() if node.client.is_connected]
        self._turn += 1
        turn = self._turn % (len(clients) + 1)
        # Another one each time: what a node on the wrong side of a broken network believes is not the truth.
        for client in [*clients[turn:], self._guide, *clients[:turn]]:
            try:
                reply = await client.call("CLUSTER", "SLOTS", timeout_s=_MAP_WITHIN_S, repeatable=True)
                ranges = ranges_of(reply, self._host_of(client))
            except EngineUnavailable as error:
                self._reason = str(error)
                continue
            except ReplyError as error:
                self._refused(error)
                continue
            if ranges:
                self._apply(ranges)
                return

    def _refused(self, error: ReplyError) -> None:
        """A node does not tell: say why to those who wait for the map. Calls find their way without."""
        self._reason = str(error)
        text = (
            f"expected to be told where the slots are, got {self._reason!r}. Give the user of the URL the right "
            "+cluster|slots (ACL SETUSER)."
            if error.code == "NOPERM"
            else f"expected a node of a Redis Cluster, found a server that says {self._reason!r}. A single server is "
            "redis://host:port."
        )
        if self._known is not None and not self._known.done():
            self._known.set_exception(ConfigError(f"{self.location}: {text}"))
            self._known.exception()

    def _apply(self, ranges: list[Range]) -> None:
        owners: list[_Node | None] = [None] * SLOTS
        for first, last, place in ranges:
            owners[first : last + 1] = [self._node(place)] * (last + 1 - first)
        changed = owners != self._owners
        self._owners = owners
        if self._known is None or _failed(self._known):
            self._known = asyncio.get_running_loop().create_future()
        if not self._known.done():
            self._known.set_result(None)
        if not changed:
            return
        self._moved.clear()
        masters = {place for _, _, place in ranges}
        for place in [place for place in self._nodes if place not in masters]:
            self._start(self._let_go(self._nodes.pop(place)))
        for node in list(self._nodes.values()):
            if not node.client.is_connected:
                self._pass_on(node.client.give_back(), node)

    async def _let_go(self, node: _Node) -> None:
        try:
            self._pass_on(await node.client.retire(_RETIRES_S))
        finally:
            await node.client.close(timeout_s=0)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _failed(future: asyncio.Future[None]) -> bool:
    return future.done() and future.exception() is not None


async def _join(calls: Sequence[asyncio.Future[Any]], joined: Callable[[Sequence[Any]], Any]) -> Any:
    return joined(await asyncio.gather(*calls))
