"""What a worker does while its store is away: it tries again, for ever and quietly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from toril.errors import EngineError, EngineUnavailable
from toril.kernel.backoff import wait_s
from toril.kernel.telemetry import EngineBack, EngineLost, Telemetry

T = TypeVar("T")

FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 2.0
REMIND_EVERY_S = 30.0


class Outage:
    """Shared by the loops of a worker, so that one outage is told once and not once per loop."""

    def __init__(self, worker: str, telemetry: Telemetry) -> None:
        self._worker = worker
        self._telemetry = telemetry
        self._since: float | None = None
        self._told = 0.0

    async def endure(self, loop: str, call: Callable[[], Awaitable[T]], *, parts: bool = True) -> T:
        """The answer of `call()`, repeated while the store cannot be reached. Raises EngineErrors that waiting does
        not cure; without `parts` also when only a part of the store is away, so that the caller can go on with others.
        """
        attempt = 0
        while True:
            try:
                answer = await call()
            except EngineError as error:
                if not error.retryable:
                    raise
                attempt += 1
                self._lost(loop, error)
                if not parts and isinstance(error, EngineUnavailable) and error.partial:
                    raise
            else:
                if self._since is not None:
                    self._back(loop)
                return answer
            await asyncio.sleep(wait_s(attempt, base_s=FIRST_WAIT_S, cap_s=LONGEST_WAIT_S, jitter=0.5))

    @property
    def is_on(self) -> bool:
        """True while the store is away."""
        return self._since is not None

    def _lost(self, loop: str, error: EngineError) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
        elif now < self._told + REMIND_EVERY_S:
            return
        self._told = now
        self._telemetry.emit(EngineLost(self._worker, loop, str(error)))

    def _back(self, loop: str) -> None:
        since, self._since = self._since, None
        if since is not None:
            self._telemetry.emit(EngineBack(self._worker, loop, time.monotonic() - since))
