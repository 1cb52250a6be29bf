"""The cache while its store is away: values still come, nobody waits, and what was dropped stays dropped."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.features.absent import Absent
from toril.cache.cache import Cache
from toril.cache.cached import CachedMaker
from toril.kernel.blocking import BlockingLoop
from toril.settings import CacheSettings
from toril.testing.clock import ManualClock

# On a busy machine real processes, servers and many tasks take their time.
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def cache(absent: Absent) -> AsyncIterator[Cache]:
    cache = Cache(absent.open, clock=ManualClock(), blocking=BlockingLoop(), settings=CacheSettings())
    yield cache
    await cache.close()


def cached(cache: Cache) -> CachedMaker:
    return CachedMaker(
        cache,
        ttl="5m",
        key=None,
        name="n",
        tags=["t:{n}"],
        stale=0,
        stale_if_error=None,
        negative=None,
        early=0,
        single_flight="everywhere",
    )


async def back(cache: Cache, absent: Absent) -> None:
    """The store is there again, and the cache has noticed."""
    absent.away = False
    async with asyncio.timeout(30):
        while not cache.stats_here().store_ready:
            await asyncio.sleep(0)


async def test_functions_still_answer(cache: Cache, absent: Absent) -> None:
    # S2-05, S4-02, A19
    calls: list[int] = []

    @cached(cache)
    async def load(n: int) -> int:
        calls.append(n)
        return n

    assert [await load(1), await load(1)] == [1, 1]
    absent.away = True
    assert [await load(n) for n in (1, 2, 3, 2, 1)] == [1, 2, 3, 2, 1]
    assert await asyncio.gather(*(load(4) for _ in range(100))) == [4] * 100
    assert calls == [1, 2, 3, 4]  # also without the store its memory serves, and one makes a value for all
    assert not cache.stats_here().store_ready
    assert cache.stats_here().names["n"].unreached > 0


async def test_an_absence_is_remembered(cache: Cache, absent: Absent) -> None:
    @cached(cache)
    async def load(n: int) -> int:
        return n

    await load(0)
    absent.away = True
    await load(1)
    asked = absent.asked
    for n in range(500):
        assert await load(n) == n
    assert absent.asked - asked <= 1  # who looks after it may have come by
    assert await cache.get("a") is None
    assert await cache.delete("a") == 0
    await cache.set("a", 1)
    assert await cache.get("a") == 1
    assert (await cache.stats()).store_ready is False


async def test_what_was_dropped_meanwhile_is_dropped_when_the_store_is_back(cache: Cache, absent: Absent) -> None:
    for key in ("a", "b", "c:1", "keep"):
        await cache.set(key, "old", tags=["t"] if key == "a" else [])
    absent.away = True
    cache.local.clear()
    await cache.invalidate("t")
    await cache.delete("b")
    await cache.delete_prefix("c:")
    await back(cache, absent)
    assert await cache.get_many(["a", "b", "c:1", "keep"]) == {"keep": "old"}


async def test_what_was_set_meanwhile_does_not_bring_the_old_value_back(cache: Cache, absent: Absent) -> None:
    await cache.set("a", "old")
    absent.away = True
    await cache.set("a", "new")
    await back(cache, absent)
    assert await cache.get("a") in ("new", None)
    cache.local.clear()
    assert await cache.get("a") is None
