"""Jobs and queues of other producers, and what only a shared wire can get wrong, seen through the Redis engine."""

import json
from typing import Any

import pytest

from tests.engines.redis_line import BASE, NOW, add, engine, hold, line, new, read, redis, shared_server
from toril.engine.ports.inspect import Changed
from toril.engine.redis.client import RedisClient
from toril.engine.redis.engine import RedisEngine
from toril.errors import ConfigError, EngineError
from toril.jobs.model import Job
from toril.jobs.states import State

__all__ = ["engine", "redis", "shared_server"]


# Jobs of other producers


async def test_a_job_of_node_is_read(engine: RedisEngine, redis: RedisClient) -> None:
    await hold(
        redis,
        "1",
        name="resize",
        data='{"path":"x"}',
        opts='{"attempts":3}',
        timestamp="1700000000123",
        delay="0",
        priority="0",
        atm="3",
        ats="4",
        stc="1",
        processedOn="1700000000200",
        finishedOn="1700000000300",
        failedReason="no luck",
        stacktrace='["Error: one\\n at x","Error: two"]',
        progress='{"page":3}',
        pb="node-1",
    )
    await redis.call("ZADD", BASE + "failed", 1700000000300, "1")
    assert await read(engine, "1") == Job(
        id="1",
        queue="line",
        name="resize",
        data='{"path":"x"}',
        opts='{"attempts":3}',
        state=State.FAILED,
        timestamp=1700000000123,
        processed=1700000000200,
        finished=1700000000300,
        attempts_made=3,
        starts=4,
        stalls=1,
        progress={"page": 3},
        failed_reason="no luck",
        stacktrace=("Error: one\n at x", "Error: two"),
        worker="node-1",
    )


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("timestamp", "soon", {"timestamp": 0}),
        ("timestamp", "1.7e12", {"timestamp": 1_700_000_000_000}),
        ("timestamp", "NaN", {"timestamp": 0}),
        ("priority", "", {"priority": 0}),
        ("atm", "many", {"attempts_made": 0}),
        ("ats", "1e999", {"starts": 0}),
        ("progress", "{", {"progress": 0}),
        ("progress", "NaN", {"progress": 0}),
        ("stacktrace", "oops", {"stacktrace": ()}),
        ("stacktrace", '[null,"x",7,""]', {"stacktrace": ("x",)}),
        ("stacktrace", "{}", {"stacktrace": ()}),
        ("returnvalue", "undefined", {"result": '"undefined"'}),
        ("returnvalue", "null", {"result": "null"}),
        ("toril:cancel", "yes", {"cancel": None}),
        ("toril:h1", "[]", {"history": ()}),
        ("toril:hx", "{}", {"history": ()}),
        ("toril:h2", '{"w":5,"s":"x"}', {}),
        ("name", "\udc80", {"name": "\ufffd"}),
        ("data", "\udc80", {"data": "\ufffd"}),
    ],
)
async def test_an_odd_field_hides_nothing(
    engine: RedisEngine, redis: RedisClient, field: str, value: str, shown: dict[str, Any]
) -> None:
    await hold(redis, "1", name="work", timestamp="5")
    await redis.call("HSET", BASE + "1", field, value.encode("utf-8", "surrogateescape"))
    await redis.call("ZADD", BASE + "completed", 7, "1")
    job = await read(engine, "1")
    assert {name: getattr(job, name) for name in shown} == shown
    assert (await engine.inspect.list("line", [State.COMPLETED])).jobs == (job,)


async def test_keys_of_a_queue_are_no_jobs(engine: RedisEngine, redis: RedisClient) -> None:
    await add(engine, "a")
    await redis.call("HSET", BASE + "repeat:daily", "name", "work", "every", 5)
    for id in ("meta", "wait", "id", "events", "marker", "repeat:daily", "a:logs"):
        assert await engine.inspect.get(id, "line") is None, id


