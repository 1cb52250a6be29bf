"""`ChannelStore` on Redis: a stream per channel. `at` and the ids come from the server's clock, and it lets channels
expire, whatever `now` says.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence

from toril.engine.ports.channels import (
    ChannelStore,
    ChannelTail,
    Message,
    MessagePage,
    checked_channel,
    checked_publish,
)
from toril.engine.redis.blocking import BlockingClient
from toril.engine.redis.clients import Clients
from toril.engine.redis.keys import Keys
from toril.engine.redis.records import text
from toril.engine.redis.replies import ReplyError
from toril.engine.redis.scripts import load
from toril.engine.redis.streams import LONGEST_BLOCK_S, Entry, StreamReader, entries_of, place
from toril.errors import ConfigError, EngineUnavailable, TorilError
from toril.kernel.ids import token_hex

_PUBLISH = load("channels/publish")
_ID = re.compile(r"0|[0-9]{1,20}-[0-9]{1,20}", re.ASCII)


class RedisChannelStore:
    """The channels of one Redis."""

    def __init__(self, clients: Clients, keys: Keys) -> None:
        self._clients = clients
        self._keys = keys

    async def publish(
        self, channel: str, messages: Sequence[bytes], *, keep: int, ttl_ms: int, now: int
    ) -> tuple[str, ...]:
        checked_publish(channel, keep, ttl_ms)
        if not messages:
            return ()
        key, token = self._keys.channel(channel), token_hex(6)
        try:
            ids = await self._clients.run(_PUBLISH, key, keep, ttl_ms, token, "0", *messages, repeatable=False)
        except EngineUnavailable as error:
            if not error.ambiguous:
                raise
            # Asked a second time it looks for what the first time may have stored.
            ids = await self._clients.run(_PUBLISH, key, keep, ttl_ms, token, "1", *messages)
        return tuple(text(id_) for id_ in ids)

    async def last(self, channel: str, *, now: int) -> str:
        key = self._keys.channel(checked_channel(channel))
        reply = await self._clients.call("XREVRANGE", key, "+", "-", "COUNT", 1, repeatable=True)
        return text(reply[0][0]) if reply else "0"

    async def read(self, channel: str, *, after: str, limit: int = 1000, now: int) -> MessagePage:
        key, start = self._keys.channel(checked_channel(channel)), checked_id(after)
        reply = await self._clients.call("XRANGE", key, f"({start}", "+", "COUNT", limit, repeatable=True)
        return _page(channel, start, entries_of(reply))

    async def tail(self) -> ChannelTail:
        nudge = self._keys.channel_nudge(token_hex(6))
        blocking = await self._clients.borrow(nudge)
        reader = StreamReader(blocking, await self._clients.client(), nudge)
        return RedisChannelTail(self._clients, self._keys, blocking, reader)


class RedisChannelTail:
    """A subscription, with a connection of its own."""

    def __init__(self, clients: Clients, keys: Keys, blocking: BlockingClient, reader: StreamReader) -> None:
        self._clients = clients
        self._keys = keys
        self._blocking = blocking
        self._reader = reader
        self._places: dict[str, str] = {}
        self._channels: dict[str, str] = {}
        self._is_blocked = False
        self._changed = asyncio.Event()
        self._nudging: asyncio.Task[None] | None = None

    def follow(self, channels: Mapping[str, str]) -> None:
        starts = {checked_channel(name): checked_id(after) for name, after in channels.items()}
        for name, after in starts.items():
            key = self._keys.channel(name)
            self._places[key], self._channels[key] = after, name
        self._changed.set()
        if self._is_blocked and (self._nudging is None or self._nudging.done()):
            self._nudging = asyncio.get_running_loop().create_task(self._nudge(), name="toril-redis-nudge")

    def leave(self, channels: Sequence[str]) -> None:
        for name in channels:
            key = self._keys.channel(name)
            self._places.pop(key, None)
            self._channels.pop(key, None)

    async def read(self, *, timeout: float) -> tuple[MessagePage, ...]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while (left := deadline - loop.time()) > 0:
            self._changed.clear()
            if self._places:
                pages = await self._clients.guarded(self._block(min(left, LONGEST_BLOCK_S)))
                if pages:
                    return pages
            else:
                await self._until_changed(left)
        return ()

    async def close(self) -> None:
        self._places.clear()
        self._changed.set()
        if self._nudging is not None:
            self._nudging.cancel()
        await self._clients.give_back(self._blocking)

    async def _block(self, block_s: float) -> tuple[MessagePage, ...]:
        starts = dict(self._places)
        self._is_blocked = True
        try:
            found = await self._reader.read(starts, block_s=block_s)
        finally:
            self._is_blocked = False
        pages = []
        for key, entries in found.items():
            # It may have been left, or followed from elsewhere, during the wait.
            if self._places.get(key) == starts[key]:
                pages.append(_page(self._channels[key], starts[key], entries))
                self._places[key] = entries[-1].id
        return tuple(pages)

    async def _until_changed(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _nudge(self) -> None:
        try:
            while self._is_blocked and self._changed.is_set():
                await self._reader.nudge()
        except (TorilError, ReplyError):
            # What reads is told the same.
            return


def checked_id(id_: str) -> str:
    """A message's id. Raises ConfigError for what is none of this store's."""
    if not _ID.fullmatch(id_) or max(place(id_)) >= 1 << 64:
        raise ConfigError(
            f"Message id: expected the id of a message of this store, such as 1700000000000-0, or 0, got {id_[:80]!r}."
        )
    return id_


def _page(channel: str, after: str, entries: Sequence[Entry]) -> MessagePage:
    if not entries:
        return MessagePage((), False)
    messages, before = [], "0"
    for number, (id_, flat) in enumerate(entries):
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        messages.append(Message(id_, channel, fields.get(b"m", b""), place(id_)[0]))
        if number == 0:
            before = text(fields.get(b"p", b"0"))
    # Each message names the one before it: that one has been read, or it is missing. The first of a channel that began
    # anew names none.
    gap = place(before) > place(after) or (before == "0" and after != "0")
    return MessagePage(tuple(messages), gap)


_: type[ChannelStore] = RedisChannelStore
