"""A look-up whose value is made by somebody else's code in between: pages, for instance."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from toril.cache.local import LocalTier
from toril.cache.maker import Ask, Maker
from toril.cache.recipe import Recipe, Shape
from toril.cache.stats import Counters
from toril.cache.vault import Vault
from toril.engine.reach import Reach
from toril.errors import EngineUnavailable
from toril.kernel.clock import Clock

RAW: Shape[bytes] = Shape(dump=bytes, load=bytes)
"""Bytes as they are."""


class Draft:
    """`value` is what the cache has, fresh until the given time in ms, or None. What is made then is handed to `keep`;
    it is not served to anybody when one of its tags was given up meanwhile.
    """

    __slots__ = ("_keep", "fresh_until", "value")

    def __init__(
        self, value: bytes | None, fresh_until: int, keep: Callable[[bytes, int], Awaitable[None]] | None = None
    ) -> None:
        self.value = value
        self.fresh_until = fresh_until
        self._keep = keep

    async def keep(self, value: bytes, *, ttl_ms: int) -> None:
        """Store a value."""
        if self._keep is not None:
            await self._keep(value, ttl_ms)


class Drafts:
    """Opens drafts over the parts of a cache."""

    def __init__(
        self, reach: Reach, vault: Vault, local: LocalTier, maker: Maker, counters: Counters, clock: Clock
    ) -> None:
        self._reach = reach
        self._vault = vault
        self._local = local
        self._maker = maker
        self._counters = counters
        self._clock = clock

    async def open(self, key: str, tags: tuple[str, ...], name: str, *, anew: bool) -> Draft:
        """The draft of a key; with `anew` one without a value."""
        stats, now, epoch = self._counters.of(name), self._clock.now_ms(), self._local.epoch
        node = self._local.get(key)
        if node is not None and node.shape is RAW and now < node.fresh_until and not anew:
            stats.local += 1
            return Draft(node.value, node.fresh_until)
        ask = Ask(key, tags, Recipe(name=name, shape=RAW, ttl_ms=1), _nothing)
        try:
            found = await self._vault.read(key, tags)
            entry = found.entry
            if entry is not None and now < entry.fresh_until and not anew:
                stats.store += 1
                size = len(entry.payload)
                self._maker.keep(ask, entry.payload, fresh_until=entry.fresh_until, size=size, epoch=epoch)
                return Draft(entry.payload, entry.fresh_until)
            stats.misses += 1
            generations: tuple[bytes, ...] | None = await self._vault.settle(tags, found.generations)
        except EngineUnavailable as error:
            self._reach.lost(error)
            stats.unreached += 1
            generations = None

        async def keep(value: bytes, ttl_ms: int) -> None:
            fresh_until = self._clock.now_ms() + ttl_ms
            self._maker.keep(ask, value, fresh_until=fresh_until, size=len(value), epoch=epoch)
            if generations is not None:
                try:
                    await self._vault.write(
                        {key: value}, fresh_until=fresh_until, ttl_ms=ttl_ms, tags=tags, generations=generations
                    )
                except EngineUnavailable as error:
                    self._reach.lost(error)

        return Draft(None, 0, keep)


async def _nothing() -> None:
    return None
