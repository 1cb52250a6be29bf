"""Which sessions a user has: one small record per user."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Sequence

from toril.engine.ports.keyvalue import KeyValueStore
from toril.errors import EngineUnavailable
from toril.kernel import codec
from toril.kernel.clock import Clock

_MOST_TRIES = 100
MOST_SESSIONS = 100


class UserSessions:
    """The keys of each user's sessions, and when they began. At most 100 a user: the oldest ends for a further one."""

    def __init__(self, clock: Clock, *, lasting_ms: int, timeout_s: float) -> None:
        self._clock = clock
        self._lasting_ms = lasting_ms
        self._timeout_s = timeout_s

    async def of(self, store: KeyValueStore, user: str) -> dict[str, int]:
        """The sessions of a user, oldest first. Raises EngineUnavailable."""
        return (await self._read(store, _key(user)))[1]

    async def add(self, store: KeyValueStore, user: str, key: str, began: int) -> None:
        """The user has one more."""

        def added(known: dict[str, int]) -> dict[str, int]:
            return {**known, key: began}

        before = await self._change(store, user, added)
        ending = list(before)[: max(len(before) + 1 - MOST_SESSIONS, 0)]
        if ending:
            await store.delete(ending, timeout_s=self._timeout_s)

    async def remove(self, store: KeyValueStore, user: str, keys: Sequence[str]) -> None:
        """The user has these no longer."""
        gone = set(keys)
        await self._change(store, user, lambda known: {key: at for key, at in known.items() if key not in gone})

    async def _change(
        self, store: KeyValueStore, user: str, edit: Callable[[dict[str, int]], dict[str, int]]
    ) -> dict[str, int]:
        """Edit the list. Answers what it was before."""
        key = _key(user)
        for _ in range(_MOST_TRIES):
            raw, known = await self._read(store, key)
            edited = dict(list(edit(known).items())[-MOST_SESSIONS:])
            value = codec.encode(edited).encode() if edited else None
            if edited == known or await store.replace(
                key,
                value,
                expected=raw,
                ttl_ms=self._lasting_ms,
                now=self._clock.now_ms(),
                timeout_s=self._timeout_s,
            ):
                return known
            await asyncio.sleep(random.random() * 0.01)
        raise EngineUnavailable("The sessions of a user could not be listed: too many begin at the same time.")

    async def _read(self, store: KeyValueStore, key: str) -> tuple[bytes | None, dict[str, int]]:
        now = self._clock.now_ms()
        [raw] = await store.get([key], now=now, timeout_s=self._timeout_s)
        known: dict[str, int] = {} if raw is None else codec.decode(raw)
        return raw, {key: at for key, at in known.items() if at + self._lasting_ms > now}


def _key(user: str) -> str:
    return f"session-user:{hashlib.sha256(user.encode()).hexdigest()}"
