"""`Once`: run a function once per key."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, TypeVar

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError

from toril.errors import EngineUnavailable, IdempotencyMismatch, IdempotencyRunning, InvalidResult
from toril.idempotency.guard import Claim, Guard
from toril.kernel import codec
from toril.kernel.blocking import BlockingLoop
from toril.kernel.durations import Duration, milliseconds, seconds

T = TypeVar("T")

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.2

_log = logging.getLogger("toril.idempotency")


class Once:
    """`await toril.once("charge:42", charge)`: runs a function once per key, in all processes.

    Whoever asks with a key that is done gets what came of it; whoever asks while it is done waits for it.
    """

    def __init__(self, guard: Guard, blocking: BlockingLoop, *, ttl_s: float) -> None:
        self.guard = guard
        self.ttl_ms = int(ttl_s * 1000)
        self._blocking = blocking

    async def __call__(
        self,
        key: str,
        function: Callable[[], Awaitable[T]],
        *,
        ttl: Duration | None = None,
        wait: Duration = 60,
        asked: Any = None,
        type: Any = None,
    ) -> T:
        """What `await function()` answers, or has answered under this key within `ttl` (TORIL_IDEMPOTENCY_TTL).

        The result is JSON, by the annotation `type` if given. When the function raises, nothing is kept, and the next
        who asks runs it. `asked` is what is asked for: the same key with something else raises IdempotencyMismatch.
        Raises IdempotencyRunning when another has not ended it within `wait`, and EngineUnavailable while the store is
        away (with TORIL_IDEMPOTENCY_ON_OUTAGE `run` it is run then, without this protection). When the process dies in
        the midst, another runs it after TORIL_IDEMPOTENCY_LOCK: what it does should stand being begun twice.
        """
        kept_ms = self.ttl_ms if ttl is None else milliseconds(ttl, "ttl")
        adapter: TypeAdapter[Any] | None = None if type is None else TypeAdapter(type)
        try:
            claim = await self._claimed(key, codec.encode(asked).encode(), seconds(wait, "wait"))
        except EngineUnavailable as error:
            self.guard.lost(error)
            if self.guard.on_outage == "fail":
                raise
            return await function()
        if claim.state == "done":
            value: T = codec.decode(claim.result) if adapter is None else adapter.validate_json(claim.result)
            return value
        return await self._run(key, claim, function, kept_ms, adapter)

    def sync(self, key: str, function: Callable[[], T], **options: Any) -> T:
        """The same for a plain function, from synchronous code; blocks. It runs in a thread of its own."""

        async def run() -> T:
            return await asyncio.to_thread(function)

        return self._blocking.run(lambda: self(key, run, **options))

    async def forget(self, key: str) -> bool:
        """Forget what came of a key, so that it can be done again. Answers whether there was something to forget.
        Raises EngineUnavailable.
        """
        return await self.guard.forget(f"call:{key}")

    async def _claimed(self, key: str, asked: bytes, wait_s: float) -> Claim:
        claim = await until_free(self.guard, f"call:{key}", asked, wait_s)
        if claim.state == "mismatch":
            raise IdempotencyMismatch(f"Key {key!r} was used for something else: choose a new key for another call.")
        if claim.state == "running":
            raise IdempotencyRunning(f"Key {key!r} is still being worked on after {wait_s:g} s: ask again later.")
        return claim

    async def _run(
        self,
        key: str,
        claim: Claim,
        function: Callable[[], Awaitable[T]],
        ttl_ms: int,
        adapter: TypeAdapter[Any] | None,
    ) -> T:
        name = f"call:{key}"
        async with self.guard.holding(name, claim):
            try:
                value = await function()
                result = _dumped(value, adapter)
            except BaseException:
                await _quietly(self.guard, self.guard.release(name, claim))
                raise
            await _quietly(self.guard, self.guard.settle(name, claim, result, ttl_ms=ttl_ms))
        return value


async def until_free(guard: Guard, name: str, asked: bytes, wait_s: float) -> Claim:
    """Claim the work of a key; while another does it, wait for at most so many seconds. Raises EngineUnavailable."""
    deadline, pause = monotonic() + wait_s, _FIRST_PAUSE_S
    while True:
        claim = await guard.claim(name, asked)
        left = deadline - monotonic()
        if claim.state != "running" or left <= 0:
            return claim
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE_S)


async def _quietly(guard: Guard, work: Awaitable[object]) -> None:
    """The work is done, or not: that the store did not hear of it must not change what the caller is told."""
    try:
        await work
    except EngineUnavailable as error:
        guard.lost(error)
        _log.warning("What came of a key could not be stored: it may be done once more. %s", error)


def _dumped(value: Any, adapter: TypeAdapter[Any] | None) -> bytes:
    try:
        return codec.encode(value).encode() if adapter is None else adapter.dump_json(value, warnings="error")
    except (ValueError, PydanticSerializationError) as error:
        raise InvalidResult(f"The result of a call that is made once cannot be stored as JSON: {error}.") from error
