"""The life of a job as an application sees it, on a real engine with a real worker."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from toril import (
    Context,
    Exponential,
    Fixed,
    InvalidArguments,
    JobFailed,
    NeverRetry,
    PayloadTooLarge,
    Retention,
    Retry,
    Settings,
    Snooze,
    State,
    Toril,
    WebUrl,
)
from toril.settings import JobSettings


class Report(BaseModel):
    pages: int
    markdown: str


async def test_the_example_of_the_front_page(toril: Toril) -> None:
    # S0-07, S1-14, S0-02, S4-12
    @toril.task(
        queue="docs",
        attempts=3,
        backoff=Exponential(1.0, jitter=0.2),
        timeout="5m",
        retention=Retention(completed="7d", failed="14d"),
    )
    async def generate_docs(ctx: Context, url: WebUrl, depth: int = 2) -> Report:
        await ctx.progress(45, "rendering")
        await ctx.log(f"fetched {depth} pages")
        return Report(pages=depth, markdown=url)

    job = await generate_docs.enqueue("https://example.com", depth=3)
    waiting = await job.info()
    assert waiting is not None
    assert (waiting.state, waiting.queue, json.loads(waiting.data)) == (
        State.WAITING,
        "docs",
        {"url": "https://example.com", "depth": 3},
    )
    async with toril.worker():
        assert await job.result(timeout=5) == Report(pages=3, markdown="https://example.com")
    done = await job.info()
    assert done is not None
    assert (done.state, done.attempts_made, done.progress_number, done.progress_message) == (
        State.COMPLETED,
        1,
        45,
        "rendering",
    )
    assert (await job.logs()).lines == ("fetched 3 pages",)
    with pytest.raises(InvalidArguments, match="url: a web address was expected that begins with http"):
        await generate_docs.enqueue("example.com")


class Size(Enum):
    BIG = "big"


@dataclass
class Box:
    width: float


class Wanted(TypedDict):
    kind: Literal["a", "b"]


async def test_rich_types_arrive_as_themselves(toril: Toril) -> None:
    # S1-23, S0-33
    @toril.task
    async def echo(
        report: Report, at: datetime, size: Size, id: UUID, box: Box, wanted: Wanted, kind: Literal["x"], n: int | None
    ) -> tuple[Report, datetime, Size, UUID, Box, Wanted, str, int | None]:
        assert isinstance(report, Report)
        assert isinstance(box, Box)
        return report, at, size, id, box, wanted, kind, n

    values = (
        Report(pages=1, markdown="x"),
        datetime(2030, 1, 1, tzinfo=UTC),
        Size.BIG,
        UUID(int=5),
        Box(1.5),
        Wanted(kind="a"),
        "x",
        None,
    )
    async with toril.worker():
        job = await echo.enqueue(*values[:6], kind="x", n=None)
        assert await job.result(timeout=5) == values


async def test_plain_functions_run_beside_the_loop(toril: Toril) -> None:
    @toril.task
    def add(ctx: Context, a: int, b: int = 1) -> int:
        ctx.progress_sync(50)
        ctx.log_sync("half")
        return a + b

    async with toril.worker():
        job = await add.enqueue(1, b=2)
        assert await job.result(timeout=5) == 3
    assert (await job.logs()).lines == ("half",)


async def test_options_and_arguments_share_no_names(toril: Toril) -> None:
    @toril.task
    async def plan(timeout: int, priority: str, id: str, queue: str, name: str, delay: float) -> list[Any]:
        return [timeout, priority, id, queue, name, delay]

    async with toril.worker():
        job = await plan.with_options(timeout=5, priority=1, id="mine").enqueue(
            timeout=9, priority="p", id="i", queue="q", name="n", delay=0.5
        )
        assert await job.result(timeout=5) == [9, "p", "i", "q", "n", 0.5]
    assert job.id == "mine"


async def test_an_id_is_stored_once(toril: Toril) -> None:
    @toril.task
    async def order(n: int) -> int:
        return n

    first = await order.with_options(id="order-17").enqueue(1)
    second = await order.with_options(id="order-17").enqueue(2)
    async with toril.worker():
        assert await first.result(timeout=5) == await second.result(timeout=5) == 1
    assert (await toril.queue("default").counts()).total == 1


async def test_failures_reach_whoever_waits(toril: Toril) -> None:
    # S0-05
    runs: list[int] = []

    @toril.task(attempts=3, backoff=Fixed(0))
    async def fail(ctx: Context) -> None:
        runs.append(ctx.attempt)
        raise LookupError("no such page")

    @toril.task(attempts=5)
    async def refuse() -> None:
        raise NeverRetry("not allowed")

    async with toril.worker():
        with pytest.raises(JobFailed, match="LookupError: no such page") as caught:
            await (await fail.enqueue()).result(timeout=5)
        with pytest.raises(JobFailed, match="not allowed"):
            await (await refuse.enqueue()).result(timeout=5)
    assert runs == [1, 2, 3]
    assert "raise LookupError" in caught.value.stack
    assert caught.value.job_id is not None


async def test_a_backoff_of_your_own_decides(toril: Toril) -> None:
    asked: list[tuple[int, str]] = []

    def policy(attempt: int, error: BaseException) -> float | None:
        asked.append((attempt, str(error)))
        return 0 if attempt < 3 else None

    @toril.task(attempts=10, backoff=policy)
    async def flaky() -> None:
        raise OSError("reset")

    @toril.task(attempts=2)
    async def calm() -> None:
        raise OSError("reset")

    async with toril.worker():
        with pytest.raises(JobFailed):
            await (await flaky.enqueue()).result(timeout=5)
        assert asked == [(1, "reset"), (2, "reset"), (3, "reset")]
        asked.clear()
        with pytest.raises(JobFailed):
            await (await calm.with_options(backoff=policy).enqueue()).result(timeout=5)
        assert asked == [(1, "reset")]


async def test_a_handler_steers_its_job(toril: Toril) -> None:
    seen: list[tuple[int, int]] = []

    @toril.task(attempts=2, backoff=None)
    async def steer(ctx: Context) -> str:
        seen.append((ctx.attempt, ctx.starts))
        if ctx.starts == 1:
            raise Snooze(0)
        if ctx.starts == 2:
            raise Retry("again", in_=timedelta(0))
        return "done"

    async with toril.worker():
        assert await (await steer.enqueue()).result(timeout=5) == "done"
    assert seen == [(1, 1), (1, 2), (2, 3)]


async def test_a_result_that_is_no_result_fails_the_job(toril: Toril) -> None:
    @toril.task(attempts=3)
    async def wrong() -> int:
        return "x"  # type: ignore[return-value]

    async with toril.worker():
        with pytest.raises(JobFailed, match="InvalidResult: Task 'wrong' returned what its annotation does not allow"):
            await (await wrong.enqueue()).result(timeout=5)


async def test_limits_come_from_the_settings() -> None:
    limits = Settings(jobs=JobSettings(payload_limit=100, result_limit=50, attempts=1, queue="mine"))
    async with Toril("sqlite://", settings=limits) as toril:

        @toril.task
        async def grow(text: str) -> str:
            return text * 10

        assert (grow.queue, grow.options.attempts) == ("mine", 1)
        with pytest.raises(PayloadTooLarge):
            await grow.enqueue("x" * 200)
        async with toril.worker():
            with pytest.raises(JobFailed, match="PayloadTooLarge"):
                await (await grow.enqueue("x" * 10)).result(timeout=5)


async def test_bulk_keeps_the_order_given(toril: Toril) -> None:
    order: list[int] = []

    @toril.task
    async def note(n: int) -> int:
        order.append(n)
        return n

    handles = await toril.enqueue_many(note.call(n) for n in range(1200))
    async with toril.worker(concurrency=1):
        results: Sequence[int] = [await handle.result(timeout=8) for handle in handles]
    assert results == order == list(range(1200))


async def test_a_task_can_still_be_called(toril: Toril) -> None:
    @toril.task
    async def double(ctx: Context, n: int) -> int:
        await ctx.progress(1)
        await ctx.log("x")
        assert (ctx.job_id, ctx.attempt, ctx.worker, ctx.is_cancelled) == ("detached", 1, "", False)
        assert ctx.enqueued_at == ctx.started_at
        return n * 2

    @toril.task
    def halve(n: int) -> float:
        return n / 2

    assert await double(4) == 8
    assert halve(4) == 2
    assert (await toril.queue("default").counts()).total == 0


async def test_what_a_handler_reports_cannot_break_it(toril: Toril) -> None:
    @toril.task(attempts=1)
    async def report(ctx: Context, bad: bool) -> None:
        await ctx.log("x" * 20_000 + "\ud800")
        await ctx.log("\ud800")
        await ctx.progress(10, "y" * 5_000 + "\ud800")
        if bad:
            await ctx.progress(float("nan"))

    async with toril.worker():
        job = await report.enqueue(bad=False)
        await job.result(timeout=5)
        with pytest.raises(JobFailed, match="ConfigError: progress: expected a finite number, got nan"):
            await (await report.enqueue(bad=True)).result(timeout=5)
    lines = (await job.logs()).lines
    assert ([len(line) for line in lines], lines[1]) == ([10_000, 1], "?")
    info = await job.info()
    assert info is not None
    assert len(info.progress_message) == 1_000
