"""How many listen to a channel, over all processes.

Each process publishes how many it has, when that changes and every while, to a channel beside the one that is counted.
Who counts adds up the newest number of each process, leaving out those that have gone silent: compared with the newest
message of all, so that clocks do not matter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from toril.engine.protocol import Engine
from toril.errors import EngineError
from toril.kernel import codec
from toril.kernel.ids import token_hex

_log = logging.getLogger("toril.realtime")

BEAT_S = 20.0
SILENT_MS = 50_000
_KEEP = 2_000
_TOGETHER_S = 0.05


def presence_channel(name: str) -> str:
    """Where the numbers of a channel are published."""
    return f"presence:{name}"


class Presence:
    """The listeners of one event loop, by channel. Told by `join` and `leave`."""

    def __init__(self, open_store: Callable[[], Awaitable[Engine]], now: Callable[[], int]) -> None:
        self._open = open_store
        self._now = now
        self._id = token_hex(6)
        self._counts: dict[str, int] = {}
        self._changed: set[str] = set()
        self._woken = asyncio.Event()
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def join(self, name: str) -> None:
        """One more listens."""
        self._counts[name] = self._counts.get(name, 0) + 1
        self._tell(name)

    def leave(self, name: str) -> None:
        """One less listens."""
        self._counts[name] -= 1
        self._tell(name)

    async def flush(self) -> None:
        """Tell the store the present numbers now. Raises EngineError."""
        async with self._lock:
            for name in list(self._changed):
                await self._publish(name)

    async def close(self) -> None:
        """Say that nobody listens here any more, as far as that can be said."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        names = [name for name in self._counts if self._counts[name] or name in self._changed]
        self._counts = dict.fromkeys(names, 0)
        for name in names:
            try:
                await self._publish(name)
            except EngineError:
                # Their last numbers grow old, and are left out then.
                return

    def _tell(self, name: str) -> None:
        self._changed.add(name)
        self._woken.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="toril-presence")

    async def _run(self) -> None:
        while self._counts:
            try:
                async with asyncio.timeout(BEAT_S):
                    await self._woken.wait()
                # Who comes and goes within a moment is told of once.
                await asyncio.sleep(_TOGETHER_S)
            except TimeoutError:
                self._changed |= self._counts.keys()
            self._woken.clear()
            try:
                await self.flush()
            except EngineError as error:
                _log.debug("How many listen cannot be told: %s", error)

    async def _publish(self, name: str) -> None:
        number = self._counts[name]
        self._changed.discard(name)
        said = codec.encode([self._id, number]).encode()
        try:
            store = (await self._open()).channels
            await store.publish(presence_channel(name), [said], keep=_KEEP, ttl_ms=SILENT_MS, now=self._now())
        except EngineError:
            self._changed.add(name)
            raise
        if number == 0 and self._counts.get(name) == 0:
            del self._counts[name]


async def count(engine: Engine, name: str, now: int) -> int:
    """How many listen to a channel at present. Raises EngineError."""
    newest: dict[str, tuple[int, int]] = {}
    after, latest = "0", 0
    while messages := (await engine.channels.read(presence_channel(name), after=after, now=now)).messages:
        after, latest = messages[-1].id, messages[-1].at
        for message in messages:
            process, number = codec.decode(message.data)
            newest[process] = (message.at, number)
    return sum(number for at, number in newest.values() if at >= latest - SILENT_MS)
