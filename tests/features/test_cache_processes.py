"""One cache in several processes: one makes a value for all, another takes over when it dies, all hear of changes."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.redis.conftest import shared_server
from tests.redis.server import RedisServer
from toril import Settings, Toril
from toril.engine.redis.address import parse_address
from toril.engine.redis.client import RedisClient
from toril.settings import CacheSettings

__all__ = ["shared_server"]

# On a busy machine real processes, servers and many tasks take their time.
pytestmark = pytest.mark.timeout(60)

ASKER = """
import asyncio, sys
from pathlib import Path
from toril import Settings, Toril
from toril.settings import CacheSettings

async def main():
    url, folder, mode = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    async with Toril(url, settings=Settings(cache=CacheSettings(lock=5, timeout=30))) as toril:

        @toril.cached(ttl="5m", name="slow")
        async def slow(n: int) -> int:
            with (folder / "calls").open("a") as calls:
                calls.write("call\\n")
            if mode == "dies":
                (folder / "begun").touch()
                await asyncio.sleep(60)
            await asyncio.sleep(0.5)
            return n

        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        values = await asyncio.gather(*(slow(7) for _ in range(250)))
        print(len(values), set(values), flush=True)

asyncio.run(main())
"""


@pytest.fixture(params=["sqlite", "redis"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/cache.db"
        return
    server: RedisServer = request.getfixturevalue("shared_server")
    client = RedisClient(parse_address(server.url))
    await client.call("FLUSHDB")
    yield server.url
    await client.close()


async def asker(url: str, folder: Path, mode: str = "lives") -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ASKER, url, str(folder), mode), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def test_a_thousand_who_ask_in_four_processes_wait_for_one(url: str, tmp_path: Path) -> None:
    # A19
    askers = await asyncio.gather(*(asker(url, tmp_path) for _ in range(4)))
    said = await asyncio.gather(*(each.communicate(b"\n") for each in askers))
    assert [out for out, _ in said] == [b"250 {7}\n"] * 4
    assert (tmp_path / "calls").read_text().splitlines() == ["call"]


async def test_who_dies_while_making_a_value_is_taken_over_from(url: str, tmp_path: Path) -> None:
    # A19
    dying, living = await asyncio.gather(asker(url, tmp_path, "dies"), asker(url, tmp_path))
    assert dying.stdin is not None
    dying.stdin.write(b"\n")
    while not (tmp_path / "begun").exists():
        await asyncio.sleep(0.01)
    answer = asyncio.create_task(living.communicate(b"\n"))
    await asyncio.sleep(0.3)
    assert not answer.done()
    dying.kill()
    assert (await answer)[0] == b"250 {7}\n"
    await dying.wait()
    assert (tmp_path / "calls").read_text().splitlines() == ["call"] * 2


async def test_what_one_process_drops_the_others_drop(url: str) -> None:
    # A19, S3-31
    database = {"n": 1}
    settings = Settings(cache=CacheSettings(namespace="two", timeout=30))
    async with Toril(url, settings=settings) as one, Toril(url, settings=settings) as two:

        async def load() -> int:
            return database["n"]

        async def in_memory(toril: Toril) -> int:
            """Read until the value comes from the memory of that side."""
            while True:
                before = toril.cache.stats_here().names["direct"].local if toril.cache.counters.names else 0
                value = await toril.cache.get_or_set("n:1", load, tags=["t"])
                if toril.cache.stats_here().names["direct"].local > before:
                    return value
                await asyncio.sleep(0.001)

        async def become(toril: Toril, value: int) -> None:
            while await toril.cache.get_or_set("n:1", load, tags=["t"]) != value:
                await asyncio.sleep(0.001)

        for drop in (one.cache.invalidate, one.cache.delete, one.cache.delete_prefix):
            assert [await in_memory(one), await in_memory(two)] == [database["n"]] * 2
            database["n"] += 1
            await drop({"invalidate": "t", "delete": "n:1", "delete_prefix": "n:"}[drop.__name__])
            assert await one.cache.get_or_set("n:1", load, tags=["t"]) == database["n"]
            await become(two, database["n"])
        assert [await in_memory(one), await in_memory(two)] == [database["n"]] * 2
        await one.cache.set("n:1", 99)
        while await two.cache.get("n:1") != 99:
            await asyncio.sleep(0.001)


async def test_statistics_of_all_processes_are_added_up(url: str) -> None:
    # S4-11
    settings = Settings(cache=CacheSettings(namespace="sums", timeout=30))
    async with Toril(url, settings=settings) as one, Toril(url, settings=settings) as two:
        for toril in (one, two):
            await toril.cache.set("a", 1)
            await toril.cache.get("a")
            await toril.cache.get("none")
        # Each leaves its counters in the store whenever it has heard something, and every few seconds.
        while (stats := await two.cache.stats()).processes < 2 or stats.hits < 2:
            await one.cache.set("b", 1)
            await asyncio.sleep(0.05)
        assert stats.misses == 2
