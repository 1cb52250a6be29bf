"""Progress and log lines: in order, in bulk, and before the end of their run."""

import asyncio

from tests.worker.faulty import with_faults
from tests.worker.workshop import Workshop
from toril.errors import StoreReadOnly
from toril.jobs.states import State
from toril.kernel.telemetry import ReportsDropped
from toril.tasks.context import Context


async def test_reports_are_stored_before_the_end_and_in_order(shop: Workshop) -> None:  # S0-07
    @shop.toril.task()
    async def talk(ctx: Context) -> None:
        for number in range(1, 201):
            await ctx.log(f"line {number}")
            await ctx.progress(number / 2)

    handle = await talk.enqueue()
    async with shop.worker():
        job = await shop.finished(handle.id)
        logs = await shop.engine.inspect.logs("default", handle.id)
    assert job.progress_number == 100
    assert logs.lines == tuple(f"line {number}" for number in range(1, 201))


async def test_progress_is_visible_while_the_job_runs(shop: Workshop) -> None:  # S0-07
    go = asyncio.Event()

    @shop.toril.task()
    async def talk(ctx: Context) -> None:
        await ctx.progress(45, "rendering")
        await go.wait()

    handle = await talk.enqueue()
    async with shop.worker():
        while (job := await shop.get(handle.id)).progress_number != 45:
            await shop.engine.bus.wait("default", after="0", timeout=0.01)
        assert (job.state, job.progress_message) == (State.ACTIVE, "rendering")
        go.set()
        await shop.finished(handle.id)


async def test_many_reports_need_few_calls(shop: Workshop) -> None:
    calls = []

    @shop.toril.task()
    async def talk(ctx: Context) -> None:
        for number in range(500):
            await ctx.log(str(number))

    engine, store = with_faults(shop.engine)

    def count(method: str) -> bool:
        calls.append(method)
        return False

    store.lose_reply = count
    handle = await talk.enqueue()
    async with shop.worker(engine=engine):
        await shop.finished(handle.id)
    assert calls.count("report") == 1


async def test_a_flood_of_lines_is_bounded_and_told(shop: Workshop) -> None:
    @shop.toril.task()
    async def flood(ctx: Context) -> None:
        for number in range(25_000):
            ctx.log_sync(str(number))
            ctx.progress_sync(number)

    handle = await flood.enqueue()
    async with shop.worker():
        job = await shop.finished(handle.id)
        logs = await shop.engine.inspect.logs("default", handle.id)
        [dropped] = await shop.heard(ReportsDropped)
    assert (job.state, job.progress_number) == (State.COMPLETED, 24_999)
    assert (logs.lines[-1], dropped.number) == ("24999", 10_000)


async def test_reports_that_cannot_be_stored_do_not_keep_the_job(shop: Workshop) -> None:
    @shop.toril.task()
    async def talk(ctx: Context) -> None:
        await ctx.log("lost")

    engine, store = with_faults(shop.engine)

    def refuse(method: str) -> bool:
        if method == "report":
            raise StoreReadOnly("no more lines")
        return False

    store.refuse = refuse
    handle = await talk.enqueue()
    async with shop.worker(engine=engine):
        job = await shop.finished(handle.id)
        [dropped] = await shop.heard(ReportsDropped)
    assert job.state is State.COMPLETED
    assert (dropped.number, dropped.reason) == (1, "no more lines")
