"""`KeyValueStore` on Redis: plain strings with an expiry, readable by any client.

Values expire by the server's clock, `ttl_ms` after they were stored, whatever `now` says: a time to live needs no clock
that all processes agree on, and two machines whose clocks differ see a value expire at the same moment. In a Cluster
values that are stored together are stored each by itself: another caller, or a failure, may come in between.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from toril.engine.ports.keyvalue import KeyPage, KeyValueStore
from toril.engine.redis.clients import Clients
from toril.engine.redis.keys import Keys
from toril.engine.redis.scripts import load
from toril.engine.redis.sweep import stride
from toril.engine.redis.wire import Arg
from toril.errors import ConfigError

_SET = load("keyvalue/set")
_REPLACE = load("keyvalue/replace")

_LONGEST_KEY = 512
_PATTERN = re.compile(r"([\\*?\[\]^])")
# SCAN passes over all keys of the database. With few of ours among many jobs its strides grow, and a page ends after so
# many of them, full or not.
_LONGEST_STRIDE = 5_000
_MOST_STRIDES = 30


class RedisKeyValueStore:
    """Small values on one Redis."""

    def __init__(self, clients: Clients, keys: Keys) -> None:
        self._clients = clients
        self._keys = keys

    async def get(self, keys: Sequence[str], *, now: int, timeout_s: float | None = None) -> tuple[bytes | None, ...]:
        named = self._named(keys)
        return tuple(await self._clients.call("MGET", *named, repeatable=True, timeout_s=timeout_s)) if named else ()

    async def set(
        self, items: Sequence[tuple[str, bytes]], *, ttl_ms: int, now: int, timeout_s: float | None = None
    ) -> None:
        named = self._named([key for key, _ in items])
        if len(named) == 1 and ttl_ms > 0:
            command = ("SET", named[0], items[0][1], "PX", ttl_ms)
            await self._clients.call(*command, repeatable=True, timeout_s=timeout_s)
        elif self._keys.cluster:
            await self._set_each(named, [value for _, value in items], ttl_ms, timeout_s)
        elif named:
            pairs = [part for key, (_, value) in zip(named, items, strict=True) for part in (key, value)]
            await self._clients.run(_SET, named[0], ttl_ms, *pairs, timeout_s=timeout_s)

    async def replace(
        self,
        key: str,
        value: bytes | None,
        *,
        expected: bytes | None,
        ttl_ms: int,
        now: int,
        timeout_s: float | None = None,
    ) -> bool:
        [named] = self._named([key])
        compared = (0, b"") if expected is None else (1, expected)
        stored = (0, b"") if value is None else (1, value)
        return bool(await self._clients.run(_REPLACE, named, ttl_ms, *compared, *stored, timeout_s=timeout_s))

    async def delete(self, keys: Sequence[str], *, timeout_s: float | None = None) -> int:
        named = self._named(keys)
        return int(await self._clients.call("DEL", *named, timeout_s=timeout_s)) if named else 0

    async def scan(self, prefix: str, *, now: int, limit: int = 1000, cursor: str | None = None) -> KeyPage:
        root = self._keys.value("")
        pattern = _PATTERN.sub(r"\\\1", self._keys.value(prefix)) + "*"
        # A stride may find somewhat more than it was asked for, and a key twice.
        found: dict[str, None] = {}
        count = max(limit, 1)
        for _ in range(_MOST_STRIDES):
            cursor, names = await stride(self._clients, cursor, pattern, count)
            found |= dict.fromkeys(name.removeprefix(root) for name in names)
            if cursor is None or len(found) >= limit:
                break
            count = max(limit - len(found), min(2 * count, _LONGEST_STRIDE))
        return KeyPage(tuple(found), cursor)

    async def _set_each(
        self, keys: Sequence[str], values: Sequence[bytes], ttl_ms: int, timeout_s: float | None
    ) -> None:
        """Each key has a slot of its own: they cannot be written in one step."""
        stored = dict(zip(keys, values, strict=True))
        if ttl_ms > 0:
            commands: list[tuple[Arg, ...]] = [("SET", key, value, "PX", ttl_ms) for key, value in stored.items()]
        else:
            commands = [("DEL", key) for key in stored]
        await asyncio.gather(
            *(self._clients.call(*command, repeatable=True, timeout_s=timeout_s) for command in commands)
        )

    def _named(self, keys: Sequence[str]) -> list[str]:
        for key in keys:
            if not 1 <= len(key) <= _LONGEST_KEY or "\x00" in key:
                raise ConfigError(
                    f"key: expected text of 1 to {_LONGEST_KEY} characters without NUL, got {key[:80]!r}."
                )
        return [self._keys.value(key) for key in keys]


_: type[KeyValueStore] = RedisKeyValueStore
