"""A store as a block beside jobs reaches it: after the first call that failed because it is away nobody waits for it.

One task looks after it; until it has found the store again, everybody else is answered at once.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable

from toril.engine.protocol import Engine
from toril.errors import EngineUnavailable, TorilError
from toril.kernel.backoff import wait_s

_FIRST_LOOK_S = 0.1
_LONGEST_LOOK_S = 1.0
_PROBE = "toril:probe"
_PROBE_KEPT_MS = 1_000

_log = logging.getLogger("toril.outage")


class Reach:
    """The store of one block. `what` names the block in the log, `meanwhile` says what holds while the store is away,
    `returning` is called when it answers again, before anybody else may use it. Safe to share between threads.
    """

    def __init__(
        self,
        open_engine: Callable[[], Awaitable[Engine]],
        *,
        what: str,
        meanwhile: str,
        returning: Callable[[Engine], Awaitable[None]] | None = None,
    ) -> None:
        self._open = open_engine
        self._what = what
        self._meanwhile = meanwhile
        self._returning = returning
        self._lock = threading.Lock()
        self._away: EngineUnavailable | None = None
        self._since = 0.0
        self._look: asyncio.Task[None] | None = None

    @property
    def is_away(self) -> bool:
        """True while the store is known to be away."""
        return self._away is not None

    async def engine(self) -> Engine:
        """The store, started. Raises EngineUnavailable at once while it is known to be away."""
        if self._away is None:
            try:
                return await self._open()
            except EngineUnavailable as error:
                self.lost(error)
                raise
        self._keep_looking()
        raise EngineUnavailable(str(self._away))

    def lost(self, error: EngineUnavailable) -> None:
        """A call has failed because the store is away."""
        with self._lock:
            first = self._away is None
            if first:
                self._away = EngineUnavailable(str(error))
        if first:
            self._since = time.monotonic()
            _log.warning("%s: the store is away, and until it is back %s. %s", self._what, self._meanwhile, error)
        self._keep_looking()

    async def close(self) -> None:
        """Look no longer. Using it again begins anew."""
        with self._lock:
            look, self._look, self._away = self._look, None, None
        if look is None or look.done():
            return
        if look.get_loop() is asyncio.get_running_loop():
            look.cancel()
            await asyncio.wait([look])
        elif not look.get_loop().is_closed():
            look.get_loop().call_soon_threadsafe(look.cancel)

    def _keep_looking(self) -> None:
        """See to it that somebody looks after the store, in a loop that runs."""
        with self._lock:
            look = self._look
            if self._away is None or (look is not None and not look.done() and not look.get_loop().is_closed()):
                return
            self._look = asyncio.get_running_loop().create_task(self._until_back(), name=f"toril-{self._what}-outage")

    async def _until_back(self) -> None:
        tries = 0
        while self._away is not None:
            tries += 1
            await asyncio.sleep(wait_s(tries, base_s=_FIRST_LOOK_S, cap_s=_LONGEST_LOOK_S, jitter=0.3))
            try:
                engine = await self._open()
                # Written, not read: a server that has lost its replicas, or its disk, still answers readers.
                await engine.keyvalue.set([(_PROBE, b"")], ttl_ms=_PROBE_KEPT_MS, now=0)
                if self._returning is not None:
                    await self._returning(engine)
            except TorilError:
                continue
            self._away = None
            _log.warning("%s: the store is back after %.1f s.", self._what, time.monotonic() - self._since)
