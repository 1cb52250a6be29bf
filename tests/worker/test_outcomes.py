"""What each way to end a run leads to: the classification, row by row."""

import asyncio

import pytest
from pydantic import BaseModel

from tests.worker.workshop import Workshop
from toril.errors import InvalidArguments, NeverRetry
from toril.jobs.model import Job
from toril.jobs.options import JobOptions, Retention
from toril.jobs.retry import Exponential, Fixed
from toril.jobs.signals import Retry, Snooze
from toril.jobs.states import State
from toril.kernel.telemetry import JobNotDone
from toril.tasks.context import Context


class Answer(BaseModel):
    text: str


async def test_a_returned_value_is_stored_by_its_type(shop: Workshop) -> None:
    @shop.toril.task()
    async def ask(ctx: Context, question: str) -> Answer:
        assert (ctx.attempt, ctx.starts, ctx.queue) == (1, 1, "default")
        return Answer(text=question.upper())

    handle = await ask.enqueue("why")
    async with shop.worker():
        job = await shop.finished(handle.id)
    assert (job.state, job.result, job.attempts_made) == (State.COMPLETED, '{"text":"WHY"}', 1)
    [record] = job.history
    assert (record.number, record.outcome, record.error) == (1, "done", None)
    assert record.worker.startswith("test-")


async def test_attempts_are_used_up_with_growing_waits(shop: Workshop) -> None:  # S0-05
    # S0-18, S1-03, S1-15, S2-07, S3-03
    @shop.toril.task(attempts=3, backoff=Exponential(5.0))
    async def fail() -> None:
        raise ValueError("no luck")

    handle = await fail.enqueue()
    waits = []
    async with shop.worker():
        for start in (1, 2):
            job = await shop.in_state(handle.id, State.DELAYED, starts=start)
            assert job.due is not None
            waits.append(job.due - shop.clock.now_ms())
            shop.clock.advance_ms(waits[-1])
        job = await shop.finished(handle.id)
    assert waits == [5_000, 10_000]
    assert (job.state, job.failed_reason, job.attempts_made) == (State.FAILED, "ValueError: no luck", 3)
    assert [record.outcome for record in job.history] == ["retry", "retry", "failed"]
    assert job.stacktrace[-1].startswith("ValueError: no luck\n")
    assert 'raise ValueError("no luck")' in job.stacktrace[-1]
    assert "toril/worker" not in job.stacktrace[-1]


async def test_stored_attempts_decide_and_not_the_task(shop: Workshop) -> None:
    @shop.toril.task(attempts=5)
    async def fail() -> None:
        raise ValueError

    await shop.add(shop.job("one", "fail", options=JobOptions(attempts=1)))
    async with shop.worker():
        job = await shop.finished("one")
    assert (job.failed_reason, job.attempts_made) == ("ValueError", 1)


@pytest.mark.parametrize(("delay", "waits_ms"), [(7, 7_000), (None, 2_000)])
async def test_a_handler_may_ask_for_a_retry(shop: Workshop, delay: float | None, waits_ms: int) -> None:
    @shop.toril.task(attempts=2, backoff=Fixed(2))
    async def later() -> None:
        raise Retry("not yet", in_=delay)

    handle = await later.enqueue()
    async with shop.worker():
        job = await shop.in_state(handle.id, State.DELAYED)
        assert (job.due, job.attempts_made) == (shop.clock.now_ms() + waits_ms, 1)
        shop.clock.advance_ms(waits_ms)
        job = await shop.finished(handle.id)
    assert (job.failed_reason, job.attempts_made) == ("not yet", 2)


async def test_a_snooze_is_no_attempt(shop: Workshop) -> None:
    calls = []

    @shop.toril.task(attempts=1)
    async def patient(ctx: Context) -> str:
        calls.append(ctx.starts)
        if len(calls) < 3:
            raise Snooze(60)
        return "now"

    handle = await patient.enqueue()
    async with shop.worker():
        for start in (1, 2):
            job = await shop.in_state(handle.id, State.DELAYED, starts=start)
            assert job.attempts_made == 0
            shop.clock.advance("60s")
        job = await shop.finished(handle.id)
    assert (job.state, job.attempts_made, calls) == (State.COMPLETED, 1, [1, 2, 3])


async def test_never_retry_fails_at_once(shop: Workshop) -> None:
    @shop.toril.task(attempts=9)
    async def hopeless() -> None:
        raise NeverRetry("the account is closed")

    handle = await hopeless.enqueue()
    async with shop.worker():
        job = await shop.finished(handle.id)
    assert (job.failed_reason, job.attempts_made) == ("the account is closed", 1)