async def test_ids_without_a_hash_are_passed_over(engine: RedisEngine, redis: RedisClient) -> None:
    await add(engine, "a", "b", "c")
    await redis.call("DEL", BASE + "b")
    await redis.call("RPUSH", BASE + "wait", "0:5")
    assert await line(engine) == ["a", "c"]
    page = await engine.inspect.list("line", [State.WAITING], limit=2)
    assert [job.id for job in page.jobs] == ["a", "c"]


async def test_a_job_whose_hash_was_lost_while_active_is_seen(engine: RedisEngine, redis: RedisClient) -> None:
    await redis.call("LPUSH", BASE + "active", "7")
    await hold(redis, "7", processedOn="5", ats="1")
    job = await read(engine, "7")
    assert (job.state, job.name, job.data, job.timestamp) == (State.ACTIVE, "", "{}", 0)


async def test_delayed_times_of_both_majors(engine: RedisEngine, redis: RedisClient) -> None:
    await hold(redis, "1", name="work", timestamp="5")
    await redis.call("ZADD", BASE + "delayed", (NOW + 5) * 4096 + 17, "1")
    assert (await read(engine, "1")).due == NOW + 5


async def test_a_foreign_key_is_explained(engine: RedisEngine, redis: RedisClient) -> None:
    await redis.call("SET", BASE + "wait", "not ours")
    with pytest.raises(EngineError, match=r"something else than expected.*choose another"):
        await engine.inspect.counts("line")


# Pausing on a wire that is shared


async def test_a_version_5_queue_is_paused_its_way(engine: RedisEngine, redis: RedisClient) -> None:
    await redis.call("HSET", BASE + "meta", "version", "bullmq:5.81.5")
    await add(engine, "a", "b")
    await engine.inspect.pause("line", now=NOW)
    await add(engine, "c")
    assert await redis.call("EXISTS", BASE + "wait") == 0
    assert await redis.call("LRANGE", BASE + "paused", 0, -1) == [b"c", b"b", b"a"]
    assert (await engine.inspect.counts("line")).waiting == 3
    assert await line(engine) == ["a", "b", "c"]
    await engine.inspect.resume("line", now=NOW)
    assert await redis.call("LRANGE", BASE + "wait", 0, -1) == [b"c", b"b", b"a"]
    assert await redis.call("EXISTS", BASE + "paused") == 0


async def test_what_two_majors_left_in_two_lists_is_joined(engine: RedisEngine, redis: RedisClient) -> None:
    await add(engine, "w1", "w2")
    await redis.call("RENAME", BASE + "wait", BASE + "paused")
    await redis.call("HSET", BASE + "meta", "paused", 1, "version", "bullmq:6.7.0")
    for id in ("n1", "n2"):
        await hold(redis, id, name="work", timestamp="5")
        await redis.call("LPUSH", BASE + "wait", id)
    assert await line(engine) == ["w1", "w2", "n1", "n2"]
    await engine.inspect.resume("line", now=NOW)
    assert await redis.call("EXISTS", BASE + "paused") == 0
    assert await line(engine) == ["w1", "w2", "n1", "n2"]
    assert await redis.call("ZSCORE", BASE + "marker", "0") is not None


async def test_both_lists_are_cleaned(engine: RedisEngine, redis: RedisClient) -> None:
    old = [new(f"o{number}", timestamp=5) for number in range(3)]
    await engine.jobs.add("line", [*old, new("kept1")], batch="x", now=NOW)
    await redis.call("RENAME", BASE + "wait", BASE + "paused")
    for id, timestamp in (("o3", "5"), ("kept2", str(NOW))):
        await hold(redis, id, name="work", timestamp=timestamp)
        await redis.call("LPUSH", BASE + "wait", id)
    assert await engine.inspect.clean("line", State.WAITING, before=10, now=NOW) == 4
    assert await line(engine) == ["kept1", "kept2"]


