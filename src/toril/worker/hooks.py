"""Functions of the application that are called when something happens in a worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from toril.kernel.telemetry import JobLockLost, Telemetry

LockLostCallback = Callable[[JobLockLost], Awaitable[None] | None]

_log = logging.getLogger("toril.worker")


def call_back(telemetry: Telemetry, kind: type[Any], callback: Callable[[Any], Awaitable[None] | None]) -> None:
    """Call `callback` with each event of `kind`; a coroutine runs as a task of the event loop where it happens."""
    running: set[asyncio.Future[None]] = set()

    def heard(event: Any) -> None:
        answer = callback(event)
        if answer is not None:
            # Kept until it has ended: the loop itself forgets tasks that nobody holds.
            future = asyncio.ensure_future(_logged(answer, callback))
            running.add(future)
            future.add_done_callback(running.discard)

    telemetry.subscribe(heard, kind)


async def _logged(answer: Awaitable[None], callback: object) -> None:
    try:
        await answer
    except Exception:  # noqa: BLE001 - it is the application's own affair, and nobody awaits it
        _log.exception("%r failed.", getattr(callback, "__qualname__", callback))
