"""What happens to a job, live and again."""

import asyncio
from typing import Any

import pytest

from toril import ConfigError, Context, Event, JobNotFound, Resync, Snapshot, Toril
from toril.tasks import watch
from toril.tasks.handle import JobEvent


async def collect(stream: Any) -> list[JobEvent]:
    return [event async for event in stream]


def kinds(events: list[JobEvent]) -> list[str]:
    return [event.kind for event in events]


async def test_events_begin_with_a_snapshot_and_end_with_the_job(toril: Toril) -> None:
    # S0-07, S1-04
    @toril.task
    async def steps(ctx: Context) -> None:
        for percent in (10, 50):
            await ctx.progress(percent, f"at {percent}")
        await ctx.log("done")

    job, other = await steps.enqueue(), await steps.enqueue()
    stream = job.events()
    first = await anext(stream)
    assert isinstance(first, Snapshot)
    assert (first.job.id, first.job.state) == (job.id, "waiting")
    async with toril.worker():
        rest = await collect(stream)
        await other.result(timeout=5)
    assert kinds(rest)[0] == "active"
    assert kinds(rest)[-1] == "completed"
    assert {event.job_id for event in rest if isinstance(event, Event)} == {job.id}
    values = [event.data["value"] for event in rest if isinstance(event, Event) and event.kind == "progress"]
    assert values[-1] == {"progress": 50, "message": "at 50"}
    assert [event.data for event in rest if isinstance(event, Event) and event.kind == "log"] == [{"line": "done"}]


async def test_events_can_be_read_again_from_any_point(toril: Toril) -> None:
    @toril.task
    async def short() -> None: ...

    job, noise = await short.enqueue(), await short.enqueue()
    everything = job.events()
    start = (await anext(everything)).id
    async with toril.worker():
        live = await collect(everything)
        await noise.result(timeout=5)
    assert await collect(job.events(after=start)) == live
    assert await collect(job.events(after=live[0].id)) == live[1:]
    assert await collect(job.events(after=live[-1].id)) == []
    assert kinds(await collect(job.events())) == ["snapshot"]


async def test_a_reconnecting_reader_misses_nothing(toril: Toril) -> None:
    go = asyncio.Event()

    @toril.task
    async def steps(ctx: Context) -> None:
        await ctx.log("one")
        await go.wait()
        await ctx.log("two")

    job = await steps.enqueue()
    async with toril.worker():
        seen: list[str] = []
        stream = job.events()
        async for event in stream:
            last = event.id
            if isinstance(event, Event) and event.kind == "log":
                seen.append(event.data["line"])
                break
        await stream.aclose()
        go.set()
        await job.result(timeout=5)
        rest = await collect(job.events(after=last))
    seen += [event.data["line"] for event in rest if isinstance(event, Event) and event.kind == "log"]
    assert seen == ["one", "two"]


async def test_a_replayed_job_shows_both_its_lives(toril: Toril) -> None:
    runs = 0

    @toril.task(attempts=1)
    async def flaky() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise OSError("first")

    job = await flaky.enqueue()
    stream = job.events()
    start = (await anext(stream)).id
    async with toril.worker():
        assert kinds(await collect(stream))[-1] == "failed"
        assert await toril.queue("default").retry_failed() == 1
        await job.result(timeout=5)
        again = kinds(await collect(job.events(after=start)))
    assert again.count("failed") == again.count("completed") == 1
    assert again[-1] == "completed"


async def test_pruned_events_are_replaced_by_a_resync(toril: Toril) -> None:
    @toril.task
    async def short() -> None: ...

    first = await short.enqueue()
    stream = first.events()
    start = (await anext(stream)).id
    await stream.aclose()
    await toril.enqueue_many(short.call() for _ in range(300))
    async with toril.worker(concurrency=50):
        await first.result(timeout=5)
        handles = await toril.enqueue_many(short.call() for _ in range(50))
        for handle in handles:
            await handle.result(timeout=5)
    await toril.engine.jobs.prune("default", completed=None, failed=None, events=10, now=toril.clock.now_ms())
    events = await collect(first.events(after=start))
    assert isinstance(events[0], Resync)
    assert events[0].job.state == "completed"
    assert kinds(events) == ["resync"]


async def test_a_slow_reader_gets_a_resync_and_goes_on(toril: Toril, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_MOST_UNREAD", 5)
    go = asyncio.Event()

    @toril.task
    async def chatty(ctx: Context) -> None:
        for n in range(40):
            await ctx.log(str(n))
        await go.wait()
        await ctx.log("last")

    job = await chatty.enqueue()
    stream = job.events()
    assert (await anext(stream)).kind == "snapshot"
    async with toril.worker():
        while (await job.logs()).total < 40:
            await asyncio.sleep(0)
        # The reader of the queue has seen them all once a second follower, that begins after them, has.
        async for event in job.events():
            if event.kind == "snapshot":
                break
        second = await anext(stream)
        go.set()
        rest = await collect(stream)
    assert second.kind in ("active", "log", "resync")
    assert "resync" in kinds([second, *rest])
    assert rest[-1].kind == "completed"
    lines = [event.data["line"] for event in rest if isinstance(event, Event) and event.kind == "log"]
    assert lines[-1] == "last"


@pytest.mark.parametrize("after", ["x", "", "1;2", "-"])
async def test_what_is_no_event_id_is_refused(toril: Toril, after: str) -> None:
    @toril.task
    async def short() -> None: ...

    job = await short.enqueue()
    with pytest.raises(ConfigError):
        await collect(job.events(after=after))
    with pytest.raises(JobNotFound):
        await collect(toril.job("nobody").events())


async def test_many_followers_share_one_reader(toril: Toril) -> None:
    @toril.task
    async def short(n: int) -> int:
        return n

    handles = await toril.enqueue_many(short.call(n) for n in range(50))
    watcher = toril._desk.watcher
    waiting = [asyncio.create_task(handle.result(timeout=8)) for handle in handles]
    while not watcher._readers:
        await asyncio.sleep(0)
    assert len(watcher._readers) == 1
    async with toril.worker():
        assert await asyncio.gather(*waiting) == list(range(50))
    assert watcher._readers == {}
