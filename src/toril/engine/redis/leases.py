"""`LeaseStore` on Redis: a key beside the queue that holds the holder's name. Leases run out by the server's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from toril.engine.ports.leases import Lease, LeaseStore
from toril.engine.redis.clients import Clients
from toril.engine.redis.keys import Keys
from toril.engine.redis.records import text
from toril.engine.redis.scripts import load

_HOLD = load("leases/hold")
_RELEASE = load("leases/release")


class RedisLeaseStore:
    """The leases on one Redis."""

    def __init__(self, clients: Clients, keys: Keys) -> None:
        self._clients = clients
        self._keys = keys
        self._held: set[tuple[str, str]] = set()

    async def hold(self, queue: str, holder: str, *, ttl_ms: int, now: int) -> Lease:
        key = self._keys.queue(queue).lease
        if (queue, holder) not in self._held:
            # One plain command is all that it costs to find the lease taken.
            left = int(await self._clients.call("PTTL", key, repeatable=True))
            if left > 0:
                return Lease(False, left)
        mine, left = await self._clients.run(_HOLD, key, holder, ttl_ms)
        if mine:
            self._held.add((queue, holder))
        else:
            self._held.discard((queue, holder))
        return Lease(bool(mine), int(left))

    async def release(self, queue: str, holder: str, *, now: int) -> bool:
        self._held.discard((queue, holder))
        return bool(await self._clients.run(_RELEASE, self._keys.queue(queue).lease, holder))

    async def holders(self, queues: Sequence[str], *, now: int) -> tuple[str | None, ...]:
        # Queues may lie in different slots of a Cluster, so each is asked for by itself.
        keys = [self._keys.queue(queue).lease for queue in queues]
        found = await asyncio.gather(*(self._clients.call("GET", key, repeatable=True) for key in keys))
        return tuple(None if name is None else text(name) for name in found)


_: type[LeaseStore] = RedisLeaseStore
