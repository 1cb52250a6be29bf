"""An engine and a raw client on one queue of a shared server, and short words for what is put there."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.redis.conftest import shared_server
from tests.redis.server import RedisServer
from toril.engine.redis.address import parse_address
from toril.engine.redis.client import RedisClient
from toril.engine.redis.engine import RedisEngine
from toril.jobs.model import Job, NewJob
from toril.jobs.states import State

__all__ = ["BASE", "NOW", "add", "engine", "hold", "line", "new", "read", "redis", "shared_server"]

NOW = 1_700_000_000_000
BASE = "bull:line:"


@pytest.fixture
async def redis(shared_server: RedisServer) -> AsyncIterator[RedisClient]:
    client = RedisClient(parse_address(shared_server.url))
    await client.call("FLUSHDB")
    yield client
    await client.close()


@pytest.fixture
async def engine(shared_server: RedisServer, redis: RedisClient) -> AsyncIterator[RedisEngine]:
    engine = RedisEngine(shared_server.url)
    await engine.start()
    yield engine
    await engine.close()


def new(id: str, *, timestamp: int = NOW, **fields: Any) -> NewJob:
    return NewJob(id, "work", "{}", '{"attempts":1}', timestamp, **fields)


async def add(engine: RedisEngine, *ids: str) -> None:
    await engine.jobs.add("line", [new(id) for id in ids], batch="-".join(ids)[:200], now=NOW)


async def hold(redis: RedisClient, id: str, **fields: str) -> None:
    await redis.call("HSET", BASE + id, *(part for pair in fields.items() for part in pair))


async def read(engine: RedisEngine, id: str) -> Job:
    job = await engine.inspect.get(id, "line")
    assert job is not None
    return job


async def line(engine: RedisEngine, **options: Any) -> list[str]:
    return [job.id for job in (await engine.inspect.list("line", [State.WAITING], **options)).jobs]
