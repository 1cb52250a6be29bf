"""Waiting for events: one blocked connection per event loop, however many queues are followed on it. In a Cluster one
per slot.

It blocks on the event streams of all queues that somebody waits for, and anew when another queue joins.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from toril.engine.redis.blocking import BlockingClient
from toril.engine.redis.keys import QueueKeys
from toril.engine.redis.records import event_of
from toril.engine.redis.replies import ReplyError
from toril.engine.redis.streams import Entry, StreamReader, place
from toril.engine.redis.wire import Caller
from toril.errors import EngineUnavailable
from toril.kernel.ids import token_hex


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
        self._reader: StreamReader | None = None
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
        if self._reader is None or self._task is None or self._task.done():
            reader = self._reader = StreamReader(self._blocking, self._control, f"{keys.own}nudge:{token_hex(6)}")
            self._task = asyncio.get_running_loop().create_task(self._follow(reader), name="toril-redis-events")
        elif place(self._blocked_on.get(follower.stream, "")) > place(follower.after) or not self._blocked_on:
            await self._reader.nudge()

    async def _follow(self, reader: StreamReader) -> None:
        """The task: blocks for as long as anybody waits."""
        try:
            while waiting := self._waiting():
                self._blocked_on = starts = _earliest(waiting)
                self._tell(await reader.read(starts))
        except (EngineUnavailable, ReplyError) as error:
            for follower in self._waiting():
                follower.woken.set_exception(error)
        finally:
            self._blocked_on = {}

    def _tell(self, found: dict[str, list[Entry]]) -> None:
        for stream, entries in found.items():
            known = [entry.id for entry in entries if event_of(entry.id, "", entry.fields()) is not None]
            last = entries[-1].id
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
