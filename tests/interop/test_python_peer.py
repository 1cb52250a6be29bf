"""The BullMQ of PyPI beside Toril: jobs of either are run by the other, flows lie on both sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.interop import dump
from tests.interop.peer import Peer
from tests.interop.tasks import QUEUE, application
from tests.redis.server import RedisServer
from toril import JobFailed, State, Task, Toril

ELSEWHERE = "elsewhere"


@pytest.fixture
async def toril(python: Peer, server: RedisServer) -> AsyncIterator[Toril]:
    async with application(server.url) as app:
        yield app


async def add(python: Peer, name: str, data: Any, **opts: Any) -> str:
    job = await python.queue(QUEUE, "add", name, data, opts)
    return str(job["id"])


def task(toril: Toril, name: str) -> Task[..., Any]:
    found = toril.registry.get(name)
    assert found is not None
    return found


async def test_python_adds_and_toril_works(python: Peer, toril: Toril) -> None:
    good = await add(python, "flaky", {"failures": 2}, attempts=3, backoff={"type": "fixed", "delay": 20})
    bad = await add(python, "flaky", {"failures": 9}, attempts=2)
    talkative = await add(python, "talkative", {})
    async with toril.worker():
        assert await toril.job(good, QUEUE).result(timeout=5) == 3
        with pytest.raises(JobFailed, match="attempt 2 failed"):
            await toril.job(bad, QUEUE).result(timeout=5)
        await toril.job(talkative, QUEUE).result(timeout=5)
    done, failed, told = [await python.get(QUEUE, id_) for id_ in (good, bad, talkative)]
    assert done is not None
    assert failed is not None
    assert told is not None
    assert (done["returnvalue"], done["attemptsMade"]) == (3, 3)
    assert (failed["failedReason"], failed["attemptsMade"]) == ("RuntimeError: attempt 2 failed", 2)
    assert [entry.partition("\n")[0] for entry in failed["stacktrace"]] == [
        f"RuntimeError: attempt {n} failed" for n in (1, 2)
    ]
    assert told["progress"] == {"progress": 60, "message": "more than half"}
    assert await python.queue(QUEUE, "getJobLogs", talkative) == {"logs": ["first line", "second line"], "count": 2}
    assert await python.queue(QUEUE, "getJobState", bad) == "failed"


async def test_toril_takes_the_jobs_of_python_in_their_order(python: Peer, toril: Toril, empty: dump.Client) -> None:
    late = await add(python, "double", {"n": 0}, delay=150)
    low = await add(python, "double", {"n": 1}, priority=9)
    high = await add(python, "double", {"n": 2}, priority=1)
    plain = await add(python, "double", {"n": 3})
    front = await add(python, "double", {"n": 4}, lifo=True)
    async with toril.worker(concurrency=1):
        assert await toril.job(late, QUEUE).result(timeout=5) == {"doubled": 0}
    events = [fields for _, fields in empty.xrange(f"bull:{QUEUE}:events")]
    assert [fields["jobId"] for fields in events if fields["event"] == "active"] == [front, plain, high, low, late]


async def test_toril_adds_and_python_works(python: Peer, toril: Toril) -> None:
    handles = await toril.enqueue_many(task(toril, "double").call(n=n) for n in range(20))
    flaky, talkative = await task(toril, "flaky").enqueue(failures=2), await task(toril, "talkative").enqueue()
    bad = await task(toril, "flaky").enqueue(failures=9)
    await python.ask("worker", queue=QUEUE, options={"concurrency": 4})
    assert [await handle.result(timeout=5) for handle in handles] == [{"doubled": n * 2} for n in range(20)]
    assert await flaky.result(timeout=5) == 3
    with pytest.raises(JobFailed, match="attempt 3 failed"):
        await bad.result(timeout=5)
    await talkative.result(timeout=5)
    job = await talkative.info()
    assert job is not None
    assert (job.state, job.progress_number, job.progress_message) == (State.COMPLETED, 60, "more than half")
    assert (await talkative.logs()).lines == ("first line", "second line")
    assert python.errors() == []


async def test_workers_of_both_kinds_share_a_queue(python: Peer, toril: Toril, empty: dump.Client) -> None:
    handles = await toril.enqueue_many(task(toril, "nap").call(ms=20) for _ in range(60))
    await python.ask("worker", queue=QUEUE, options={"concurrency": 2})
    async with toril.worker(concurrency=2):
        for handle in handles:
            assert await handle.result(timeout=8) == "rested"
    jobs = [await handle.info() for handle in handles]
    assert {(job.starts, job.attempts_made) for job in jobs if job is not None} == {(1, 1)}
    there = len(python.runs())
    assert max(Counter(python.runs()).values()) == 1
    assert 0 < there < 60
    assert empty.llen(f"bull:{QUEUE}:active") == 0


@pytest.mark.parametrize("parents", ["python", "toril"])
async def test_a_flow_lies_on_both_sides(python: Peer, toril: Toril, parents: str) -> None:
    """The parent runs on one side, what it waits for on the other."""
    above, below = (ELSEWHERE, QUEUE) if parents == "python" else (QUEUE, ELSEWHERE)
    children = [{"name": "double", "queueName": below, "data": {"n": n}} for n in (3, 4)]
    # A result is checked by the type of the task of that name, if Toril has one: `gather` is Python's alone.
    name = "gather" if parents == "python" else "collect"
    flow = {"name": name, "queueName": above, "data": {}, "children": children}
    made = await python.ask("flow", flow=flow)
    await python.ask("worker", queue=ELSEWHERE)
    async with toril.worker():
        result = await toril.job(made["id"], above).result(timeout=5)
    keys = {f"bull:{below}:{id_}" for id_ in made["children"]}
    values = await python.job(above, made["id"], "getChildrenValues")
    assert values.keys() == keys
    assert sorted(value["doubled"] for value in values.values()) == [6, 8]
    assert result == (values if parents == "python" else "collected")
