"""Clients of one node of a cluster. What the node sends elsewhere is handed to whoever knows the other nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from toril.engine.redis.address import Address
from toril.engine.redis.blocking import BlockingClient
from toril.engine.redis.client import RedisClient
from toril.engine.redis.link import ClientOptions, Listener
from toril.engine.redis.replies import Moved, ReplyError
from toril.engine.redis.wire import ONCE, Call, Wire, encode

Reroute = Callable[["NodeClient", Call, ReplyError], bool]
"""Called when a node refuses a command because of where its keys lie; true when the call has been taken over."""

_ASKING = encode((b"ASKING",))
_NOT_HERE = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"})
_QUIET_S = 0.1


class NodeClient(RedisClient):
    """A `RedisClient` of one node. It gives calls away, and takes such of other nodes."""

    def __init__(
        self,
        locate: Callable[[], Awaitable[Address]],
        *,
        reroute: Reroute,
        options: ClientOptions,
        listener: Listener = Listener(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(locate=locate, options=options, listener=listener)
        self._reroute = reroute

    def refused(self, wire: Wire, call: Call, error: ReplyError) -> bool:
        if error.code in _NOT_HERE:
            in_time = call[2] > monotonic()
            if wire is self._wire and not self._closed and in_time and self._reroute(self, call, error):
                return True
            if isinstance(error, Moved):
                call[0].set_exception(self._unsent(call, f"no node took it in time ({error.message})"))
                return True
        return super().refused(wire, call, error)

    def take(self, call: Call, *, asking: bool = False) -> None:
        """Write a call that another node had. `asking`: this node does not own the slot yet, and is to answer anyway.

        Raises EngineClosed.
        """
        made, now = self._create(), monotonic()
        made.cancel()
        if call[2] < self._check_at:
            self._check_by(call[2], now)
        calls = [call]
        if asking:
            # Both stand side by side in the line, so that nothing comes between them.
            asked: asyncio.Future[Any] = call[0].get_loop().create_future()
            asked.add_done_callback(_consume)
            calls.insert(0, (asked, _ASKING, call[2], ONCE))
        for each in calls:
            if self._open:
                self._waiting.append(each)
            else:
                self._park(each)
        self._update()

    def give_back(self) -> list[Call]:
        """The calls that wait for a connection; they are the caller's from now on."""
        calls, self._waiting, self._parked_bytes = self._waiting, [], 0
        return [call for call in calls if not call[0].done()]

    async def retire(self, timeout_s: float) -> list[Call]:
        """Let what is under way finish for `timeout_s` seconds, then close. Answers what has not been executed, or may
        be executed again; it is the caller's.
        """
        wire = self._wire
        if wire is not None:
            under_way = [call[0] for call in wire.pending if not call[0].done()]
            if under_way:
                await asyncio.wait(under_way, timeout=timeout_s)
            self.drop("the node holds no slots any more")
            await wire.gone
        calls = self.give_back()
        await self.close(timeout_s=0)
        return calls


class BlockingNodeClient(BlockingClient):
    """A `BlockingClient` for the keys of one slot. A wait that is refused because the slot is elsewhere has found
    nothing; the next one is on the right node.
    """

    def __init__(
        self,
        locate: Callable[[], Awaitable[Address]],
        *,
        moved: Callable[[ReplyError], None],
        options: ClientOptions,
    ) -> None:
        super().__init__(locate=locate, options=options)
        self._moved = moved

    def refused(self, wire: Wire, call: Call, error: ReplyError) -> bool:
        if error.code not in _NOT_HERE or wire is not self._wire or self._closed:
            return super().refused(wire, call, error)
        self._moved(error)
        # Not at once, or the waiting would become a race round and round.
        call[0].get_loop().call_later(_QUIET_S, _found_nothing, call[0])
        if error.code == "MOVED":
            self.drop("the slot is on another node")
        return True


def _consume(future: asyncio.Future[Any]) -> None:
    # What became of it shows in the call behind it.
    if not future.cancelled():
        future.exception()


def _found_nothing(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_result(None)
