"""Waiting for a job from outside: its result, its cancellation, and what there is to know when it is gone."""

import asyncio

import pytest
from pydantic import BaseModel

from toril import (
    ConfigError,
    EngineUnavailable,
    InvalidResult,
    Job,
    JobCancelled,
    JobNotFound,
    ResultExpired,
    ResultTimeout,
    Toril,
)
from toril.engine.sqlite.inspect import SqliteJobInspector
from toril.tasks import handle


class Report(BaseModel):
    pages: int
    markdown: str


async def test_waiting_has_an_end(toril: Toril) -> None:
    @toril.task
    async def later() -> None: ...

    job = await later.enqueue()
    with pytest.raises(ResultTimeout, match=r"did not finish within 0\.05 s"):
        await job.result(timeout=0.05)
    with pytest.raises(ResultTimeout):
        await job.result(timeout=0)
    with pytest.raises(ConfigError, match="timeout: expected seconds"):
        await job.result(timeout="soon")


async def test_a_store_that_is_away_meanwhile_is_waited_for(toril: Toril, monkeypatch: pytest.MonkeyPatch) -> None:
    # A01
    asked = 0
    get = SqliteJobInspector.get

    async def away_for_a_while(inspector: SqliteJobInspector, id: str, queue: str | None = None) -> Job | None:
        nonlocal asked
        asked += 1
        if asked in {2, 3, 4}:
            raise EngineUnavailable("the test took the store away")
        return await get(inspector, id, queue)

    @toril.task
    async def work() -> str:
        return "done"

    job = await work.enqueue()
    monkeypatch.setattr(SqliteJobInspector, "get", away_for_a_while)
    monkeypatch.setattr(handle, "_LOOK_AGAIN_S", 0.01)
    waiting = asyncio.create_task(job.result(timeout=30))
    while asked < 5 and not waiting.done():
        await asyncio.sleep(0)
    async with toril.worker():
        assert await waiting == "done"


async def test_a_waiting_job_is_cancelled_for_good(toril: Toril) -> None:
    @toril.task
    async def never() -> None:
        raise AssertionError("it ran")

    job = await never.enqueue()
    assert await job.cancel("changed my mind", by="u1")
    with pytest.raises(JobCancelled, match="was cancelled: changed my mind") as caught:
        await job.result(timeout=5)
    assert (caught.value.reason, caught.value.by) == ("changed my mind", "u1")
    assert not await job.cancel()
    with pytest.raises(JobNotFound, match="No job 'nobody' is stored in any queue"):
        await toril.job("nobody").cancel()


async def test_a_running_job_is_cancelled(toril: Toril) -> None:
    begun = asyncio.Event()

    @toril.task
    async def forever() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with toril.worker():
        job = await forever.enqueue()
        waiting = asyncio.create_task(job.result(timeout=8))
        await begun.wait()
        assert await job.cancel("enough")
        with pytest.raises(JobCancelled, match="enough"):
            await waiting


async def test_a_job_that_is_gone_is_told_from_one_that_never_was(toril: Toril) -> None:
    @toril.task
    async def short() -> None: ...

    job = await short.enqueue()
    assert await toril.queue("default").remove([job.id]) == ("ok",)
    assert await job.info() is None
    with pytest.raises(ResultExpired, match="not stored any more"):
        await job.result(timeout=1)
    with pytest.raises(JobNotFound):
        await toril.job(job.id).result(timeout=1)


async def test_removal_is_seen_while_waiting(toril: Toril) -> None:
    @toril.task
    async def short() -> None: ...

    job = await short.enqueue()
    waiting = asyncio.create_task(job.result(timeout=8))
    stream = job.events()
    assert (await anext(stream)).kind == "snapshot"
    await toril.queue("default").remove([job.id])
    assert [event.kind async for event in stream] == ["removed"]
    with pytest.raises(ResultExpired):
        await waiting


async def test_a_handle_can_be_made_from_an_id(toril: Toril) -> None:
    @toril.task(queue="docs")
    async def render(n: int) -> Report:
        return Report(pages=n, markdown="")

    job = await render.enqueue(3)
    again, foreign = toril.job(job.id), Toril("sqlite://").job(job.id)
    assert (again.queue, again.id, foreign.queue) == (None, job.id, None)
    async with toril.worker():
        assert await again.result(timeout=5) == Report(pages=3, markdown="")
    assert again.queue == "docs"
    assert await toril.job(job.id, "docs").result() == Report(pages=3, markdown="")
    assert await toril.job(job.id, "other").info() is None


async def test_a_changed_return_type_is_told(toril: Toril) -> None:
    @toril.task(name="change")
    async def before() -> str:
        return "x"

    async with toril.worker():
        job = await before.enqueue()
        await job.result(timeout=5)
    later = Toril("sqlite://")

    @later.task(name="change")
    async def after() -> int:
        return 1

    handle = type(job)(job.id, job.queue, after.signature, job._desk)
    with pytest.raises(InvalidResult, match="The stored result of Task 'change'"):
        await handle.result()
