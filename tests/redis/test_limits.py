"""Limits on a real server: exact over processes, and never a burden when the server does not answer."""

import asyncio
import subprocess
import sys
import time

import pytest

from tests.redis.conftest import StartServer
from toril import Settings, Toril
from toril.settings import LimitSettings

# On a busy machine real processes, servers and many tasks take their time.
pytestmark = pytest.mark.timeout(60)

TAKER = """
import asyncio, sys
from toril import Settings, Toril
from toril.settings import LimitSettings

async def main():
    async with Toril(sys.argv[1], settings=Settings(limits=LimitSettings(timeout=30))) as toril:
        limit = toril.limit("api", "1000/15m")
        burst = toril.limit("burst", "1000/24h", algorithm="gcra")
        sys.stdin.readline()
        said = await asyncio.gather(*(limit.hit("ip") for _ in range(400)), *(burst.hit("ip") for _ in range(400)))
        print(*(sum(one.allowed for one in said if one.name == name) for name in ("api", "burst")))

asyncio.run(main())
"""


async def test_four_processes_are_let_through_a_thousand_times(start_server: StartServer) -> None:
    # S3-33, A20
    command = [sys.executable, "-c", TAKER, start_server().url]
    takers = [
        await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)
    ]
    answers = [out.split() for out, _ in await asyncio.gather(*(taker.communicate(b"\n") for taker in takers))]
    assert [sum(int(answer[at]) for answer in answers) for at in (0, 1)] == [1000, 1000]


async def test_a_frozen_server_holds_up_nobody_but_the_first(start_server: StartServer) -> None:
    # A20
    server = start_server()
    async with Toril(server.url, settings=Settings(limits=LimitSettings(timeout=2))) as toril:
        limit = toril.limit("api", "5/h")
        assert (await limit.hit("ip", cost=4)).remaining == 1
        server.freeze()
        first = await asyncio.gather(*(limit.hit("ip") for _ in range(50)))
        assert {one.counted for one in first} == {"local"}
        assert sum(one.allowed for one in first) == 5
        began = time.monotonic()
        later = [await limit.hit("ip") for _ in range(500)]
        # Had each of them waited, it would have been 1,000 s.
        assert time.monotonic() - began < 15
        assert not any(later)
        server.thaw()
        while (decision := await limit.peek("ip", cost=0)).counted == "local":
            await asyncio.sleep(0.05)
        # What was asked while nobody answered may have been counted when the server went on.
        assert decision.remaining <= 1


async def test_a_restarted_server_is_taught_its_script_again(start_server: StartServer) -> None:
    server = start_server("--appendonly", "yes", "--appendfsync", "always")
    async with Toril(server.url, settings=Settings(limits=LimitSettings(timeout=10))) as toril:
        limit = toril.limit("api", "5/h")
        assert (await limit.hit("ip")).remaining == 4
        server.stop()
        server.start()
        while (present := await limit.peek("ip", cost=0)).counted == "local":
            await asyncio.sleep(0.05)
        assert present.remaining == 4
        decisions = await asyncio.gather(*(limit.hit("ip") for _ in range(3)))
        assert sorted(decision.remaining for decision in decisions) == [1, 2, 3]
