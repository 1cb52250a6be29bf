"""A worker as an application has it: it opens the store by itself, and takes its options from the settings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from toril.engine.open import Opening
from toril.kernel.durations import Duration, seconds
from toril.settings import Settings
from toril.worker.options import WorkerOptions
from toril.worker.worker import Worker


class OpeningWorker(Worker):
    """A worker that opens its application's store when it starts. Then `resume` sees to what an outage has left, and
    `relay` runs until it stops.
    """

    def __init__(
        self,
        opening: Opening,
        *,
        resume: Callable[[], Awaitable[None]] | None = None,
        relay: Callable[[], Awaitable[None]] | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        self._opening = opening
        self._resume = resume
        self._relay = relay
        self.loop: asyncio.AbstractEventLoop | None = None

    async def on_start(self) -> None:
        self.loop = asyncio.get_running_loop()
        await self._opening.get()
        await super().on_start()
        if self._resume is not None:
            await self._resume()
        if self._relay is not None:
            self.supervise("outbox", self._relay)


def options_of(
    settings: Settings, concurrency: int | None, shutdown_timeout: Duration | None, eco: bool | None = None
) -> WorkerOptions:
    """What the settings say, but for what is given. Raises ConfigError."""
    worker = settings.worker
    patience = worker.shutdown_timeout if shutdown_timeout is None else seconds(shutdown_timeout, "shutdown_timeout")
    return WorkerOptions(
        concurrency=worker.concurrency if concurrency is None else concurrency,
        lock_ms=round(worker.lock * 1000),
        heartbeat_ms=round(worker.heartbeat * 1000),
        recover_every_ms=round(worker.recover_every * 1000),
        max_stalls=worker.max_stalls,
        shutdown_timeout_s=patience,
        poll_s=worker.poll,
        eco=worker.eco if eco is None else eco,
        unknown=worker.unknown,
        processes=worker.processes,
        result_limit=settings.jobs.result_limit,
        result_over_limit=settings.jobs.result_over_limit,
    )