async def test_arguments_that_do_not_fit_fail_at_once_and_say_which(shop: Workshop) -> None:
    # S1-23
    @shop.toril.task(attempts=9)
    async def grow(size: int) -> None: ...

    await shop.add(shop.job("wrong", "grow", '{"size":"big"}', JobOptions(attempts=9)))
    async with shop.worker():
        job = await shop.finished("wrong")
    assert job.attempts_made == 1
    assert (job.failed_reason or "").startswith("InvalidArguments: ")
    assert "size" in (job.failed_reason or "")


async def test_invalid_arguments_of_another_task_are_an_ordinary_error(shop: Workshop) -> None:
    @shop.toril.task(attempts=2, backoff=Fixed(1))
    async def outer() -> None:
        raise InvalidArguments("of something else")

    handle = await outer.enqueue()
    async with shop.worker():
        job = await shop.in_state(handle.id, State.DELAYED)
    assert job.attempts_made == 1


async def test_a_result_of_the_wrong_type_fails_at_once(shop: Workshop) -> None:
    @shop.toril.task(attempts=9)
    async def number() -> int:
        return "many"  # type: ignore[return-value]

    handle = await number.enqueue()
    async with shop.worker():
        job = await shop.finished(handle.id)
    assert job.attempts_made == 1
    assert (job.failed_reason or "").startswith("InvalidResult: ")


async def test_a_result_above_the_limit_fails_and_says_the_sizes(shop: Workshop) -> None:
    @shop.toril.task()
    async def much() -> str:
        return "ü" * 600

    handle = await much.enqueue()
    async with shop.worker(result_limit=1_000):
        job = await shop.finished(handle.id)
    assert (job.failed_reason or "").startswith("PayloadTooLarge: The result has 1,202 bytes of JSON, expected at most")


async def test_a_result_above_the_limit_may_be_left_out_instead(shop: Workshop) -> None:  # A05
    @shop.toril.task()
    async def much() -> str:
        return "ü" * 600

    handle = await much.enqueue()
    async with shop.worker(result_limit=1_000, result_over_limit="drop"):
        job = await shop.finished(handle.id)
    assert (job.state, job.result) == (State.COMPLETED, "null")
    lines = (await shop.engine.inspect.logs("default", handle.id)).lines
    assert lines == ("The result has 1,202 bytes of JSON, expected at most 1,000: it is not stored.",)


async def test_a_result_within_the_limit_counts_bytes_and_not_a_guess(shop: Workshop) -> None:
    @shop.toril.task()
    async def enough() -> str:
        return "x" * 998

    handle = await enough.enqueue()
    async with shop.worker(result_limit=1_000):
        job = await shop.finished(handle.id)
    assert job.state is State.COMPLETED


async def test_an_unknown_task_waits_for_a_worker_that_knows_it_and_fails_in_the_end(shop: Workshop) -> None:
    await shop.add(shop.job("new", "of_the_next_release"))
    async with shop.worker():
        job = await shop.in_state("new", State.DELAYED)
        assert (job.due, job.attempts_made) == (shop.clock.now_ms() + 30_000, 0)
        shop.clock.advance("10m")
        job = await shop.finished("new")
    assert (job.failed_reason or "").startswith("unknown_task: ")
    assert "of_the_next_release" in (job.failed_reason or "")


async def test_an_unknown_task_may_fail_at_once(shop: Workshop) -> None:
    await shop.add(shop.job("new", "nobody_knows"))
    async with shop.worker(unknown="fail"):
        job = await shop.finished("new")
    assert (job.failed_reason or "").startswith("unknown_task: ")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration("x"), asyncio.CancelledError()])
@pytest.mark.parametrize("plain", [False, True])
async def test_no_exception_of_a_handler_ends_the_worker(shop: Workshop, error: BaseException, plain: bool) -> None:
    if plain:

        @shop.toril.task(name="end", attempts=1)
        def end() -> None:
            raise error
    else:

        @shop.toril.task(name="end", attempts=1)
        async def end_async() -> None:
            raise error

    @shop.toril.task()
    async def after() -> str:
        return "still here"

    await shop.add(shop.job("one", "end", options=JobOptions(attempts=1)), shop.job("two", "after"))
    async with shop.worker(concurrency=1):
        first, second = await shop.finished("one"), await shop.finished("two")
    assert first.state is State.FAILED
    expected = "RuntimeError: " if isinstance(error, StopIteration) else f"{type(error).__name__}"
    assert (first.failed_reason or "").startswith(expected)
    assert second.state is State.COMPLETED


