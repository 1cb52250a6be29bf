"""`Kin`: reads the children of running jobs, for their handlers."""

from __future__ import annotations

import asyncio

from toril.engine.ports.flows import FlowStore
from toril.errors import ConfigError
from toril.jobs.flow import Children
from toril.tasks.children import ChildReader


class Kin:
    """Belongs to the worker's event loop; `read_sync` is for its threads."""

    def __init__(self, store: FlowStore) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()

    async def read(self, queue: str, id: str) -> Children:
        return await self._store.children(queue, id)

    def read_sync(self, queue: str, id: str) -> Children:
        try:
            running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            raise ConfigError("children_sync: expected a thread, found the worker's own loop: await ctx.children().")
        return asyncio.run_coroutine_threadsafe(self.read(queue, id), self._loop).result()


_: type[ChildReader] = Kin
