"""The event log of a queue on a wire that is shared, and waiting for what comes on it."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.redis.conftest import shared_server
from tests.redis.server import RedisServer
from toril.engine.redis.address import parse_address
from toril.engine.redis.client import RedisClient
from toril.engine.redis.engine import RedisEngine
from toril.errors import EngineClosed, EngineError

__all__ = ["shared_server"]

STREAM = "bull:line:events"
LONG = 5.0


@pytest.fixture
async def redis(shared_server: RedisServer) -> AsyncIterator[RedisClient]:
    client = RedisClient(parse_address(shared_server.url))
    await client.call("FLUSHDB")
    yield client
    await client.close()


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
async def engine(
    shared_server: RedisServer, redis: RedisClient, request: pytest.FixtureRequest
) -> AsyncIterator[RedisEngine]:
    engine = RedisEngine(f"{shared_server.url}?protocol={request.param}")
    await engine.start()
    yield engine
    await engine.close()


async def emit(redis: RedisClient, *fields: str, stream: str = STREAM) -> str:
    reply: bytes = await redis.call("XADD", stream, "*", *fields)
    return reply.decode()


async def test_kinds_of_bullmq_are_told_in_our_words(engine: RedisEngine, redis: RedisClient) -> None:
    for fields in (
        ("event", "added", "jobId", "1", "name", "work"),
        ("event", "waiting", "jobId", "1"),
        ("event", "waiting", "jobId", "1", "prev", "waiting-children"),
        ("event", "delayed", "jobId", "1", "delay", "1700000000500"),
        ("event", "active", "jobId", "1", "prev", "waiting"),
        ("event", "progress", "jobId", "1", "data", '{"n":1}'),
        ("event", "progress", "jobId", "1", "data", "{broken"),
        ("event", "completed", "jobId", "1", "returnvalue", "7", "prev", "active"),
        ("event", "failed", "jobId", "1", "failedReason", "no", "prev", "active"),
        ("event", "retries-exhausted", "jobId", "1", "attemptsMade", "3"),
        ("event", "removed", "jobId", "1", "prev", "wait"),
        ("event", "removed", "jobId", "1", "prev", "unknown"),
        ("event", "drained"),
        ("event", "deduplicated", "jobId", "1"),
        ("event", "cleaned", "count", "3"),
        ("event", "paused"),
        ("nonsense", "x"),
        ("event", "my-own", "jobId", "1"),
    ):
        await emit(redis, *fields)
    told = [(event.kind, event.job_id, event.data) for event in (await engine.bus.read("line", after="0")).events]
    assert told == [
        ("waiting", "1", {}),
        ("waiting", "1", {"prev": "waiting-children"}),
        ("delayed", "1", {"due": 1700000000500}),
        ("active", "1", {}),
        ("progress", "1", {"value": {"n": 1}}),
        ("progress", "1", {"value": None}),
        ("completed", "1", {}),
        ("failed", "1", {"reason": "no"}),
        ("removed", "1", {"prev": "waiting"}),
        ("removed", "1", {}),
        ("paused", "", {}),
    ]


async def test_a_page_is_full_whatever_lies_between(engine: RedisEngine, redis: RedisClient) -> None:
    for number in range(20):
        for _ in range(30):
            await emit(redis, "event", "drained")
        await emit(redis, "event", "active", "jobId", str(number))
    page = await engine.bus.read("line", after="0", limit=15)
    assert [event.job_id for event in page.events] == [str(number) for number in range(15)]


async def test_what_readers_do_not_know_wakes_nobody(engine: RedisEngine, redis: RedisClient) -> None:
    tail = await emit(redis, "event", "active", "jobId", "1")
    for _ in range(250):
        await emit(redis, "event", "drained")
    waiter = asyncio.create_task(engine.bus.wait("line", after=tail, timeout=LONG))
    await asyncio.wait([waiter], timeout=0.2)
    assert not waiter.done()
    began = time.monotonic()
    await emit(redis, "event", "active", "jobId", "2")
    assert await waiter
    assert time.monotonic() - began < LONG / 2


async def test_readers_of_many_queues_share_a_connection(engine: RedisEngine, redis: RedisClient) -> None:
    await engine.bus.tail("line")
    before = len((await redis.call("CLIENT", "LIST")).splitlines())
    queues = [f"q{number}" for number in range(20)]
    waiters = [asyncio.create_task(engine.bus.wait(queue, after="0", timeout=LONG)) for queue in queues]
    await asyncio.wait(waiters, timeout=0.2)
    assert len((await redis.call("CLIENT", "LIST")).splitlines()) == before + 1
    began = time.monotonic()
    for queue in reversed(queues):
        await emit(redis, "event", "active", "jobId", "1", stream=f"bull:{queue}:events")
    assert await asyncio.gather(*waiters) == [True] * 20
    assert time.monotonic() - began < LONG / 2


async def test_one_who_is_behind_is_told_at_once(engine: RedisEngine, redis: RedisClient) -> None:
    first = await emit(redis, "event", "active", "jobId", "1")
    last = await emit(redis, "event", "active", "jobId", "2")
    ahead = asyncio.create_task(engine.bus.wait("line", after=last, timeout=LONG))
    await asyncio.wait([ahead], timeout=0.1)
    began = time.monotonic()
    assert await engine.bus.wait("line", after=first, timeout=LONG)
    assert time.monotonic() - began < LONG / 2
    await emit(redis, "event", "active", "jobId", "3")
    assert await ahead


async def test_a_gap_is_what_was_trimmed_and_not_read(engine: RedisEngine, redis: RedisClient) -> None:
    ids = [await emit(redis, "event", "active", "jobId", str(number)) for number in range(10)]
    assert not (await engine.bus.read("line", after="0")).gap
    await redis.call("XTRIM", STREAM, "MAXLEN", 4)
    assert (await engine.bus.read("line", after="0")).gap
    assert (await engine.bus.read("line", after=ids[3])).gap
    assert not (await engine.bus.read("line", after=ids[6])).gap
    await redis.call("XTRIM", STREAM, "MAXLEN", 0)
    page = await engine.bus.read("line", after=ids[8])
    assert (page.events, page.gap) == ((), True)
    assert not (await engine.bus.read("line", after=ids[9])).gap
    assert await engine.bus.tail("line") == ids[9]


async def test_a_key_that_is_no_log_is_explained(engine: RedisEngine, redis: RedisClient) -> None:
    await redis.call("SET", STREAM, "x")
    for call in (
        engine.bus.tail("line"),
        engine.bus.read("line", after="0"),
        engine.bus.wait("line", after="0", timeout=LONG),
    ):
        with pytest.raises(EngineError, match="something else than expected"):
            await call


async def test_a_wait_on_a_closed_engine_says_so(engine: RedisEngine) -> None:
    bus = engine.bus
    waiter = asyncio.create_task(bus.wait("line", after="0", timeout=LONG))
    await asyncio.wait([waiter], timeout=0.1)
    began = time.monotonic()
    await engine.close()
    await asyncio.gather(waiter, return_exceptions=True)
    assert time.monotonic() - began < LONG / 2
    with pytest.raises(EngineClosed):
        await bus.wait("line", after="0", timeout=LONG)
