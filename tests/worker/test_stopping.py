"""Timeouts and cancellation: how a handler is told to stop, and what happens when it does not."""

import asyncio
import threading
import time

import pytest

from tests.worker.workshop import Workshop
from toril.engine.ports.jobs import CancelAnswer
from toril.jobs.model import Job
from toril.jobs.retry import Fixed
from toril.jobs.signals import Snooze
from toril.jobs.states import State
from toril.kernel.telemetry import HandlerStuck, JobStarted
from toril.tasks.context import Context


async def cancel(shop: Workshop, id: str, reason: str = "enough", by: str = "anna") -> CancelAnswer:
    return await shop.engine.jobs.cancel("default", id, by=by, reason=reason, now=shop.clock.now_ms())


def assert_cancelled(job: Job) -> None:
    assert (job.state, job.failed_reason, job.attempts_made) == (State.FAILED, "cancelled: enough", 0)
    assert job.cancel is not None
    assert (job.cancel.by, job.cancel.reason) == ("anna", "enough")


async def test_a_timeout_interrupts_and_counts_as_an_attempt(shop: Workshop) -> None:
    # S4-25
    cleaned = []

    @shop.toril.task(timeout="50ms", attempts=2, backoff=Fixed(1))
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    handle = await slow.enqueue()
    async with shop.worker():
        job = await shop.in_state(handle.id, State.DELAYED)
        assert (job.attempts_made, cleaned) == (1, [True])
        shop.clock.advance("1s")
        job = await shop.finished(handle.id)
    assert job.failed_reason == "JobTimeout: slow ran longer than its timeout of 0.05 s."
    assert job.stacktrace[-1].startswith("JobTimeout: slow")
    assert "asyncio.Event().wait()" in job.stacktrace[-1]
    assert not any(isinstance(event, HandlerStuck) for event in shop.told)


async def test_a_fast_job_is_not_touched_by_its_timeout(shop: Workshop) -> None:
    @shop.toril.task(timeout="50ms")
    async def fast() -> int:
        return 1

    @shop.toril.task()
    async def after() -> None:
        await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0.15)

    handle, other = await fast.enqueue(), await after.enqueue()
    async with shop.worker():
        await shop.finished(other.id)
        job = await shop.finished(handle.id)
    assert (job.state, len(job.history)) == (State.COMPLETED, 1)


async def test_a_handler_may_answer_the_timeout_with_a_result_or_a_signal(shop: Workshop) -> None:
    @shop.toril.task(timeout="50ms", attempts=1)
    async def partial(snooze: bool) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if snooze:
                raise Snooze(60) from None
        return "half of it"

    one, two = await partial.enqueue(False), await partial.enqueue(True)
    async with shop.worker():
        job = await shop.finished(one.id)
        other = await shop.in_state(two.id, State.DELAYED)
    assert job.result == '"half of it"'
    assert other.attempts_made == 0


async def test_an_error_while_cleaning_up_does_not_hide_the_timeout(shop: Workshop) -> None:
    @shop.toril.task(timeout="50ms", attempts=1)
    async def messy() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("disk")

    handle = await messy.enqueue()
    async with shop.worker():
        job = await shop.finished(handle.id)
    assert (job.failed_reason or "").startswith("JobTimeout: ")
    assert "Because of OSError: disk" in job.stacktrace[-1]


async def test_a_handler_that_swallows_its_cancellation_is_given_up_and_reported(shop: Workshop) -> None:  # A06
    released = asyncio.Event()

    @shop.toril.task(timeout="50ms", attempts=1)
    async def stubborn() -> str:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        return "too late"

    @shop.toril.task()
    async def next_one() -> None: ...

    handle = await stubborn.enqueue()
    worker = shop.worker(concurrency=1)
    async with worker:
        job = await shop.finished(handle.id)
        [stuck] = await shop.heard(HandlerStuck)
        assert (stuck.job_id, stuck.cause, stuck.pool) == (handle.id, "timeout", "loop")
        assert "cannot be stopped and goes on" in (job.failed_reason or "")
        other = await next_one.enqueue()
        # The slot stays taken for as long as the handler goes on.
        await asyncio.wait([asyncio.ensure_future(shop.heard(JobStarted, 2))], timeout=0.2)
        assert (await shop.get(other.id)).state is State.WAITING
        released.set()
        assert (await shop.finished(other.id)).state is State.COMPLETED
    assert (await shop.get(handle.id)).state is State.FAILED


