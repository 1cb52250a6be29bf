"""What waiting for work costs a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.redis.server import RedisServer
from toril.engine.redis import waiting
from toril.engine.redis.address import parse_address
from toril.engine.redis.client import RedisClient
from toril.engine.redis.engine import RedisEngine

QUEUES = ["a", "b", "c", "d"]
LOOKS = 20
BLOCK_S = 0.4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    redis = RedisServer(tmp_path_factory.mktemp("waiting"))
    redis.start()
    yield redis
    redis.stop()


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[RedisClient]:
    client = RedisClient(parse_address(server.url))
    yield client
    await client.close()


async def calls(client: RedisClient) -> dict[str, int]:
    """How often each command was executed, the scripts' own ones left out by their names."""
    lines = (await client.call("INFO", "commandstats")).decode().split()
    stats = [line.removeprefix("cmdstat_").partition(":calls=") for line in lines if line.startswith("cmdstat_")]
    return {name: int(rest.partition(",")[0]) for name, _, rest in stats}


async def test_an_idle_worker_of_many_queues_blocks_once_for_all_of_them(
    server: RedisServer, client: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often its pumps look by themselves, and come back one by one, one command blocks for all of them."""
    monkeypatch.setattr(waiting, "_LONGEST_BLOCK_S", BLOCK_S)
    engine = RedisEngine(server.url)
    await engine.start()
    gate = asyncio.Event()
    waited = 0
    never = asyncio.get_running_loop().create_future()

    async def listen(queue: str) -> None:
        nonlocal waited
        while waited < LOOKS * len(QUEUES):
            await engine.jobs.wait_for_work([queue], timeout=0.15)
            waited += 1
            gate.set()
            # As an exchange does: away for a moment.
            await asyncio.wait([never], timeout=0.005 * (1 + QUEUES.index(queue)))

    await engine.jobs.attend("w", QUEUES)
    listening = [asyncio.create_task(listen(queue)) for queue in QUEUES]
    while waited < len(QUEUES):
        gate.clear()
        await gate.wait()
    before, began = await calls(client), time.monotonic()
    await asyncio.gather(*listening)
    after, seconds = await calls(client), time.monotonic() - began
    await engine.close()
    sent = {name: n - before.get(name, 0) for name, n in after.items() if n != before.get(name, 0)}
    blocked = sent.pop("bzpopmin")
    assert blocked <= 2 + seconds / BLOCK_S
    # A machine that is busy with other things may be late now and then.
    assert sent.pop("zadd", 0) <= blocked / 4
    assert sent.keys() <= {"info", "expire"}
