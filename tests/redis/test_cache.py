"""The cache on a real server that freezes, is killed, and comes back."""

import asyncio
import time

import pytest

from tests.redis.conftest import StartServer
from toril import Settings, Toril
from toril.settings import CacheSettings

# On a busy machine real processes, servers and many tasks take their time.
pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("how", ["frozen", "killed"])
async def test_a_server_that_is_away_holds_up_nobody_but_the_first(start_server: StartServer, how: str) -> None:
    # S2-05, A19
    server = start_server()
    calls: list[int] = []
    async with Toril(server.url, settings=Settings(cache=CacheSettings(timeout=2))) as toril:

        @toril.cached(ttl="5m", tags=["n:{n}"])
        async def load(n: int) -> int:
            calls.append(n)
            return n

        assert [await load(n) for n in (1, 2, 1)] == [1, 2, 1]
        (server.freeze if how == "frozen" else server.kill)()
        assert await asyncio.gather(*(load(3) for _ in range(50))) == [3] * 50
        began = time.monotonic()
        for n in range(300):
            assert await load(n) == n
            await toril.cache.invalidate(f"n:{n}")
        # Had each of them waited, it would have been 1,200 s.
        assert time.monotonic() - began < 20
        (server.thaw if how == "frozen" else server.start)()
        while not (await toril.cache.stats()).store_ready:
            await asyncio.sleep(0.05)
        before = len(calls)
        toril.cache.local.clear()
        assert await load(1) == 1
        assert len(calls) == before + 1  # its tag was given up meanwhile
        toril.cache.local.clear()
        assert await load(1) == 1
        assert len(calls) == before + 1


async def test_a_tag_on_many_values_is_given_up_at_once(start_server: StartServer) -> None:
    async with Toril(start_server().url, settings=Settings(cache=CacheSettings(timeout=30))) as toril:
        for at in range(0, 10_000, 1_000):
            await toril.cache.set_many({f"k{n}": n for n in range(at, at + 1_000)}, tags=["all"])
        await toril.cache.set("other", 1)
        await toril.cache.invalidate("all")
        assert await toril.cache.get_many([f"k{n}" for n in range(0, 10_000, 500)] + ["other"]) == {"other": 1}
