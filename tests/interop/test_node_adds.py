"""Jobs that Node's real packages add, run by Toril's workers, and seen by Node's own getters and listeners."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.interop.peer import Notice, Peer
from tests.interop.tasks import QUEUE, application
from tests.redis.server import RedisServer
from toril import Toril


@pytest.fixture
async def toril(node: Peer, server: RedisServer) -> AsyncIterator[Toril]:
    async with application(server.url) as app:
        yield app


def end_of(id_: str) -> Callable[[list[Notice]], list[Notice]]:
    """Finds the event that tells of a job's end."""
    return lambda notices: [
        notice for notice in notices if notice.get("event") in {"completed", "failed"} and notice["jobId"] == id_
    ]


async def finished(node: Peer, *ids: str) -> list[dict[str, Any]]:
    """The jobs as Node sees them, once its listener has heard of their ends."""
    for id_ in ids:
        await node.until(end_of(id_))
    jobs = [await node.get(QUEUE, id_) for id_ in ids]
    assert None not in jobs
    return [job for job in jobs if job is not None]


async def add(node: Peer, name: str, data: dict[str, Any], **opts: Any) -> str:
    job = await node.queue(QUEUE, "add", name, data, opts)
    id_: str = job["id"]
    return id_


async def test_node_adds_and_toril_finishes(node: Peer, toril: Toril) -> None:
    await node.ask("listen", queue=QUEUE)
    jobs = [{"name": "double", "data": {"n": n}, "opts": {}} for n in range(20)]
    ids = [job["id"] for job in await node.queue(QUEUE, "addBulk", jobs)]
    async with toril.worker(concurrency=4) as worker:
        done = await finished(node, *ids)
    assert [job["returnvalue"] for job in done] == [{"doubled": n * 2} for n in range(20)]
    assert {(job["attemptsMade"], job["attemptsStarted"], job["stalledCounter"]) for job in done} == {(1, 1, 0)}
    assert {job["processedBy"] for job in done} == {worker.id}
    assert all(job["timestamp"] <= job["processedOn"] <= job["finishedOn"] for job in done)
    assert await node.job(QUEUE, ids[0], "getState") == "completed"
    counts = await node.queue(QUEUE, "getJobCounts")
    assert {state: count for state, count in counts.items() if count} == {"completed": 20}
    heard = await node.event("completed", ids[3])
    assert (heard["returnvalue"], heard["prev"]) == ({"doubled": 6}, "active")
    assert (await node.event("active", ids[3]))["prev"] == "waiting"


async def test_a_retry_waits_as_node_asked_and_fails_as_node_expects(node: Peer, toril: Toril) -> None:
    await node.ask("listen", queue=QUEUE)
    backoff = {"type": "fixed", "delay": 50}
    good = await add(node, "flaky", {"failures": 2}, attempts=3, backoff=backoff)
    bad = await add(node, "flaky", {"failures": 9}, attempts=2, backoff=backoff)
    once = await add(node, "flaky", {"failures": 9})
    async with toril.worker():
        works, fails, single = await finished(node, good, bad, once)
        exhausted = await node.event("retries-exhausted", bad)
    assert (works["returnvalue"], works["attemptsMade"], works["failedReason"]) == (
        3,
        3,
        "RuntimeError: attempt 2 failed",
    )
    assert (fails["attemptsMade"], fails["failedReason"], single["attemptsMade"]) == (
        2,
        "RuntimeError: attempt 2 failed",
        1,
    )
    assert [entry.partition("\n")[0] for entry in fails["stacktrace"]] == [
        "RuntimeError: attempt 1 failed",
        "RuntimeError: attempt 2 failed",
    ]
    assert exhausted["attemptsMade"] == "2"
    delayed = await node.event("delayed", good)
    assert int(delayed["delay"]) > works["timestamp"]
    assert await node.job(QUEUE, bad, "getState") == "failed"


async def test_priorities_delays_and_lifo_keep_their_order(node: Peer, toril: Toril) -> None:
    await node.ask("listen", queue=QUEUE)
    late = await add(node, "double", {"n": 0}, delay=2_000)
    low = await add(node, "double", {"n": 1}, priority=9)
    high = await add(node, "double", {"n": 2}, priority=1)
    same = await add(node, "double", {"n": 3}, priority=1)
    plain = await add(node, "double", {"n": 4})
    front = await add(node, "double", {"n": 5}, lifo=True)
    async with toril.worker(concurrency=1):
        jobs = await finished(node, late, low, high, same, plain, front)
    started = [notice["jobId"] for notice in node.notices if notice.get("event") == "active"]
    assert started == [front, plain, high, same, low, late]
    assert jobs[0]["processedOn"] >= jobs[0]["timestamp"] + 2_000