async def test_a_second_pause_overwrites_nothing(engine: RedisEngine, redis: RedisClient) -> None:
    await add(engine, "a")
    await redis.call("RENAME", BASE + "wait", BASE + "paused")
    await redis.call("HSET", BASE + "meta", "version", "bullmq:5.1.0")
    await add(engine, "b")
    await engine.inspect.pause("line", now=NOW)
    assert await line(engine) == ["a", "b"]
    assert await redis.call("EXISTS", BASE + "wait") == 0


async def test_a_page_goes_on_over_a_pause(engine: RedisEngine, redis: RedisClient) -> None:
    await redis.call("HSET", BASE + "meta", "version", "bullmq:5.1.0")
    await add(engine, *(f"j{number}" for number in range(20)))
    page = await engine.inspect.list("line", [State.WAITING], limit=7)
    await engine.inspect.pause("line", now=NOW)
    rest = await engine.inspect.list("line", [State.WAITING], limit=50, cursor=page.cursor)
    assert [job.id for job in rest.jobs] == [f"j{number}" for number in range(7, 20)]


async def test_a_long_paused_line_is_joined_in_parts(engine: RedisEngine, redis: RedisClient) -> None:
    ids = [f"j{number}" for number in range(12_000)]
    await engine.jobs.add("line", [new(id) for id in ids], batch="x", now=NOW)
    await redis.call("RENAME", BASE + "wait", BASE + "paused")
    await redis.call("HSET", BASE + "meta", "paused", 1)
    await hold(redis, "late", name="work", timestamp="5")
    await redis.call("LPUSH", BASE + "wait", "late")
    await engine.inspect.resume("line", now=NOW)
    assert await redis.call("LRANGE", BASE + "wait", 0, -1) == [b"late", *(id.encode() for id in reversed(ids))]


# Removing with parents, schedulers and deduplication


async def with_parent(redis: RedisClient, parent_base: str = BASE) -> None:
    queue_key = parent_base.rstrip(":")
    await redis.call("HSET", f"{parent_base}p", "name", "parent", "data", "{}", "timestamp", "5", "opts", "{}")
    await redis.call("ZADD", f"{parent_base}waiting-children", 5, "p")
    parent = json.dumps({"id": "p", "queueKey": queue_key})
    await hold(redis, "c", name="child", timestamp="5", data="{}", parentKey=f"{parent_base}p", parent=parent)
    await redis.call("LPUSH", BASE + "wait", "c")
    await redis.call("SADD", f"{parent_base}p:dependencies", BASE + "c")


async def test_removing_the_last_child_lets_the_parent_run(engine: RedisEngine, redis: RedisClient) -> None:
    await with_parent(redis)
    assert await engine.inspect.remove("line", ["c"], now=NOW) == (Changed.OK,)
    assert (await read(engine, "p")).state is State.WAITING
    assert await line(engine) == ["p"]


async def test_removing_a_parent_takes_its_children_along(engine: RedisEngine, redis: RedisClient) -> None:
    await with_parent(redis, "bull:other:")
    assert await engine.inspect.remove("other", ["p"], now=NOW) == (Changed.OK,)
    assert await engine.inspect.get("c", "line") is None
    assert await line(engine) == []


async def test_a_parent_of_a_running_child_is_not_removed(engine: RedisEngine, redis: RedisClient) -> None:
    await with_parent(redis)
    await redis.call("SET", BASE + "c:lock", "t")
    assert await engine.inspect.remove("line", ["p", "c"], now=NOW) == (Changed.LOCKED, Changed.LOCKED)
    assert await engine.inspect.get("c", "line") is not None


async def test_draining_children_deletes_a_parent_of_the_same_queue(engine: RedisEngine, redis: RedisClient) -> None:
    await with_parent(redis)
    assert await engine.inspect.drain("line", delayed=False, now=NOW) == 1
    assert await engine.inspect.get("p", "line") is None


async def test_draining_children_frees_a_parent_of_another_queue(engine: RedisEngine, redis: RedisClient) -> None:
    await with_parent(redis, "bull:other:")
    await engine.inspect.drain("line", delayed=False, now=NOW)
    assert [job.id for job in (await engine.inspect.list("other", [State.WAITING])).jobs] == ["p"]


