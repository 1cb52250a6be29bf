"""`BreakerStore`: the records of all breakers of an application in one store, and how changes become known."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from toril.breaker.record import Record, decoded
from toril.engine.protocol import Engine
from toril.engine.reach import Reach
from toril.errors import EngineUnavailable
from toril.kernel.blocking import BlockingLoop
from toril.kernel.clock import Clock
from toril.kernel.ids import token_hex

PREFIX = "breaker:"
CHANNEL = "toril:breakers"
_KEPT_MS = 30 * 24 * 60 * 60 * 1000
_MESSAGE_KEPT_MS = 60 * 60 * 1000
_MESSAGES_KEPT = 100
_LONGEST_READ_S = 30.0
_TRIES = 30
_PAUSE_S = 0.01
_AGAIN_S = 1.0

Step = Callable[[Record, int], Record | None]
Seen = Callable[[dict[str, bytes | None]], None]


class BreakerStore:
    """One per application. `names` are the breakers to look after; `seen` is told what the store says of them, and
    `unreached` that it could not be asked.
    """

    def __init__(
        self,
        open_engine: Callable[[], Awaitable[Engine]],
        *,
        clock: Clock,
        blocking: BlockingLoop,
        timeout_s: float,
        names: Callable[[], list[str]],
        seen: Seen,
        unreached: Callable[[], None],
    ) -> None:
        self.blocking = blocking
        self.who = token_hex(4)
        self._clock = clock
        self._timeout_s = timeout_s
        self._names = names
        self._seen = seen
        self._unreached = unreached
        self._reach = Reach(open_engine, what="breakers", meanwhile="each process has breakers of its own")
        self._tasks: set[asyncio.Task[Any]] = set()
        self._follower: asyncio.Task[None] | None = None

    def now_ms(self) -> int:
        """Wall time (ms)."""
        return self._clock.now_ms()

    async def refresh(self) -> None:
        """Look at every breaker's record, in one round trip. Raises nothing: away is told."""
        names = self._names()
        try:
            engine = await self._reach.engine()
            values = await engine.keyvalue.get(
                [PREFIX + name for name in names], now=self.now_ms(), timeout_s=self._timeout_s
            )
        except EngineUnavailable as error:
            self._lost(error)
            self._unreached()
            return
        self._seen(dict(zip(names, values, strict=True)))
        self._follow()

    async def change(self, name: str, known: bytes | None, step: Step) -> tuple[bytes | None, Record]:
        """Take a step: compare and set until nobody was faster. `known` is what the store held last. Answers what it
        holds now. Raises EngineUnavailable.
        """
        key = PREFIX + name
        try:
            engine = await self._reach.engine()
            for attempt in range(_TRIES):
                record = decoded(known)
                after = step(record, self.now_ms())
                if attempt and (after is None or after is record):
                    return known, record
                if after is not None and after is not record:
                    raw = after.encoded()
                    if await engine.keyvalue.replace(
                        key, raw, expected=known, ttl_ms=_KEPT_MS, now=self.now_ms(), timeout_s=self._timeout_s
                    ):
                        if after.effective != record.effective or after.patch != record.patch:
                            await self._tell(engine, name)
                        return raw, after
                if attempt > 1:
                    await asyncio.sleep(random.random() * _PAUSE_S)
                # Also when there was nothing to do: what was known may be old.
                [known] = await engine.keyvalue.get([key], now=self.now_ms(), timeout_s=self._timeout_s)
        except EngineUnavailable as error:
            self._lost(error)
            raise
        raise EngineUnavailable(f"Breaker {name!r}: others changed its record {_TRIES} times in a row.")

    def look(self) -> None:
        """`refresh` beside what goes on; in synchronous code at once."""
        self.later(0.0, self.refresh)

    def later(self, delay_s: float, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do something beside what goes on, after a while; in synchronous code at once."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self.blocking.run(make)
            return
        self.spawn(make() if delay_s <= 0 else _delayed(delay_s, make))

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something beside what goes on, to its end."""
        task = asyncio.get_running_loop().create_task(work, name="toril-breakers")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def idle(self) -> None:
        """Wait until nothing is done beside what goes on, in this event loop."""
        loop = asyncio.get_running_loop()
        while mine := [task for task in self._tasks if task.get_loop() is loop]:
            await asyncio.wait(mine)

    async def close(self) -> None:
        """Look at nothing any more. Using it again begins anew."""
        loop = asyncio.get_running_loop()
        tasks = [*self._tasks, *([self._follower] if self._follower is not None else [])]
        self._follower = None
        mine = [task for task in tasks if task.get_loop() is loop and not task.done()]
        for task in mine:
            task.cancel()
        if mine:
            await asyncio.wait(mine)
        for task in tasks:
            if task not in mine and not task.get_loop().is_closed():
                task.get_loop().call_soon_threadsafe(task.cancel)
        await self._reach.close()

    def _lost(self, error: EngineUnavailable) -> None:
        if not self._reach.is_away:
            self._reach.lost(error)

    async def _tell(self, engine: Engine, name: str) -> None:
        """Others look at once, instead of at their next look."""
        await engine.channels.publish(
            CHANNEL, [name.encode()], keep=_MESSAGES_KEPT, ttl_ms=_MESSAGE_KEPT_MS, now=self.now_ms()
        )

    def _follow(self) -> None:
        follower = self._follower
        if follower is None or follower.done() or follower.get_loop().is_closed():
            self._follower = asyncio.get_running_loop().create_task(self._followed(), name="toril-breakers-follow")

    async def _followed(self) -> None:
        """Look whenever somebody says that something has changed."""
        while True:
            try:
                engine = await self._reach.engine()
                last = await engine.channels.last(CHANNEL, now=self.now_ms())
                tail = await engine.channels.tail()
                try:
                    tail.follow({CHANNEL: last})
                    await self.refresh()
                    while True:
                        if await tail.read(timeout=_LONGEST_READ_S):
                            await self.refresh()
                finally:
                    await tail.close()
            except EngineUnavailable as error:
                self._lost(error)
                await asyncio.sleep(_AGAIN_S)


async def _delayed(delay_s: float, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await asyncio.sleep(delay_s)
    await make()
