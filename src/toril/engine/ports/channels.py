"""`ChannelStore`: named logs of messages, bounded and expiring, that every process can follow and read again.

A channel needs no set-up: it begins with its first message. Names are text of 1 to 512 characters, messages bytes.
`now` is wall time in milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from toril.errors import ConfigError

LONGEST_NAME = 512


class Message(NamedTuple):
    """One message of a channel. `id` grows along the channel; `at` is wall time in milliseconds."""

    id: str
    channel: str
    data: bytes
    at: int


class MessagePage(NamedTuple):
    """Messages in order. `gap` is true when messages after the given id are gone, so that some are missing before
    these.
    """

    messages: tuple[Message, ...]
    gap: bool


class ChannelTail(Protocol):
    """One subscription that follows many channels; used by one task of one event loop."""

    def follow(self, channels: Mapping[str, str]) -> None:
        """Follow these further channels, each from after the id given (`"0"`: from its beginning). Takes effect at
        once, also during `read`. Raises ConfigError as `ChannelStore.read`, and then follows none of them.
        """
        ...

    def leave(self, channels: Sequence[str]) -> None:
        """Follow these channels no longer."""
        ...

    async def read(self, *, timeout: float) -> tuple[MessagePage, ...]:
        """Wait until a followed channel has messages, or `timeout` seconds have passed; a page for each channel that
        has some, each going on where the last one ended. Raises EngineUnavailable; the next call goes on.
        May still give messages of a channel that has just expired.
        """
        ...

    async def close(self) -> None:
        """Let go of the subscription. Never raises."""
        ...


class ChannelStore(Protocol):
    """Publishing, and reading what was published."""

    async def publish(
        self, channel: str, messages: Sequence[bytes], *, keep: int, ttl_ms: int, now: int
    ) -> tuple[str, ...]:
        """Append messages, all or none, and answer their ids. The channel keeps its newest `keep` messages, and is gone
        `ttl_ms` after the last one. Raises ConfigError for a bad name or bound.
        """
        ...

    async def last(self, channel: str, *, now: int) -> str:
        """The id of the newest message: `follow` from it gives only later ones. `"0"` for a channel without any."""
        ...

    async def read(self, channel: str, *, after: str, limit: int = 1000, now: int) -> MessagePage:
        """Messages after an id, oldest first; an empty page is the end, one with less than `limit` need not be it.

        When a channel expired and began anew, there is a gap for who had not read all of it, and may be one for who
        had. Raises ConfigError for an id that is none of this store's.
        """
        ...

    async def tail(self) -> ChannelTail:
        """Open a subscription."""
        ...


def checked_channel(name: str) -> str:
    """The name of a channel. Raises ConfigError for one that no store takes."""
    if not 1 <= len(name) <= LONGEST_NAME or "\x00" in name or not _is_text(name):
        raise ConfigError(
            f"channel: expected text of 1 to {LONGEST_NAME} characters without NUL or lone surrogates, "
            f"got {name[:80]!r}."
        )
    return name


def checked_publish(channel: str, keep: int, ttl_ms: int) -> None:
    """Raises ConfigError for what `ChannelStore.publish` does not take."""
    checked_channel(channel)
    if keep < 1 or ttl_ms < 1:
        raise ConfigError(f"channel: expected keep and ttl_ms of at least 1, got keep {keep} and ttl_ms {ttl_ms}.")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