async def test_a_running_job_is_cancelled_within_a_second(shop: Workshop) -> None:  # A06
    @shop.toril.task()
    async def long() -> None:
        await asyncio.Event().wait()

    handle = await long.enqueue()
    async with shop.worker():
        await shop.in_state(handle.id, State.ACTIVE)
        began = time.monotonic()
        assert await cancel(shop, handle.id) is CancelAnswer.REQUESTED
        assert_cancelled(await shop.finished(handle.id))
        assert time.monotonic() - began < 5.0  # within a second, but for a busy machine


async def test_a_cancellation_is_seen_when_no_slot_is_free(shop: Workshop) -> None:
    @shop.toril.task()
    async def long() -> None:
        await asyncio.Event().wait()

    handle, waiting = await long.enqueue(), await long.enqueue()
    async with shop.worker(concurrency=1):
        await shop.in_state(handle.id, State.ACTIVE)
        began = time.monotonic()
        await cancel(shop, handle.id)
        assert_cancelled(await shop.finished(handle.id))
        assert time.monotonic() - began < 5.0  # within a second, but for a busy machine
        await shop.in_state(waiting.id, State.ACTIVE)
        await cancel(shop, waiting.id)
        assert_cancelled(await shop.finished(waiting.id))


@pytest.mark.parametrize("end", ["return", "raise"])
async def test_a_cancelled_job_is_cancelled_however_it_ends(shop: Workshop, end: str) -> None:
    @shop.toril.task()
    async def odd() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if end == "raise":
                raise ValueError("while cleaning up") from None

    handle = await odd.enqueue()
    async with shop.worker():
        await shop.in_state(handle.id, State.ACTIVE)
        await cancel(shop, handle.id)
        assert_cancelled(await shop.finished(handle.id))


async def test_child_tasks_are_cancelled_too(shop: Workshop) -> None:  # A06
    cancelled = []

    async def child() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    @shop.toril.task()
    async def parent() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(child())

    handle = await parent.enqueue()
    async with shop.worker():
        await shop.in_state(handle.id, State.ACTIVE)
        await cancel(shop, handle.id)
        assert_cancelled(await shop.finished(handle.id))
    assert cancelled == [True, True, True]


async def test_a_plain_function_learns_that_it_is_cancelled(shop: Workshop) -> None:
    begun = threading.Event()

    @shop.toril.task()
    def plain(ctx: Context) -> str:
        begun.set()
        while not ctx.is_cancelled:
            threading.Event().wait(0.005)
        return "stopped early"

    handle = await plain.enqueue()
    async with shop.worker():
        await asyncio.to_thread(begun.wait)
        await cancel(shop, handle.id)
        assert_cancelled(await shop.finished(handle.id))


async def test_what_a_plain_function_returns_because_of_its_timeout_is_no_result(shop: Workshop) -> None:
    @shop.toril.task(timeout="50ms", attempts=1)
    def plain(ctx: Context) -> str:
        while not ctx.is_cancelled:
            threading.Event().wait(0.005)
        return "half"

    handle = await plain.enqueue()
    async with shop.worker():
        job = await shop.finished(handle.id)
    assert job.failed_reason == "JobTimeout: plain ran longer than its timeout of 0.05 s."


async def test_a_thread_that_cannot_be_stopped_is_reported_and_keeps_its_slot(shop: Workshop) -> None:  # A06
    release = threading.Event()

    @shop.toril.task(timeout="50ms", attempts=1)
    def deaf() -> None:
        release.wait(5)

    @shop.toril.task()
    def next_one() -> None: ...

    handle = await deaf.enqueue()
    async with shop.worker(concurrency=1):
        job = await shop.finished(handle.id)
        [stuck] = await shop.heard(HandlerStuck)
        assert (stuck.pool, stuck.cause) == ("thread", "timeout")
        assert "cannot be stopped and goes on" in (job.failed_reason or "")
        other = await next_one.enqueue()
        await asyncio.wait([asyncio.ensure_future(shop.heard(JobStarted, 2))], timeout=0.2)
        assert (await shop.get(other.id)).state is State.WAITING
        release.set()
        assert (await shop.finished(other.id)).state is State.COMPLETED