async def test_a_backoff_of_ones_own_decides_and_may_end_the_job(shop: Workshop) -> None:
    seen: list[tuple[int, str]] = []

    def pace(attempt: int, error: BaseException) -> float | None:
        seen.append((attempt, str(error)))
        return None if attempt == 2 else 90.0

    @shop.toril.task(attempts=9, backoff=pace)
    async def fail() -> None:
        raise ValueError("again")

    handle = await fail.enqueue()
    async with shop.worker():
        job = await shop.in_state(handle.id, State.DELAYED)
        assert job.due == shop.clock.now_ms() + 90_000
        shop.clock.advance("90s")
        job = await shop.finished(handle.id)
    assert (job.attempts_made, seen) == (2, [(1, "again"), (2, "again")])


async def test_a_broken_backoff_loses_no_job(shop: Workshop) -> None:
    def pace(attempt: int, error: BaseException) -> float | None:
        raise ZeroDivisionError("pace")

    @shop.toril.task(attempts=9, backoff=pace)
    async def fail() -> None:
        raise ValueError("again")

    handle = await fail.enqueue()
    async with shop.worker():
        job = await shop.in_state(handle.id, State.DELAYED)
    assert job.due == shop.clock.now_ms() + 1_000
    assert "ZeroDivisionError: pace" in job.stacktrace[-1]


async def test_an_error_that_cannot_be_stored_as_it_is(shop: Workshop) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    @shop.toril.task(attempts=1)
    async def fail(how: str) -> None:
        raise Broken if how == "silent" else ValueError("\ud800 and " + "long " * 10_000)

    silent, loud = await fail.enqueue("silent"), await fail.enqueue("loud")
    async with shop.worker():
        quiet, long = await shop.finished(silent.id), await shop.finished(loud.id)
    assert quiet.failed_reason == "Broken: (its message cannot be shown)"
    assert (long.failed_reason or "").startswith("ValueError: ? and long")
    assert len(long.failed_reason or "") <= 2_000
    assert len(long.stacktrace[-1].encode()) <= 8 * 1024


async def test_a_very_deep_error_keeps_its_head_and_its_end(shop: Workshop) -> None:
    def dig(deeper: int) -> None:
        if not deeper:
            raise LookupError("bottom " + "x" * 1_500)
        dig(deeper - 1)

    @shop.toril.task(attempts=1)
    async def deep() -> None:
        dig(500)

    handle = await deep.enqueue()
    async with shop.worker():
        job = await shop.finished(handle.id)
    assert job.stacktrace[-1].startswith("LookupError: bottom")
    assert len(job.stacktrace[-1].encode()) <= 8 * 1024


async def test_a_job_marked_to_fail_is_not_run(shop: Workshop) -> None:
    calls = []

    @shop.toril.task()
    async def run() -> None:
        calls.append(1)

    handle = await run.enqueue()
    store = shop.engine.jobs
    for stall in range(3):
        await store.exchange(
            "default", worker="dead", seq=stall, token=f"dead:{stall}", finished=(), want=1, lock_ms=1_000,
            now=shop.clock.now_ms(),
        )  # fmt: skip
        shop.clock.advance("2s")
        await store.recover("default", max_stalls=2, now=shop.clock.now_ms())
    async with shop.worker():
        job = await shop.finished(handle.id)
    assert (job.state, calls) == (State.FAILED, [])
    assert "stalled" in (job.failed_reason or "")


async def test_options_that_are_no_json_fail_the_job(shop: Workshop) -> None:
    @shop.toril.task()
    async def run() -> None: ...

    await shop.add(shop.job("bad", "run")._replace(opts="[]"))
    async with shop.worker():
        job = await shop.finished("bad")
    assert "options cannot be read" in (job.failed_reason or "")


async def test_retention_of_a_job_is_handed_in_with_its_end(shop: Workshop) -> None:
    @shop.toril.task(retention=Retention(completed=0), attempts=1)
    async def fleeting(fail: bool) -> None:
        if fail:
            raise ValueError

    good, bad = await fleeting.enqueue(False), await fleeting.enqueue(True)
    async with shop.worker():
        job = await shop.finished(bad.id)
        while await shop.engine.inspect.get(good.id, "default") is not None:
            await shop.engine.bus.wait("default", after="0", timeout=0.01)
    assert job.state is State.FAILED


async def test_what_ends_badly_is_told_once(shop: Workshop) -> None:
    @shop.toril.task(attempts=2, backoff=Fixed(3))
    async def fail() -> None:
        raise ValueError("x")

    handle = await fail.enqueue()
    async with shop.worker():
        await shop.in_state(handle.id, State.DELAYED)
        shop.clock.advance("3s")
        job: Job = await shop.finished(handle.id)
    told = [event for event in shop.told if isinstance(event, JobNotDone)]
    assert [(event.outcome, event.attempt, event.delay_s) for event in told] == [("retry", 1, 3.0), ("failed", 2, 0.0)]
    assert {event.job_id for event in told} == {job.id}
