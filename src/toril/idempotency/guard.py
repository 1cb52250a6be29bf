"""`Guard`: who may do the work of a key, and what came of it, in one record of the store per key."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal, NamedTuple

from toril.engine.ports.keyvalue import KeyValueStore
from toril.engine.protocol import Engine
from toril.engine.reach import Reach
from toril.errors import EngineUnavailable
from toril.kernel.clock import Clock

OnOutage = Literal["fail", "run"]

# A record is its kind, the fingerprint of what was asked, and the token of who does it, or what came of it.
_RUNNING, _DONE = b"R", b"D"
_MARK_BYTES = 16

_log = logging.getLogger("toril.idempotency")


class Claim(NamedTuple):
    """What became of asking for the work of a key.

    `mine`: it is the caller's to do, and `record` proves that. `done`: `result` is what came of it. `running`: another
    does it. `mismatch`: under this key something else was asked.
    """

    state: Literal["mine", "done", "running", "mismatch"]
    record: bytes = b""
    result: bytes = b""


class Guard:
    """The records of one application. Every method raises EngineUnavailable, at once while the store is known to be
    away.
    """

    def __init__(
        self,
        open_engine: Callable[[], Awaitable[Engine]],
        *,
        clock: Clock,
        lock_ms: int,
        timeout_s: float,
        on_outage: OnOutage,
    ) -> None:
        meanwhile = "work is refused that must be done once" if on_outage == "fail" else "work may be done twice"
        self._reach = Reach(open_engine, what="idempotency", meanwhile=meanwhile)
        self._clock = clock
        self._lock_ms = lock_ms
        self._timeout_s = timeout_s
        self.on_outage = on_outage

    async def claim(self, name: str, asked: bytes) -> Claim:
        """Ask for the work of a key. `asked` is what is asked for: the same key stands for the same only."""
        key, mark = _key(name), _mark(asked)
        mine = _RUNNING + mark + os.urandom(_MARK_BYTES)
        while True:
            if await self._replace(key, mine, expected=None, ttl_ms=self._lock_ms):
                return Claim("mine", mine)
            store = await self._store()
            [found] = await store.get([key], now=self._clock.now_ms(), timeout_s=self._timeout_s)
            if found is None:
                continue
            if found == mine:
                # The answer that it was stored had been lost.
                return Claim("mine", mine)
            if found[1 : 1 + _MARK_BYTES] != mark:
                return Claim("mismatch")
            if found[:1] == _DONE:
                return Claim("done", result=found[1 + _MARK_BYTES :])
            return Claim("running")

    async def settle(self, name: str, claim: Claim, result: bytes, *, ttl_ms: int) -> bool:
        """Record what came of the work. False when the right to do it had run out, and another may have done it too."""
        key, done = _key(name), _DONE + claim.record[1 : 1 + _MARK_BYTES] + result
        if await self._replace(key, done, expected=claim.record, ttl_ms=ttl_ms):
            return True
        store = await self._store()
        return (await store.get([key], now=self._clock.now_ms(), timeout_s=self._timeout_s))[0] == done

    async def release(self, name: str, claim: Claim) -> None:
        """Nothing came of it: whoever asks next may do it."""
        await self._replace(_key(name), None, expected=claim.record, ttl_ms=1)

    async def forget(self, name: str) -> bool:
        """Forget a key, whatever came of it. Answers whether there was something to forget."""
        return bool(await (await self._store()).delete([_key(name)], timeout_s=self._timeout_s))

    @asynccontextmanager
    async def holding(self, name: str, claim: Claim) -> AsyncIterator[None]:
        """Keep the right to do the work while it is done, however long that takes."""
        renewal = asyncio.get_running_loop().create_task(self._renew(_key(name), claim.record))
        try:
            yield
        finally:
            renewal.cancel()

    async def close(self) -> None:
        """Look after the store no longer."""
        await self._reach.close()

    def lost(self, error: EngineUnavailable) -> None:
        """A call has failed because the store is away: the next ones do not wait for it."""
        self._reach.lost(error)

    async def _renew(self, key: str, record: bytes) -> None:
        while True:
            await asyncio.sleep(self._lock_ms / 3000)
            try:
                if not await self._replace(key, record, expected=record, ttl_ms=self._lock_ms):
                    _log.warning("The right to do the work of a key was lost while it was done: it may be done twice.")
                    return
            except EngineUnavailable as error:
                self._reach.lost(error)

    async def _store(self) -> KeyValueStore:
        return (await self._reach.engine()).keyvalue

    async def _replace(self, key: str, value: bytes | None, *, expected: bytes | None, ttl_ms: int) -> bool:
        store, now = await self._store(), self._clock.now_ms()
        return await store.replace(key, value, expected=expected, ttl_ms=ttl_ms, now=now, timeout_s=self._timeout_s)


def _key(name: str) -> str:
    return f"once:{hashlib.blake2b(name.encode(errors='surrogatepass'), digest_size=24).hexdigest()}"


def _mark(asked: bytes) -> bytes:
    return hashlib.blake2b(asked, digest_size=_MARK_BYTES).digest()