async def test_node_hears_progress_and_reads_logs(node: Peer, toril: Toril) -> None:
    await node.ask("listen", queue=QUEUE)
    id_ = await add(node, "talkative", {})
    async with toril.worker():
        [job] = await finished(node, id_)
    assert job["progress"] == {"progress": 60, "message": "more than half"}
    told = [notice["data"] for notice in node.notices if notice.get("event") == "progress"]
    assert told[-1] == {"progress": 60, "message": "more than half"}
    assert await node.ask("logs", queue=QUEUE, id=id_) == {"logs": ["first line", "second line"], "count": 2}


async def test_what_node_may_do_to_a_job_that_toril_ran(node: Peer, toril: Toril) -> None:
    """Fields of Toril's own do not trouble `Job.fromId`, retry and removal."""
    await node.ask("listen", queue=QUEUE)
    id_ = await add(node, "flaky", {"failures": 1})
    async with toril.worker() as worker:
        [job] = await finished(node, id_)
        assert job["failedReason"] == "RuntimeError: attempt 1 failed"
        await node.job(QUEUE, id_, "retry", "failed")
        await node.event("completed", id_)
        retried = await node.get(QUEUE, id_)
    assert retried is not None
    assert (retried["returnvalue"], retried["attemptsMade"], retried["processedBy"]) == (2, 2, worker.id)
    assert await node.queue(QUEUE, "remove", id_) == 1
    assert await node.get(QUEUE, id_) is None


async def test_options_of_node_about_keeping_hold(node: Peer, toril: Toril) -> None:
    await node.ask("listen", queue=QUEUE)
    gone = await add(node, "double", {"n": 1}, removeOnComplete=True)
    kept = [await add(node, "double", {"n": n}, removeOnComplete=2) for n in range(4)]
    async with toril.worker(concurrency=1):
        await node.event("completed", kept[-1])
        await node.event("completed", gone)
    assert await node.get(QUEUE, gone) is None
    assert await node.queue(QUEUE, "getJobCountByTypes", "completed") == 2


async def test_children_and_parent_of_a_flow_that_node_made(node: Peer, toril: Toril) -> None:
    await node.ask("listen", queue=QUEUE)
    flow = {
        "name": "collect", "queueName": QUEUE, "data": {},
        "children": [{"name": "double", "queueName": QUEUE, "data": {"n": n}} for n in (3, 4)],
    }  # fmt: skip
    made = await node.ask("flow", flow=flow)
    async with toril.worker():
        [parent] = await finished(node, made["id"])
    assert parent["returnvalue"] == "collected"
    values = await node.job(QUEUE, made["id"], "getChildrenValues")
    assert sorted(value["doubled"] for value in values.values()) == [6, 8]


@pytest.mark.parametrize("parents", ["node", "toril"])
async def test_a_flow_of_node_lies_on_both_sides(node: Peer, toril: Toril, parents: str) -> None:
    """The parent runs on one side, what it waits for on the other."""
    await node.ask("listen", queue=QUEUE)
    await node.ask("listen", queue="elsewhere")
    above, below = ("elsewhere", QUEUE) if parents == "node" else (QUEUE, "elsewhere")
    children = [{"name": "double", "queueName": below, "data": {"n": n}} for n in (3, 4)]
    made = await node.ask("flow", flow={"name": "collect", "queueName": above, "data": {}, "children": children})
    await node.ask("worker", queue="elsewhere")
    async with toril.worker():
        await node.event("completed", made["id"])
    values = await node.job(above, made["id"], "getChildrenValues")
    assert values.keys() == {f"bull:{below}:{id_}" for id_ in made["children"]}
    assert sorted(value["doubled"] for value in values.values()) == [6, 8]
    parent = await node.get(above, made["id"])
    assert parent is not None
    assert parent["returnvalue"] == (values if parents == "node" else "collected")


async def test_a_failed_child_fails_its_parent_as_node_asked(node: Peer, toril: Toril) -> None:
    await node.ask("listen", queue=QUEUE)
    child = {"name": "flaky", "queueName": QUEUE, "data": {"failures": 9}, "opts": {"failParentOnFailure": True}}
    made = await node.ask("flow", flow={"name": "collect", "queueName": QUEUE, "data": {}, "children": [child]})
    async with toril.worker():
        [parent] = await finished(node, made["id"])
    assert parent["failedReason"] == f"child bull:{QUEUE}:{made['children'][0]} failed"


