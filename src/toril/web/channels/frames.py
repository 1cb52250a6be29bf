"""A channel's messages on their way to a browser."""

from __future__ import annotations

from typing import Any

from toril.errors import ConfigError, EngineClosed
from toril.realtime.channel import Channel
from toril.realtime.messages import Arrived, ChannelResync
from toril.realtime.reader import Reader
from toril.web.api.stream import frame

RESYNC = "resync"


class ChannelFrames:
    """One listener of a channel, its messages as server-sent events. Made by `opened`."""

    def __init__(self, reader: Reader, event: str, *, missed: bool) -> None:
        self._reader = reader
        self._event = event
        # The client named a message that this store cannot have sent.
        self._missed = missed

    async def take(self, timeout: float) -> bytes | None:
        """As `Frames.take`: all that has come, in one piece."""
        try:
            found = await self._take(timeout)
        except EngineClosed:
            return None
        event = self._event
        return b"".join([each.frame(event) if isinstance(each, Arrived) else _resync(each) for each in found])

    async def texts(self, timeout: float) -> list[str] | None:
        """The same as JSON objects, one a message."""
        try:
            found = await self._take(timeout)
        except EngineClosed:
            return None
        event = self._event
        return [each.text(event) if isinstance(each, Arrived) else _resync_text(each) for each in found]

    async def close(self) -> None:
        """Listen no longer."""
        self._reader.close()

    async def _take(self, timeout: float) -> list[Arrived | ChannelResync]:
        missed, self._missed = self._missed, False
        return [ChannelResync("")] if missed else list(await self._reader.take(timeout))


async def opened(channel: Channel[Any], after: str | None) -> ChannelFrames:
    """Begin to listen. An `after` that is no id of the store counts as a gap. Raises EngineError."""
    name = channel.name
    try:
        return ChannelFrames(await channel.reader(after), channel.event, missed=False)
    except ConfigError:
        if after is None or not name:
            raise
        return ChannelFrames(await channel.reader(None), channel.event, missed=True)


def _resync(resync: ChannelResync) -> bytes:
    return frame(RESYNC, "{}", resync.id or None)


def _resync_text(resync: ChannelResync) -> str:
    return f'{{"id":"{resync.id}","event":"{RESYNC}"}}' if resync.id else f'{{"event":"{RESYNC}"}}'