async def test_a_retried_child_is_waited_for_again(engine: RedisEngine, redis: RedisClient) -> None:
    await with_parent(redis)
    await redis.call("LREM", BASE + "wait", 1, "c")
    await redis.call("ZADD", BASE + "failed", 5, "c")
    await redis.call("SREM", BASE + "p:dependencies", BASE + "c")
    await redis.call("ZADD", BASE + "p:unsuccessful", 5, BASE + "c")
    assert await engine.inspect.retry("line", ["c"], now=NOW) == (Changed.OK,)
    assert await redis.call("SMEMBERS", BASE + "p:dependencies") in ([b"bull:line:c"], {b"bull:line:c"})
    assert await redis.call("EXISTS", BASE + "p:unsuccessful") == 0


async def test_a_schedulers_next_run_is_spared(engine: RedisEngine, redis: RedisClient) -> None:
    id = f"repeat:daily:{NOW}"
    await redis.call("ZADD", BASE + "repeat", NOW, "daily")
    await hold(redis, id, name="work", timestamp="5", rjk="daily")
    await redis.call("ZADD", BASE + "delayed", NOW * 4096, id)
    await add(engine, "a")
    assert await engine.inspect.remove("line", [id], now=NOW) == (Changed.REFUSED,)
    assert await engine.inspect.drain("line", delayed=True, now=NOW) == 1
    assert await engine.inspect.clean("line", State.DELAYED, before=NOW, now=NOW) == 0
    assert (await read(engine, id)).state is State.DELAYED


async def test_a_removed_owner_gives_its_deduplication_id_free(engine: RedisEngine, redis: RedisClient) -> None:
    for id in ("a", "b"):
        await add(engine, id)
        await hold(redis, id, deid="once")
    await redis.call("SET", BASE + "de:once", "a")
    await engine.inspect.remove("line", ["b"], now=NOW)
    assert await redis.call("GET", BASE + "de:once") == b"a"
    await engine.inspect.remove("line", ["a"], now=NOW)
    assert await redis.call("EXISTS", BASE + "de:once") == 0


async def test_cleaning_walks_past_thousands_that_stay(engine: RedisEngine) -> None:
    young = [new(f"y{number}") for number in range(11_000)]
    old = [new(f"o{number}", timestamp=5) for number in range(50)]
    await engine.jobs.add("line", [*young, *old], batch="x", now=NOW)
    assert await engine.inspect.clean("line", State.WAITING, before=10, now=NOW, limit=30) == 30
    assert await engine.inspect.clean("line", State.WAITING, before=10, now=NOW, limit=30) == 20
    assert (await engine.inspect.counts("line")).waiting == 11_000


async def test_obliterate_leaves_no_key(engine: RedisEngine, redis: RedisClient) -> None:
    await with_parent(redis)
    await add(engine, "a", "b")
    await redis.call("ZADD", BASE + "repeat", NOW, "daily")
    await redis.call("HSET", BASE + "repeat:daily", "name", "work")
    await redis.call("SET", BASE + "limiter", 5)
    while not await engine.inspect.obliterate("line", force=True, now=NOW, limit=2):
        pass
    left = [key for key in await redis.call("KEYS", "*") if not key.startswith(b"toril:bull:line:batch:")]
    assert left == []


async def test_an_obliterated_queue_is_known_again_when_it_is_used(engine: RedisEngine) -> None:
    await add(engine, "a")
    while not await engine.inspect.obliterate("line", force=True, now=NOW):
        pass
    assert await engine.inspect.queues() == ()
    await add(engine, "b")
    assert [each.name for each in await engine.inspect.queues()] == ["line"]


async def test_a_queue_name_with_a_colon_is_refused(engine: RedisEngine) -> None:
    with pytest.raises(ConfigError, match="without colons"):
        await engine.inspect.counts("a:b")
