"""The values of a cache in the store: with tags that are given up in one step, and a lock for whoever makes a value.

A tag is a key with a random generation. A value holds the generations that its tags had before it was made; it counts
as gone once one of them is another. A tag that has been lost (evicted, expired) is another generation, too: never is an
old value taken for a valid one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from toril.cache.entry import Entry, decode, encode
from toril.cache.reads import Reads
from toril.cache.recipe import LONGEST_MS
from toril.engine.ports.keyvalue import KeyValueStore
from toril.engine.reach import Reach
from toril.kernel.clock import Clock

_TAG_MS = LONGEST_MS
_PAGE = 1000


class Found(NamedTuple):
    """What is stored for a key: a valid entry, fresh or not, and the generations of the tags that were asked for."""

    entry: Entry | None
    generations: tuple[bytes | None, ...]


class Vault:
    """The store of one cache. Every method raises EngineUnavailable, at once while the store is known to be away."""

    def __init__(self, reach: Reach, clock: Clock, *, namespace: str, timeout_s: float, compress_above: int) -> None:
        self._reach = reach
        self._clock = clock
        self._timeout_s = timeout_s
        self._compress_above = compress_above
        self._values = f"cache:{namespace}:v:"
        self._tags = f"cache:{namespace}:t:"
        self._locks = f"cache:{namespace}:l:"
        self._notes = f"cache:{namespace}:s:"
        self._reads = Reads(self._get)

    async def read(self, key: str, tags: Sequence[str]) -> Found:
        """A value, and the generations of its tags, in one round trip."""
        data, *generations = await self._reads.read([self._values + key, *[self._tags + tag for tag in tags]])
        entry = None if data is None else decode(data)
        if entry is not None and entry.tags:
            present = generations
            if entry.tags != tuple(tags):
                present = list(await self._get([self._tags + tag for tag in entry.tags]))
            if None in present or b"".join([each or b"" for each in present]) != entry.generations:
                entry = None
        return Found(entry, tuple(generations))

    async def read_many(self, keys: Sequence[str]) -> dict[str, Entry]:
        """The valid entries of keys."""
        entries = {
            key: entry
            for key, data in zip(keys, await self._get([self._values + key for key in keys]), strict=True)
            if data is not None and (entry := decode(data)) is not None
        }
        tags = sorted({tag for entry in entries.values() for tag in entry.tags})
        present = dict(zip(tags, await self._get([self._tags + tag for tag in tags]), strict=True)) if tags else {}
        return {
            key: entry
            for key, entry in entries.items()
            if b"".join([present[tag] or b"-" for tag in entry.tags]) == entry.generations
        }

    async def settle(self, tags: Sequence[str], known: Sequence[bytes | None] | None = None) -> tuple[bytes, ...]:
        """The generations of tags; tags that have none get one."""
        if not tags:
            return ()
        generations = list(known or await self._get([self._tags + tag for tag in tags]))
        for number, tag in enumerate(tags):
            while (present := generations[number]) is None:
                made = os.urandom(8)
                if await self._replace(self._tags + tag, made, expected=None, ttl_ms=_TAG_MS):
                    present = made
                else:
                    [present] = await self._get([self._tags + tag])
                generations[number] = present
        return tuple([generation for generation in generations if generation is not None])

    async def write(
        self,
        payloads: Mapping[str, bytes],
        *,
        fresh_until: int,
        ttl_ms: int,
        tags: Sequence[str] = (),
        generations: Sequence[bytes] = (),
        cost_ms: int = 0,
    ) -> None:
        """Store values with the same tags, each until `ttl_ms` have passed."""
        items = [
            (
                self._values + key,
                encode(
                    payload,
                    fresh_until=fresh_until,
                    cost_ms=cost_ms,
                    tags=tags,
                    generations=generations,
                    compress_above=self._compress_above,
                ),
            )
            for key, payload in payloads.items()
        ]
        store = await self._store()
        await store.set(items, ttl_ms=ttl_ms, now=self._clock.now_ms(), timeout_s=self._timeout_s)

    async def delete(self, keys: Sequence[str]) -> int:
        """Delete values, and the right to store those that are being made. Answers how many values there were."""
        store = await self._store()
        await store.delete([self._locks + key for key in keys], timeout_s=self._timeout_s)
        return await store.delete([self._values + key for key in keys], timeout_s=self._timeout_s)

    async def delete_prefix(self, prefix: str) -> int:
        """As `delete`, for every key that begins so, page by page. Answers about how many there were."""
        await self._delete_all(self._locks + prefix)
        return await self._delete_all(self._values + prefix)

    async def invalidate(self, tags: Sequence[str]) -> None:
        """Give up every value of these tags: one small write, however many there are."""
        store = await self._store()
        items = [(self._tags + tag, os.urandom(8)) for tag in tags]
        await store.set(items, ttl_ms=_TAG_MS, now=self._clock.now_ms(), timeout_s=self._timeout_s)

    async def lock(self, key: str, token: bytes, *, ms: int) -> bool:
        """Get the right to make a value, unless another process has it."""
        return await self._replace(self._locks + key, token, expected=None, ttl_ms=ms)

    async def renew(self, key: str, token: bytes, *, ms: int) -> bool:
        """Keep the right. False when it is lost."""
        return await self._replace(self._locks + key, token, expected=token, ttl_ms=ms)

    async def unlock(self, key: str, token: bytes) -> bool:
        """Give the right back. False when it was lost: somebody has deleted the key meanwhile, or took it over."""
        return await self._replace(self._locks + key, None, expected=token, ttl_ms=1)

    async def count(self, most: int) -> int:
        """How many values are stored, about; counting ends at `most`."""
        number, cursor = 0, None
        while number < most:
            page = await (await self._store()).scan(self._values, now=self._clock.now_ms(), limit=_PAGE, cursor=cursor)
            number, cursor = number + len(page.keys), page.cursor
            if cursor is None:
                break
        return min(number, most)

    async def note(self, process: str, text: str, *, ttl_ms: int) -> None:
        """Leave what a process says of itself."""
        store = await self._store()
        item = (self._notes + process, text.encode())
        await store.set([item], ttl_ms=ttl_ms, now=self._clock.now_ms(), timeout_s=self._timeout_s)

    async def notes(self) -> dict[str, bytes]:
        """What live processes have left, by process."""
        store, now = await self._store(), self._clock.now_ms()
        keys = list(dict.fromkeys((await store.scan(self._notes, now=now)).keys))
        values = await store.get(keys, now=now) if keys else ()
        return {
            key.removeprefix(self._notes): value for key, value in zip(keys, values, strict=True) if value is not None
        }

    async def _delete_all(self, prefix: str) -> int:
        number, cursor = 0, None
        while True:
            store = await self._store()
            page = await store.scan(prefix, now=self._clock.now_ms(), limit=_PAGE, cursor=cursor)
            if page.keys:
                number += await store.delete(page.keys)
            cursor = page.cursor
            if cursor is None:
                return number

    async def _store(self) -> KeyValueStore:
        return (await self._reach.engine()).keyvalue

    async def _get(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        store = (await self._reach.engine()).keyvalue
        return await store.get(keys, now=self._clock.now_ms(), timeout_s=self._timeout_s)

    async def _replace(self, key: str, value: bytes | None, *, expected: bytes | None, ttl_ms: int) -> bool:
        store = await self._store()
        now = self._clock.now_ms()
        return await store.replace(key, value, expected=expected, ttl_ms=ttl_ms, now=now, timeout_s=self._timeout_s)
