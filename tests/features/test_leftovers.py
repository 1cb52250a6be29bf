"""What is left in a store after a busy time and retention: nothing that grows for ever, and every key has its end."""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.redis.server import RedisServer
from toril import Context, Fixed, JobFailed, Retry, Settings, Snooze, Toril, Unique
from toril.engine.redis.address import parse_address
from toril.engine.redis.client import RedisClient
from toril.jobs.options import Keep

pytestmark = pytest.mark.timeout(60)

QUEUES = ("docs", "mail")
EVENTS = 100
# What a queue has for as long as it exists, whatever runs in it: settings, counters, the bounded log of events.
OF_A_QUEUE = {"meta", "id", "events", "pc", "marker"}


def declare(toril: Toril) -> None:
    """Tasks that do all that leaves something behind."""

    @toril.task(queue="docs")
    async def page(ctx: Context, number: int) -> int:
        await ctx.progress(50, "half")
        await ctx.log(f"page {number}")
        return number

    @toril.task(queue="docs")
    async def book(ctx: Context) -> int:
        await ctx.children()
        return 1

    @toril.task(queue="docs", attempts=3, backoff=Fixed(0.001))
    async def broken(ctx: Context) -> None:
        if ctx.starts == 1:
            raise Snooze(0)
        if ctx.starts == 2:
            raise Retry("once more", in_=0)
        raise ValueError("for good")

    @toril.task(queue="mail", unique=Unique("mail:{to}", window="1h"))
    async def mail(to: str) -> None: ...


async def busy(toril: Toril) -> None:
    """Use everything once, and some of it often."""
    registry = toril.registry
    pages = [await registry["page"].enqueue(number) for number in range(60)]
    broken = [await registry["broken"].enqueue() for _ in range(5)]
    mails = [await registry["mail"].enqueue("ann") for _ in range(5)]
    flow = await toril.flow(registry["book"].call(), [registry["page"].call(n) for n in range(3)]).enqueue()
    await toril.schedules.upsert("hourly", every="1h", call=registry["page"].call(7))
    cancelled = await registry["page"].with_options(delay="1h").enqueue(99)
    assert await cancelled.cancel("not needed")
    async with toril.worker(QUEUES, 20):
        for handle in (*pages, *mails):
            await handle.result(timeout=40)
        for failing in broken:
            with pytest.raises(JobFailed, match="for good"):
                await failing.result(timeout=40)
        assert await flow.result(timeout=40) is not None
    await toril.schedules.remove("hourly")
    await toril.limit("api", "5/s").hit("ann")
    await toril.cache.set("page:1", {"title": "one"}, tags=["pages"])
    await toril.cache.invalidate("pages")
    await toril.cache.set("page:2", {"title": "two"})
    now = toril.clock.now_ms()
    await toril.engine.channels.publish("news", [b"one", b"two"], keep=100, ttl_ms=60_000, now=now)
    await toril.engine.keyvalue.set([("cache:x", b"1")], ttl_ms=60_000, now=now)


async def prune(toril: Toril) -> None:
    """Retention that keeps nothing, a day later."""
    nothing, now = Keep(None, 0), toril.clock.now_ms() + 25 * 3_600_000
    for queue in QUEUES:
        for _ in range(20):
            await toril.engine.jobs.prune(queue, completed=nothing, failed=nothing, events=EVENTS, now=now)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill()


async def endless(client: RedisClient) -> set[str]:
    """The keys without an expiry."""
    keys: list[bytes] = await client.call("KEYS", "*")
    lasting = await asyncio.gather(*(client.call("PTTL", key) for key in keys))
    return {key.decode() for key, left in zip(keys, lasting, strict=True) if left == -1}


async def test_every_key_of_a_redis_expires_or_is_under_retention(server: RedisServer) -> None:  # A05
    # S3-47
    toril = Toril(server.url, settings=Settings())
    declare(toril)
    client = RedisClient(parse_address(server.url))
    async with toril:
        await busy(toril)
        before = await endless(client)
        await prune(toril)
        after = await endless(client)
        lengths = [await client.call("XLEN", f"bull:{queue}:events") for queue in QUEUES]
    await client.close()
    of_jobs = re.compile(rf"bull:({'|'.join(QUEUES)}):.+|toril:bull:queues")
    assert {key for key in before if not of_jobs.fullmatch(key)} == set()
    # No job, no list of jobs and nothing of a job is left.
    assert after <= {f"bull:{queue}:{name}" for queue in QUEUES for name in OF_A_QUEUE} | {"toril:bull:queues"}
    # Redis trims a stream by whole nodes of a hundred entries.
    assert all(length < EVENTS + 100 for length in lengths)


async def test_every_table_of_a_file_is_emptied(tmp_path: Path) -> None:  # A05
    toril = Toril(f"sqlite:///{tmp_path}/jobs.db", settings=Settings())
    declare(toril)
    async with toril:
        await busy(toril)
        await prune(toril)
        # What has an end of its own goes with the next of its kind.
        later = toril.clock.now_ms() + 400 * 24 * 3_600_000
        await toril.engine.keyvalue.set([("one", b"1")], ttl_ms=1, now=later)
    with sqlite3.connect(f"{tmp_path}/jobs.db") as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}
    database.close()
    bounds = {"queues": len(QUEUES), "events": len(QUEUES) * EVENTS, "channel_ids": 1, "keyvalue": 1, "meters": 1}
    assert {name: number for name, number in rows.items() if number > bounds.get(name, 0)} == {}


async def test_an_event_does_not_carry_a_large_result(server: RedisServer) -> None:  # A05
    toril = Toril(server.url, settings=Settings())

    @toril.task(queue="docs")
    async def much(size: int) -> str:
        return "x" * size

    client = RedisClient(parse_address(server.url))
    async with toril, toril.worker():
        small, large = await much.enqueue(10), await much.enqueue(500_000)
        assert (len(await small.result(timeout=40)), len(await large.result(timeout=40))) == (10, 500_000)
        entries = await client.call("XRANGE", "bull:docs:events", "-", "+")
    await client.close()
    told = {}
    for _, fields in entries:
        event = dict(zip(fields[::2], fields[1::2], strict=True))
        if event[b"event"] == b"completed":
            told[event[b"jobId"].decode()] = event[b"returnvalue"]
    assert told == {small.id: b'"xxxxxxxxxx"', large.id: b"null"}


async def test_the_log_of_a_job_is_bounded_in_lines_and_characters(tmp_path: Path) -> None:  # A05
    toril = Toril(f"sqlite:///{tmp_path}/jobs.db", settings=Settings())

    @toril.task(queue="docs")
    async def chatty(ctx: Context, lines: int, length: int) -> None:
        for number in range(lines):
            await ctx.log(f"{number} ".ljust(length, "x"))

    async with toril, toril.worker():
        many, long = await chatty.enqueue(1_200, 10), await chatty.enqueue(300, 20_000)
        await many.result(timeout=40)
        await long.result(timeout=40)
        kept = {}
        for handle in (many, long):
            page = await toril.engine.inspect.logs("docs", handle.id, limit=2_000)
            kept[handle.id] = page.lines
    assert (len(kept[many.id]), kept[many.id][-1].split()[0]) == (1_000, "1199")
    # Lines are cut at 10,000 characters, and a million of them is kept.
    assert (len(kept[long.id]), kept[long.id][-1].split()[0]) == (100, "299")
    assert sum(map(len, kept[long.id])) <= 1_000_000
