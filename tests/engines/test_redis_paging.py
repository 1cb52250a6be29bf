"""Reading a long line on Redis page by page while it moves."""

import pytest

from tests.engines.redis_line import BASE, NOW, engine, hold, new, redis, shared_server
from toril.engine.redis.client import RedisClient
from toril.engine.redis.engine import RedisEngine
from toril.jobs.model import Job
from toril.jobs.states import State

__all__ = ["engine", "redis", "shared_server"]


async def test_pages_hold_while_half_of_the_line_moves(engine: RedisEngine) -> None:
    ids = [f"j{number}" for number in range(500)]
    await engine.jobs.add("line", [new(id) for id in ids], batch="x", now=NOW)
    first = await engine.inspect.list("line", [State.WAITING], limit=200)
    # Of the ids around the end of the page, some are gone, and some have come back at the other end.
    await engine.inspect.remove("line", [f"j{number}" for number in range(195, 204)], now=NOW)
    await engine.jobs.add("line", [new(f"j{number}") for number in range(198, 203)], batch="y", now=NOW)
    seen = [job.id for job in first.jobs]
    cursor = first.cursor
    while cursor is not None:
        page = await engine.inspect.list("line", [State.WAITING], limit=70, cursor=cursor)
        seen += [job.id for job in page.jobs]
        cursor = page.cursor
    stayed = [id for id in ids if not 195 <= int(id[1:]) < 204]
    assert [id for id in seen if id in stayed] == stayed


@pytest.mark.parametrize("newest_first", [False, True])
async def test_pages_hold_when_thousands_are_taken(engine: RedisEngine, newest_first: bool) -> None:
    await engine.jobs.add("line", [new(f"j{number}") for number in range(12_000)], batch="x", now=NOW)
    seen: list[str] = []
    cursor: str | None = None
    for turn in range(30):
        page = await engine.inspect.list("line", [State.WAITING], limit=1_000, cursor=cursor, newest_first=newest_first)
        seen += [job.id for job in page.jobs]
        cursor = page.cursor
        if cursor is None:
            break
        if turn == 5:
            await engine.jobs.exchange(
                "line", worker="w", seq=1, token="w:1", finished=(), want=5_500, lock_ms=9_000, now=NOW
            )
            await engine.jobs.add("line", [new(f"n{number}") for number in range(3_000)], batch="y", now=NOW)
    assert cursor is None
    assert len(seen) == len(set(seen))
    assert {f"j{number}" for number in range(5_500, 12_000)} <= set(seen)


@pytest.mark.parametrize("newest_first", [False, True])
async def test_pages_of_one_millisecond(engine: RedisEngine, redis: RedisClient, newest_first: bool) -> None:
    ids = [f"j{number}" for number in range(300)] + ["ü1", "ü2", "Z", "_"]
    for id in ids:
        await hold(redis, id, name="work", timestamp="5")
        await redis.call("ZADD", BASE + "completed", NOW, id)
    whole = (await engine.inspect.list("line", [State.COMPLETED], limit=999, newest_first=newest_first)).jobs
    assert len(whole) == len(ids)
    pages: list[Job] = []
    cursor: str | None = None
    while True:
        page = await engine.inspect.list("line", [State.COMPLETED], limit=11, cursor=cursor, newest_first=newest_first)
        pages += page.jobs
        cursor = page.cursor
        if cursor is None:
            break
        await redis.call("ZREM", BASE + "completed", page.jobs[-1].id, page.jobs[0].id)
    assert tuple(pages) == whole


async def test_a_filter_that_finds_nothing_costs_a_part_per_call(engine: RedisEngine) -> None:
    for start in range(0, 12_000, 6_000):
        jobs = [new(f"j{start + number}") for number in range(6_000)]
        await engine.jobs.add("line", jobs, batch=f"b{start}", now=NOW)
    calls, cursor = 1, (await engine.inspect.list("line", [State.WAITING], name="rare")).cursor
    while cursor is not None:
        page = await engine.inspect.list("line", [State.WAITING], name="rare", cursor=cursor)
        assert page.jobs == ()
        calls, cursor = calls + 1, page.cursor
    assert calls == 3
