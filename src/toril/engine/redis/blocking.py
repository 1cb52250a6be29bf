"""A connection of its own for a command that blocks on the server: BZPOPMIN, XREAD BLOCK."""

from __future__ import annotations

import asyncio
from typing import Any

from toril.engine.redis.client import RedisClient
from toril.engine.redis.wire import Arg
from toril.errors import ConfigError


class BlockingClient(RedisClient):
    """A `RedisClient` for one blocking wait at a time."""

    _blocked = False

    async def wait(self, *command: Arg, block_s: float, margin_s: float = 2.0) -> Any:
        """Send a command that blocks for at most `block_s` seconds, and return its reply (None when nothing came).

        The watchdog is `block_s + margin_s`: a connection that has not answered by then is dropped. Cancelling drops
        the connection too, so that the server stops waiting; an element that was popped at that very moment is lost.
        Raises what `call` raises, and ConfigError for a wait without end or while another one is going on.
        """
        if not 0 < block_s < float("inf"):
            raise ConfigError(
                f"{self.location}: block_s: expected seconds above 0 (0 would block for ever), got {block_s!r}."
            )
        if self._blocked:
            raise ConfigError(f"{self.location}: expected one blocking wait at a time, got a second one.")
        self._blocked = True
        try:
            return await self.call(*command, timeout_s=block_s + margin_s)
        except asyncio.CancelledError:
            if self._wire is not None and self._wire.pending:
                self.drop("its blocking wait was cancelled")
            raise
        finally:
            self._blocked = False
