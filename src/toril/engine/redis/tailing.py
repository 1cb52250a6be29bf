"""Waiting for events: one blocked connection per event loop, however many queues are followed on it. In a Cluster one
per slot.

It blocks in XREAD on the event streams of all queues that somebody waits for. When another queue joins, the connection
is nudged through a stream of its own, and blocks anew on the longer list.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from toril.engine.redis.blocking import BlockingClient
from toril.engine.redis.keys import QueueKeys
from toril.engine.redis.records import event_of, text
from toril.engine.redis.replies import ReplyError
from toril.engine.redis.wire import Caller
from toril.errors import EngineUnavailable
from toril.kernel.ids import token_hex

_LONGEST_BLOCK_S = 10.0
_NUDGE_KEPT_S = 60
_MOST_READ = 100


@dataclass(slots=True, eq=False)
class _Follower:
    """One who waits for the first event of a queue after an id."""

    stream: str
    after: str
    woken: asyncio.Future[bool]


class EventWaiter:
    """All who wait for events on one event loop, in a Cluster for those of one slot. `blocking` is used for nothing
    else, `control` for everything else.
    """

    def __init__(self, blocking: BlockingClient, control: Caller) -> None:
        self._blocking = blocking
        self._control = control
        self._followers: list[_Follower] = []
        self._nudges = token_hex(6)
        self._nudge_key = ""
        self._nudged = "0"
        self._blocked_on: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None

    async def wait(self, keys: QueueKeys, after: str, timeout: float) -> bool:
        """Whether there is an event after an id that readers know, within `timeout` seconds.

        Raises EngineUnavailable when the store is away.
        """
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        follower = _Follower(keys.of("events"), after, future)
        self._followers.append(follower)
        try:
            await self._make_blocked(follower, keys)
            await asyncio.wait([future], timeout=timeout)
            return future.done() and future.result()
        finally:
            future.cancel()
            self._followers.remove(follower)

    async def close(self) -> None:
        """Stop waiting. Who still waits is woken."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        for follower in self._waiting():
            follower.woken.set_result(False)

    async def _make_blocked(self, follower: _Follower, keys: QueueKeys) -> None:
        """See to it that the connection blocks on this stream, and from no later event on."""
        if self._task is None or self._task.done():
            self._nudge_key, self._nudged = f"{keys.own}nudge:{self._nudges}", "0"
            self._task = asyncio.get_running_loop().create_task(self._follow(), name="toril-redis-events")
        elif place(self._blocked_on.get(follower.stream, "")) > place(follower.after) or not self._blocked_on:
            await self._control.call("XADD", self._nudge_key, "MAXLEN", 1, "*", "look", "")
            await self._control.call("EXPIRE", self._nudge_key, _NUDGE_KEPT_S)

    async def _follow(self) -> None:
        """The task: blocks for as long as anybody waits."""
        try:
            while waiting := self._waiting():
                self._blocked_on = starts = _earliest(waiting)
                reply = await self._blocking.wait(
                    "XREAD",
                    "COUNT",
                    _MOST_READ,
                    "BLOCK",
                    round(_LONGEST_BLOCK_S * 1000),
                    "STREAMS",
                    *starts,
                    self._nudge_key,
                    *starts.values(),
                    self._nudged,
                    block_s=_LONGEST_BLOCK_S,
                )
                self._tell(reply)
        except (EngineUnavailable, ReplyError) as error:
            for follower in self._waiting():
                follower.woken.set_exception(error)
        finally:
            self._blocked_on = {}

    def _tell(self, reply: Any) -> None:
        # RESP3 answers a map, RESP2 a list of pairs.
        streams = reply.items() if isinstance(reply, dict) else reply or ()
        for name, entries in streams:
            if not entries:
                continue
            stream = text(name)
            if stream == self._nudge_key:
                self._nudged = text(entries[-1][0])
                continue
            known = [text(id_) for id_, flat in entries if event_of(text(id_), "", fields_of(flat)) is not None]
            last = text(entries[-1][0])
            for follower in self._waiting():
                if follower.stream == stream:
                    if known and place(known[-1]) > place(follower.after):
                        follower.woken.set_result(True)
                    elif place(last) > place(follower.after):
                        # Only what readers do not know: it must not wake them again and again.
                        follower.after = last

    def _waiting(self) -> list[_Follower]:
        return [follower for follower in self._followers if not follower.woken.done()]


def _earliest(followers: list[_Follower]) -> dict[str, str]:
    """The stream of each follower, and the earliest id that one of them waits after."""
    starts: dict[str, str] = {}
    for follower in followers:
        known = starts.get(follower.stream)
        if known is None or place(follower.after) < place(known):
            starts[follower.stream] = follower.after
    return starts


def place(id: str) -> tuple[int, int]:
    """Where an id stands in its log, to compare. An empty text stands behind everything."""
    if not id:
        return (1 << 64, 0)
    ms, _, number = id.partition("-")
    return int(ms), int(number or 0)


def fields_of(flat: list[bytes]) -> dict[str, str]:
    """The fields of a stream's entry."""
    return {text(flat[at]): text(flat[at + 1]) for at in range(0, len(flat), 2)}
