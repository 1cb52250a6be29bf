"""Jobs that Toril adds, run by Node's real workers, and seen by Toril."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.interop import dump
from tests.interop.peer import Peer
from tests.interop.tasks import QUEUE, application
from tests.redis.server import RedisServer
from toril import JobCancelled, JobFailed, State, Toril


@pytest.fixture
async def toril(node: Peer, server: RedisServer) -> AsyncIterator[Toril]:
    async with application(server.url) as app:
        yield app


async def test_toril_adds_and_node_finishes(node: Peer, toril: Toril) -> None:
    double = toril.registry.get("double")
    assert double is not None
    handles = await toril.enqueue_many(double.call(n=n) for n in range(20))
    await node.ask("worker", queue=QUEUE, options={"concurrency": 4, "name": "node-1"})
    assert [await handle.result(timeout=5) for handle in handles] == [{"doubled": n * 2} for n in range(20)]
    job = await handles[0].info()
    assert job is not None
    assert (job.state, job.attempts_made, job.starts, job.worker) == (State.COMPLETED, 1, 1, "node-1")
    assert node.errors() == []


async def test_node_retries_as_the_task_says(node: Peer, toril: Toril) -> None:
    flaky = toril.registry.get("flaky")
    assert flaky is not None
    good = await flaky.enqueue(failures=2)
    bad = await flaky.enqueue(failures=9)
    await node.ask("worker", queue=QUEUE, options={"concurrency": 2})
    assert await good.result(timeout=5) == 3
    with pytest.raises(JobFailed, match="attempt 3 failed"):
        await bad.result(timeout=5)
    job = await bad.info()
    assert job is not None
    assert (job.attempts_made, job.starts) == (3, 3)
    assert [entry.partition("\n")[0] for entry in job.stacktrace] == [f"Error: attempt {n} failed" for n in (1, 2, 3)]


async def test_priorities_delays_and_lifo_keep_their_order(node: Peer, toril: Toril) -> None:
    double = toril.registry.get("double")
    assert double is not None
    late = await double.with_options(delay=1.0).enqueue(n=0)
    low = await double.with_options(priority=9).enqueue(n=1)
    high = await double.with_options(priority=1).enqueue(n=2)
    plain = await double.enqueue(n=3)
    front = await double.with_options(lifo=True).enqueue(n=4)
    await node.ask("worker", queue=QUEUE)
    assert await late.result(timeout=5) == {"doubled": 0}
    assert node.runs() == [front.id, plain.id, high.id, low.id, late.id]


async def test_toril_sees_progress_logs_and_events_of_a_node_worker(node: Peer, toril: Toril) -> None:
    talkative = toril.registry.get("talkative")
    assert talkative is not None
    handle = await talkative.enqueue()
    told = handle.events()
    first = await anext(told)
    await node.ask("worker", queue=QUEUE)
    kinds = [event.kind async for event in told]
    assert first.kind == "snapshot"
    assert kinds[-1] == "completed"
    assert kinds.count("progress") == 2
    job = await handle.info()
    assert job is not None
    assert (job.progress_number, job.progress_message) == (60, "more than half")
    assert (await handle.logs()).lines == ("first line", "second line")


async def test_a_cancelled_job_is_failed_by_the_node_worker_that_gets_it(node: Peer, toril: Toril) -> None:
    double = toril.registry.get("double")
    assert double is not None
    unwanted, wanted = await double.enqueue(n=1), await double.enqueue(n=2)
    assert await unwanted.cancel("nobody wants it", by="test")
    await node.ask("worker", queue=QUEUE)
    assert await wanted.result(timeout=5) == {"doubled": 4}
    with pytest.raises(JobCancelled, match="nobody wants it"):
        await unwanted.result(timeout=5)
    assert node.runs() == [wanted.id]
    job = await node.get(QUEUE, unwanted.id)
    assert job is not None
    assert job["failedReason"] == "cancelled: nobody wants it"


async def test_a_job_that_a_node_worker_runs_cannot_be_cancelled(node: Peer, toril: Toril) -> None:
    nap = toril.registry.get("nap")
    assert nap is not None
    handle = await nap.enqueue(ms=300)
    # A name that a worker of Toril could have as well.
    await node.ask("worker", queue=QUEUE, options={"name": "host-1-abcdef"})
    await node.until(lambda notices: [notice for notice in notices if notice["notice"] == "ran"])
    assert not await handle.cancel("too late", by="test")
    assert await handle.result(timeout=5) == "rested"
    job = await handle.info()
    assert job is not None
    assert (job.cancelled, job.cancel) == (False, None)


async def test_node_reads_a_job_of_toril(node: Peer, toril: Toril, empty: dump.Client) -> None:
    double = toril.registry.get("double")
    assert double is not None
    handle = await double.with_options(priority=3, owner="ann", tags=("a", "b")).enqueue(n=7)
    job = await node.get(QUEUE, handle.id)
    assert job is not None
    assert (job["id"], job["name"], job["data"], job["priority"]) == (handle.id, "double", {"n": 7}, 3)
    assert job["opts"]["toril"]["owner"] == "ann"
    assert await node.job(QUEUE, handle.id, "getState") == "prioritized"
    await node.job(QUEUE, handle.id, "changePriority", {"priority": 0})
    assert await node.job(QUEUE, handle.id, "getState") == "waiting"
    assert empty.get(f"bull:{QUEUE}:id") == "1"
