"""The set of queues that Toril knows. Scripts write it in the same step as a queue, where it lies in the same slot."""

from __future__ import annotations

from time import monotonic

from toril.engine.redis.clients import Clients
from toril.engine.redis.keys import Keys
from toril.engine.redis.records import text

# Another process may have taken a queue out of the set since.
_BELIEVED_S = 2.0


class QueueRegistry:
    """The queues of one store. In a Cluster with a slot for each queue the set has a slot of its own, and is written in
    a step of its own: before a queue gets its first key, and after it has lost its last one.
    """

    def __init__(self, clients: Clients, keys: Keys) -> None:
        self._clients = clients
        self._keys = keys
        self._noted: dict[str, float] = {}
        self.key = "" if keys.spread else keys.queues()
        """What scripts are given as the set; empty when they cannot write it."""

    async def note(self, *queues: str) -> None:
        """Put queues into the set, where no script does it."""
        if self._keys.spread:
            now = monotonic()
            new = [queue for queue in queues if now - self._noted.get(queue, now - _BELIEVED_S) >= _BELIEVED_S]
            if new:
                await self._clients.call("SADD", self._keys.queues(), *new, repeatable=True)
                self._noted |= dict.fromkeys(new, now)

    async def forget(self, queue: str) -> None:
        """Take a queue out of the set, where no script does it."""
        if self._keys.spread:
            self._noted.pop(queue, None)
            await self._clients.call("SREM", self._keys.queues(), queue, repeatable=True)

    async def names(self) -> list[str]:
        """All queues, sorted."""
        members = await self._clients.call("SMEMBERS", self._keys.queues(), repeatable=True)
        return sorted(text(name) for name in members)
