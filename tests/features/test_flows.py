"""Flows as an application sees them, on both engines."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from tests.redis.server import RedisServer
from toril import (
    Call,
    ChildJobs,
    ConfigError,
    Context,
    Flow,
    FlowHandle,
    JobCancelled,
    JobFailed,
    NeverRetry,
    State,
    Toril,
    Unique,
)
from toril.engine.ports.jobs import Added
from toril.jobs.model import NewJob
from toril.tasks.middleware import EnqueueNext


class Page(BaseModel):
    url: str
    words: int


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("flows"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "redis"])
async def app(request: pytest.FixtureRequest) -> AsyncIterator[Toril]:
    """An application with the tasks of this file."""
    if request.param == "sqlite":
        url = "sqlite://"
    else:
        url = f"{request.getfixturevalue('server').url}?prefix=t{abs(hash(request.node.name))}"
    async with Toril(url) as toril:
        declare(toril)
        yield toril


def declare(toril: Toril) -> None:
    @toril.task(queue="pages", attempts=1)
    async def fetch(url: str) -> Page:
        if "broken" in url:
            raise NeverRetry(f"cannot fetch {url}")
        return Page(url=url, words=len(url))

    @toril.task(queue="pages")
    async def note(text: str) -> str:
        return text

    @toril.task(queue="books")
    async def bind(ctx: Context) -> dict[str, list[str] | int]:
        children = await ctx.children()
        pages = children.results(fetch)
        return {
            "pages": [page.url for page in pages],
            "words": sum(page.words for page in pages),
            "notes": children.results(note),
            "failed": [child.reason for child in children.failed],
        }

    @toril.task(queue="books")
    def bind_in_thread(ctx: Context) -> int:
        return sum(page.words for page in ctx.children_sync().results(fetch))


def calls(toril: Toril, *urls: str) -> list[Call[Any]]:
    fetch = toril.registry.get("fetch")
    assert fetch is not None
    return [fetch.call(url) for url in urls]


def flow(toril: Toril, *urls: str, parent: str = "bind", policy: Any = "fail") -> Flow[Any]:
    task = toril.registry.get(parent)
    assert task is not None
    return toril.flow(task.call(), calls(toril, *urls), on_child_failure=policy)


async def test_a_parent_reads_what_its_children_returned(app: Toril) -> None:
    # A12
    note = app.registry.get("note")
    bind = app.registry.get("bind")
    assert note is not None
    assert bind is not None
    handle = await app.flow(bind.call(), [*calls(app, "one", "three"), note.call("x")]).enqueue()
    assert [child.job.queue for child in handle.children] == ["pages"] * 3
    info = await handle.job.info()
    assert info is not None
    assert info.state is State.WAITING_CHILDREN
    async with app.worker():
        assert await handle.result(timeout=8) == {"pages": ["one", "three"], "words": 8, "notes": ["x"], "failed": []}
        assert await handle.children[0].result(timeout=8) == Page(url="one", words=3)


async def test_a_plain_function_reads_them_too(app: Toril) -> None:
    handle = await flow(app, "one", "three", parent="bind_in_thread").enqueue()
    async with app.worker():
        assert await handle.result(timeout=8) == 8


async def test_by_default_a_failed_child_fails_its_parent(app: Toril) -> None:
    handle = await flow(app, "one", "broken").enqueue()
    async with app.worker():
        with pytest.raises(JobFailed, match=f"child .*{handle.children[1].job.id} failed"):
            await handle.result(timeout=8)


@pytest.mark.parametrize("policy", ["continue", "ignore", "remove"])
async def test_a_parent_survives_where_it_may(app: Toril, policy: str) -> None:
    handle = await flow(app, "broken", "one", policy=policy).enqueue()
    async with app.worker():
        result = await handle.result(timeout=8)
    told = ["cannot fetch broken"] if policy != "remove" else []
    assert result == {"pages": ["one"], "words": 3, "notes": [], "failed": told}


async def test_a_parent_that_came_up_early_runs_again_with_all_results(app: Toril) -> None:
    """Its first run may not complete while a child is pending."""
    seen: list[ChildJobs] = []
    gate = asyncio.Event()

    @app.task(queue="books")
    async def slow() -> int:
        await gate.wait()
        return 7

    @app.task(queue="books")
    async def sum_up(ctx: Context) -> int:
        seen.append(children := await ctx.children())
        gate.set()
        return sum(children.results(slow))

    handle = await app.flow(
        sum_up.call(),
        [*calls(app, "broken"), slow.call()],
        on_child_failure="continue",
    ).enqueue()
    async with app.worker(concurrency=3):
        assert await handle.result(timeout=8) == 7
    assert [(len(one.pending), len(one.failed)) for one in seen] == [(1, 1), (0, 1)]
    info = await handle.job.info()
    assert info is not None
    assert info.attempts_made == 1


async def test_flows_nest(app: Toril) -> None:
    inner = flow(app, "one", "three", parent="bind_in_thread")

    @app.task(queue="books")
    async def double(ctx: Context) -> list[int]:
        return [2 * value for value in (await ctx.children()).values()]

    handle: FlowHandle[list[int]] = await app.flow(double.call(), [inner, inner]).enqueue()
    assert len(list(handle)) == 7
    async with app.worker():
        assert await handle.result(timeout=8) == [16, 16]


async def test_a_whole_flow_is_cancelled(app: Toril) -> None:
    handle = await flow(app, "one", "two").enqueue()
    assert await handle.cancel("enough", by="ann")
    async with app.worker():
        for job in handle:
            with pytest.raises(JobCancelled, match="enough"):
                await job.result(timeout=8)
    assert not await handle.cancel()


async def test_middleware_sees_each_job_of_a_flow(app: Toril) -> None:
    seen: list[str] = []

    async def watch(queue: str, jobs: Sequence[NewJob], call_next: EnqueueNext) -> Added:
        seen.extend(f"{queue} {job.name}" for job in jobs)
        if queue == "pages":
            jobs = [job._replace(data='{"url":"changed"}') for job in jobs]
        return await call_next(queue, jobs)

    app.add_middleware(enqueue=watch)
    handle = await flow(app, "one").enqueue()
    assert seen == ["books bind", "pages fetch"]
    async with app.worker():
        assert (await handle.result(timeout=8))["pages"] == ["changed"]


async def test_middleware_that_keeps_a_job_back_stops_the_flow(app: Toril) -> None:
    async def swallow(queue: str, jobs: Sequence[NewJob], call_next: EnqueueNext) -> Added:
        return Added(tuple(job.id for job in jobs), tuple(False for _ in jobs))

    app.add_middleware(enqueue=swallow)
    with pytest.raises(ConfigError, match="to be passed on, found 0 jobs"):
        await flow(app, "one").enqueue()
    assert (await app.queue("books").counts()).total == 0


async def test_what_is_no_flow_is_refused(app: Toril) -> None:
    with pytest.raises(ConfigError, match='on_child_failure: expected "fail", "continue", "ignore", "remove"'):
        flow(app, "one", policy="explode")
    bind, fetch = app.registry.get("bind"), app.registry.get("fetch")
    assert bind is not None
    assert fetch is not None
    with pytest.raises(ConfigError, match="expected calls, such as"):
        app.flow(bind.call(), [bind])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="expected a call, such as"):
        app.flow(app.flow(bind.call(), []), [])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="unique"):
        app.flow(bind.call(), [fetch.with_options(unique=Unique("u")).call("x")])


def test_a_flow_from_synchronous_code() -> None:
    toril = Toril("sqlite://")
    declare(toril)
    try:
        handle = flow(toril, "one").enqueue_sync()
        assert len(list(handle)) == 2
        info = handle.job.info_sync()
        assert info is not None
        assert info.state is State.WAITING_CHILDREN
    finally:
        toril.close_sync()


async def test_a_task_that_is_called_directly_has_no_children(app: Toril) -> None:
    bind = app.registry.get("bind")
    assert bind is not None
    with pytest.raises(ConfigError, match="expected a job that a worker runs"):
        await bind()  # type: ignore[operator]
