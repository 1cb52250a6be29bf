"""The relay: hands the jobs of an outbox to the store, for as long as a worker runs."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress

from toril.errors import EngineUnavailable
from toril.kernel.backoff import wait_s
from toril.kernel.clock import Clock
from toril.outbox.destination import Destination
from toril.outbox.forwarder import Forwarder
from toril.outbox.table import Database, OutboxTable

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0

_log = logging.getLogger("toril.outbox")


class Relay:
    """Runs in as many workers as there are; each takes its own part. `poll_s` is how often it looks by itself."""

    def __init__(
        self, database: Database, table: str, destination: Destination, *, poll_s: float, clock: Clock
    ) -> None:
        self._database = database
        self._table = table
        self._destination = destination
        self._poll_s = poll_s
        self._clock = clock
        self._lock = threading.Lock()
        self._running: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    def nudge(self) -> None:
        """There is something to do: called from any thread."""
        with self._lock:
            running = list(self._running.items())
        for nudged, loop in running:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(nudged.set)

    def table(self) -> OutboxTable:
        """A view of the table, of its own."""
        return OutboxTable(self._database, self._table)

    async def run(self) -> None:
        """Relay until cancelled."""
        forwarder = Forwarder(self.table(), self._destination, self._clock)
        nudged = asyncio.Event()
        with self._lock:
            self._running[nudged] = asyncio.get_running_loop()
        try:
            failures = 0
            while True:
                nudged.clear()
                failures = await self._once(forwarder, failures)
                wait = self._poll_s
                if failures:
                    wait = wait_s(failures, base_s=_FIRST_WAIT_S, cap_s=_LONGEST_WAIT_S, jitter=0.3)
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await nudged.wait()
        finally:
            with self._lock:
                del self._running[nudged]

    async def close(self) -> None:
        """Let go of the database."""
        await self._database.close()

    async def _once(self, forwarder: Forwarder, failures: int) -> int:
        """Relay what there is. Answers how often in a row that has failed."""
        try:
            if await self._destination.is_away():
                return failures + 1
            return 0 if await forwarder.forward() else failures + 1
        except EngineUnavailable as error:
            _log.log(logging.DEBUG if failures else logging.WARNING, "Jobs wait in the outbox. %s", error)
            return failures + 1
