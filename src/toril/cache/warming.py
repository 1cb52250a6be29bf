"""Filling the cache when an application starts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic

from toril.errors import ConfigError

WarmUp = Callable[[], Awaitable[int]]

_log = logging.getLogger("toril.cache")


class Warming:
    """The hooks that fill a cache."""

    def __init__(self) -> None:
        self._hooks: dict[str, WarmUp] = {}

    def add(self, hook: WarmUp) -> None:
        """One more hook. Raises ConfigError for a second one of the same name."""
        name = getattr(hook, "__name__", repr(hook))
        if name in self._hooks:
            raise ConfigError(f"cache.warm_up: there is a hook called {name!r} already.")
        self._hooks[name] = hook

    async def run(self, timeout_s: float) -> dict[str, int]:
        """Run all side by side, and log their counts; those that fail or take too long have none."""
        if not self._hooks:
            return {}
        began = monotonic()
        tasks = {asyncio.ensure_future(hook()): name for name, hook in self._hooks.items()}
        try:
            _, late = await asyncio.wait(tasks, timeout=timeout_s)
        finally:
            for task in tasks:
                task.cancel()
        counts: dict[str, int] = {}
        for task, name in tasks.items():
            if task in late:
                _log.warning("Warming up the cache: %s was not done within %.3g s.", name, timeout_s)
                await asyncio.wait([task])
            elif (error := task.exception()) is not None:
                _log.warning("Warming up the cache: %s failed: %r.", name, error)
            else:
                counts[name] = task.result()
        listed = ", ".join(f"{count} {name}" for name, count in counts.items())
        _log.info("Warmed up the cache: %s in %.2f s.", listed or "nothing", monotonic() - began)
        return counts
