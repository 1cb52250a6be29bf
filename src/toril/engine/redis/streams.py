"""Blocking on many streams with one connection, on a list that may change meanwhile.

The connection blocks in XREAD. When the list has changed it is nudged through a stream of its own, and its owner blocks
anew on the new list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from toril.engine.redis.blocking import BlockingClient
from toril.engine.redis.records import text
from toril.engine.redis.wire import Caller

LONGEST_BLOCK_S = 10.0
_NUDGE_KEPT_S = 60
_MOST_READ = 100


class Entry(NamedTuple):
    """One entry of a stream: its id, and its fields and values in a flat list."""

    id: str
    flat: list[bytes]

    def fields(self) -> dict[str, str]:
        """The fields as text."""
        return {text(self.flat[at]): text(self.flat[at + 1]) for at in range(0, len(self.flat), 2)}


class StreamReader:
    """One blocked reader. `blocking` is used for nothing else, `control` for everything else; `nudge_key` is a key that
    no other reader has.
    """

    def __init__(self, blocking: BlockingClient, control: Caller, nudge_key: str) -> None:
        self._blocking = blocking
        self._control = control
        self._nudge_key = nudge_key
        self._nudged = "0"

    async def read(self, starts: Mapping[str, str], *, block_s: float = LONGEST_BLOCK_S) -> dict[str, list[Entry]]:
        """Entries of each stream after its id; nothing when it was nudged or `block_s` seconds have passed.

        Raises EngineUnavailable and ReplyError.
        """
        reply = await self._blocking.wait(
            "XREAD",
            "COUNT",
            _MOST_READ,
            "BLOCK",
            max(round(block_s * 1000), 1),
            "STREAMS",
            *starts,
            self._nudge_key,
            *starts.values(),
            self._nudged,
            block_s=block_s,
        )
        # RESP3 answers a map, RESP2 a list of pairs.
        streams = reply.items() if isinstance(reply, dict) else reply or ()
        found = {text(name): [Entry(text(id_), flat) for id_, flat in entries] for name, entries in streams if entries}
        nudges = found.pop(self._nudge_key, None)
        if nudges is not None:
            self._nudged = nudges[-1].id
        return found

    async def nudge(self) -> None:
        """Make `read` return. Raises EngineUnavailable and ReplyError."""
        await self._control.call("XADD", self._nudge_key, "MAXLEN", 1, "*", "look", "")
        await self._control.call("EXPIRE", self._nudge_key, _NUDGE_KEPT_S)


def place(id: str) -> tuple[int, int]:
    """Where an id stands in its stream, to compare. An empty text stands behind everything."""
    if not id:
        return (1 << 64, 0)
    ms, _, number = id.partition("-")
    return int(ms), int(number or 0)


def entries_of(reply: list[Any]) -> list[Entry]:
    """The entries that XRANGE answers."""
    return [Entry(text(id_), flat) for id_, flat in reply]
