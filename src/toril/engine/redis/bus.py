"""`Bus` on Redis: the stream `events`, which BullMQ's own readers follow too.

Kinds that the port does not name are passed over. `at` is the server's time of the entry, from its id.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from toril.engine.ports.bus import Bus, Event, EventPage
from toril.engine.redis.clients import Clients
from toril.engine.redis.keys import Keys
from toril.engine.redis.records import event_of, text
from toril.engine.redis.replies import ReplyError
from toril.engine.redis.streams import entries_of, place
from toril.errors import ConfigError

_ID = re.compile(r"[0-9]{1,20}(-[0-9]{1,20})?", re.ASCII)
_MOST_PER_CALL = 1000


class RedisBus:
    """The event logs of one Redis."""

    def __init__(self, clients: Clients, keys: Keys) -> None:
        self._clients = clients
        self._keys = keys

    async def tail(self, queue: str) -> str:
        info = await self._info(self._keys.queue(queue).of("events"))
        last = text(info.get("last-generated-id", b"0-0"))
        return "0" if last == "0-0" else last

    async def read(self, queue: str, *, after: str, limit: int = 1000) -> EventPage:
        stream = self._keys.queue(queue).of("events")
        start = _checked(after)
        # Asked behind the entries, what it says of missing ones is rather too much than too little.
        events, info = await asyncio.gather(self._read(stream, queue, start, limit), self._info(stream))
        return EventPage(tuple(events), _has_gap(start, info))

    async def wait(self, queue: str, *, after: str, timeout: float) -> bool:
        start = _checked(after)
        keys = self._keys.queue(queue)
        waiter = await self._clients.event_waiter(keys)
        return await self._clients.guarded(waiter.wait(keys, start, timeout))

    async def _read(self, stream: str, queue: str, after: str, limit: int) -> list[Event]:
        events: list[Event] = []
        while len(events) < limit:
            # Every second entry or so is of a kind that is passed over.
            many = min(2 * (limit - len(events)) + 2, _MOST_PER_CALL)
            reply = await self._clients.call("XRANGE", stream, f"({after}", "+", "COUNT", many, repeatable=True)
            entries = entries_of(reply)
            for entry in entries:
                event = event_of(entry.id, queue, entry.fields())
                if event is not None:
                    events.append(event)
            if len(entries) < many:
                break
            after = entries[-1].id
        return events[:limit]

    async def _info(self, stream: str) -> dict[str, Any]:
        """What the server says of a stream; nothing when there is none."""
        client = await self._clients.client()
        try:
            reply = await client.call("XINFO", "STREAM", stream, repeatable=True)
        except ReplyError as error:
            if "no such key" in error.message.lower():
                return {}
            return await self._clients.guarded(_raise(error))
        # RESP3 answers a map, RESP2 a flat list.
        pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
        return {text(name): value for name, value in pairs}


async def _raise(error: ReplyError) -> dict[str, Any]:
    raise error


def _has_gap(after: str, info: dict[str, Any]) -> bool:
    """Whether events after an id were trimmed away. When only the one of that very id was, it is a false alarm."""
    if not info:
        return False
    length = int(info["length"])
    # Servers before 7.0 do not count what was ever added: there the beginning of a log may always be missing.
    if int(info.get("entries-added", length + 1)) <= length:
        return False
    first = info.get("first-entry")
    first_id = text(first[0]) if first else text(info["last-generated-id"])
    return place(after) < place(first_id)


def _checked(id: str) -> str:
    if not _ID.fullmatch(id) or max(place(id)) >= 1 << 64:
        raise ConfigError(
            f"Event id: expected the id of an event of this store, such as 1700000000000-0, or 0, got {id[:80]!r}."
        )
    return id


_: type[Bus] = RedisBus
