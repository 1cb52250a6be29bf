"""`limits`, its asyncio side over redis-py: the sliding window counter, the quickest of its exact enough strategies."""

from __future__ import annotations

from importlib import import_module

from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from bench.blocks.child import Call


class _Limits:
    async def limit(self, url: str) -> Call:
        limiter = SlidingWindowCounterRateLimiter(RedisStorage(f"async+{url}", implementation="redispy"))
        rate = import_module("limits").parse("100000000/15 minutes")
        return lambda: limiter.hit(rate, "1.2.3.4")


CONTESTANT = _Limits()
