"""`cashews`, as its documentation shows it."""

from __future__ import annotations

from typing import Any

from cashews import Cache

from bench.blocks.child import TAGGED, VALUE, Call


class _Cashews:
    async def memory_hit(self) -> Call:
        return self._cached("mem://")

    async def store_hit(self, url: str) -> Call:
        return self._cached(url)

    async def tagged(self, url: str) -> Call:
        cache = Cache()
        cache.setup(url)
        cache.register_tag("all", "k{number}")
        for number in range(TAGGED):
            await cache.set(f"k{number}", number, expire=3600, tags=["all"])
        return lambda: cache.delete_tags("all")

    @staticmethod
    def _cached(url: str) -> Call:
        cache = Cache()
        cache.setup(url)

        async def load(user_id: str) -> dict[str, Any]:
            return VALUE

        kept = cache(ttl="1h")(load)
        return lambda: kept("42")


CONTESTANT = _Cashews()