async def test_a_deduplication_that_node_made_ends_with_its_job(node: Peer, toril: Toril) -> None:
    await node.ask("listen", queue=QUEUE)
    opts = {"deduplication": {"id": "only-one"}}
    first = await add(node, "double", {"n": 1}, **opts)
    assert await add(node, "double", {"n": 2}, **opts) == first
    async with toril.worker():
        await finished(node, first)
    assert await add(node, "double", {"n": 3}, **opts) != first


async def test_a_queue_that_node_throttles_is_not_overrun(node: Peer, toril: Toril) -> None:
    await node.queue(QUEUE, "setGlobalConcurrency", 2)
    await node.ask("listen", queue=QUEUE)
    ids = [await add(node, "nap", {"ms": 30}) for _ in range(6)]
    async with toril.worker(concurrency=6):
        await finished(node, *ids)
    running = most = 0
    for notice in node.notices:
        running += {"active": 1, "completed": -1}.get(notice.get("event", ""), 0)
        most = max(most, running)
    assert most == 2


async def test_a_rate_that_node_set_for_the_queue_holds(node: Peer, toril: Toril) -> None:
    await node.queue(QUEUE, "setGlobalRateLimit", 2, 400)
    await node.ask("listen", queue=QUEUE)
    ids = [await add(node, "double", {"n": n}) for n in range(4)]
    async with toril.worker(concurrency=4):
        starts = sorted(job["processedOn"] for job in await finished(node, *ids))
    assert starts[2] - starts[0] >= 390


async def test_node_obliterates_what_toril_ran(node: Peer, toril: Toril, empty: Any) -> None:
    await node.ask("listen", queue=QUEUE)
    id_ = await add(node, "talkative", {})
    async with toril.worker():
        await finished(node, id_)
    await node.queue(QUEUE, "obliterate", {"force": True})
    assert empty.keys("bull:*") == []
    left = empty.keys("*")
    # Nothing of ours stays for ever but the names of queues.
    assert [key for key in left if empty.ttl(key) < 0] in ([], ["toril:bull:queues"])


async def seen_workers(node: Peer, queue: str, number: int) -> list[str]:
    """The names under which Node sees so many workers of a queue. The last one may be about to connect, or gone."""
    while len(found := await node.queue(queue, "getWorkers")) != number:
        pass
    return sorted(worker["rawname"].partition(":w:")[2] for worker in found)


async def test_workers_of_toril_are_seen_by_node(node: Peer, toril: Toril) -> None:
    """Each once per queue, idle or busy, for as long as they work."""
    await add(node, "nap", {"ms": 3_000})
    async with toril.worker(queues=[QUEUE, "second"], concurrency=1) as one:
        assert await seen_workers(node, QUEUE, 1) == [one.id]
        assert await seen_workers(node, "second", 1) == [one.id]
        async with toril.worker(queues=["second", "third"]) as other:
            assert await seen_workers(node, "second", 2) == sorted([one.id, other.id])
            assert len(await node.queue(QUEUE, "getWorkers")) == 1
            assert await seen_workers(node, "third", 1) == [other.id]
            await one.stop(0.1)
            assert await seen_workers(node, "second", 1) == [other.id]
            assert await seen_workers(node, QUEUE, 0) == []
    assert await seen_workers(node, "third", 0) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("data", "not JSON"), ("data", "[1,2]"), ("data", '{"m":1}'), ("opts", "not JSON"), ("name", "")],
)
async def test_a_job_that_nobody_can_run_fails_and_says_why(
    field: str, value: str, node: Peer, toril: Toril, empty: Any
) -> None:
    """It must not go round for ever between active and stalled, as it does with a worker of Node."""
    await node.queue(QUEUE, "pause")
    broken = await add(node, "double", {"n": 1})
    fine = await add(node, "double", {"n": 2})
    empty.hset(f"bull:{QUEUE}:{broken}", field, value)
    await node.ask("listen", queue=QUEUE)
    async with toril.worker():
        await node.queue(QUEUE, "resume")
        await node.event("completed", fine)
        failed = await node.event("failed", broken)
    assert failed["failedReason"]
    assert empty.hget(f"bull:{QUEUE}:{broken}", "ats") == "1"
