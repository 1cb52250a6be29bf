"""SCAN over all keys of a store, stride by stride: of one server, or of one master of a cluster after the other."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from zlib import crc32

from toril.engine.redis.clients import Clients
from toril.engine.redis.records import text
from toril.engine.redis.routing import Master
from toril.errors import ConfigError

_CURSOR = re.compile(r"(?:([0-9]{1,5})-([0-9a-f]{1,8})-)?([0-9]{1,20})", re.ASCII)


async def stride(clients: Clients, cursor: str | None, pattern: str, count: int) -> tuple[str | None, list[str]]:
    """The next keys that match, about `count` looked at, and the cursor of the stride after it; None after the last.

    A cursor names the master that it belongs to. Where that is none any more the sweep begins anew, so that nothing is
    passed over. Raises ConfigError for a cursor of another making.
    """
    found = _CURSOR.fullmatch(cursor or "0")
    if found is None:
        raise ConfigError(f"cursor: expected the cursor of an earlier page, got {str(cursor)[:80]!r}.")
    first, mark, at = found.groups()
    masters = await clients.guarded(clients.masters())
    if not masters:
        at, keys = await _scanned(clients, None, at, pattern, count)
        return (None if at == "0" else at), keys
    index = next((index for index, each in enumerate(masters) if (str(each.first), _mark(each)) == (first, mark)), None)
    index, at = (0, "0") if index is None else (index, at)
    at, keys = await _scanned(clients, masters[index], at, pattern, count)
    index += at == "0"
    if index == len(masters):
        return None, keys
    return f"{masters[index].first}-{_mark(masters[index])}-{at}", keys


async def _scanned(clients: Clients, node: Master | None, at: str, pattern: str, count: int) -> tuple[str, list[str]]:
    client = await clients.client() if node is None else node.client
    reply: Any = await clients.guarded(
        _reply(client.call("SCAN", at, "MATCH", pattern, "COUNT", count, repeatable=True))
    )
    return text(reply[0]), [text(name) for name in reply[1]]


async def _reply(future: asyncio.Future[Any]) -> Any:
    return await future


def _mark(master: Master) -> str:
    # The cursors of a server mean nothing to another one.
    return f"{crc32(master.address.redacted.encode()):x}"
