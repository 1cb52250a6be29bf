"""Queue-wide rates: never more jobs start than allowed, over all workers; and queues that a handler stops."""

from __future__ import annotations

import asyncio

import pytest

from toril.engine.ports.jobs import Code
from toril.jobs.limits import QueueLimits
from toril.jobs.outcome import Done, Failed, Limited, Outcome, Released, Retry
from toril.jobs.states import State
from toril.kernel.durations import Rate
from toril.testing.conformance.stage import LOCK_MS, MINUTE, QUEUE, Cases, Stage, ids_of, job

SOON_MS = 1_000
"""How late a server's own clock may be."""


async def allow(stage: Stage, count: int, per_ms: int = MINUTE, concurrency: int | None = None) -> None:
    """Set the rate of the queue."""
    await stage.inspect.set_limits(QUEUE, QueueLimits(concurrency, Rate(count, per_ms)), now=stage.now)


def about(ms: int, expected: int) -> bool:
    """Whether a wait is the one expected, but for what a test takes."""
    return expected - SOON_MS < ms <= expected


class RateCases(Cases):
    """How `exchange` obeys the rate of a queue."""

    async def test_no_more_start_than_allowed(self, stage: Stage) -> None:
        """Several workers together start as many as the window has room for, and the next window has room again."""
        await allow(stage, 3)
        await stage.add("a", "b", "c", "d", job("p", priority=1))
        one, two = stage.worker(), stage.worker()
        assert ids_of(await one.take(2)) == ["a", "b"]
        assert ids_of(await two.take(2)) == ["c"]
        assert await one.take(2) == ()
        assert (await one.exchange(one.ended("a", Done("1")), want=9)).jobs == ()
        await stage.elapse(MINUTE - SOON_MS)
        assert await two.take(9) == ()
        await stage.elapse(SOON_MS + 1)
        assert ids_of(await two.take(9)) == ["d", "p"]

    async def test_the_answer_says_how_long_to_wait(self, stage: Stage) -> None:
        """`limited_ms` counts down to the end of the window, and is 0 while there is room in it."""
        await allow(stage, 2)
        await stage.add("a", "b", "c")
        worker = stage.worker()
        assert (await worker.exchange(want=1)).limited_ms == 0
        await stage.elapse(20_000)
        assert about((await worker.exchange(want=1)).limited_ms, MINUTE - 20_000)
        await stage.elapse(10_000)
        assert about((await stage.worker().exchange(want=1)).limited_ms, MINUTE - 30_000)
        await stage.elapse(30_001)
        answer = await worker.exchange(want=1)
        assert (ids_of(answer.jobs), answer.limited_ms) == (["c"], 0)

    async def test_the_window_begins_with_the_first_job(self, stage: Stage) -> None:
        """Time in which nothing starts is not counted."""
        await allow(stage, 1)
        await stage.elapse(MINUTE - 5_000)
        await stage.add("a", "b")
        worker = stage.worker()
        assert about((await worker.exchange(want=2)).limited_ms, MINUTE)
        await stage.elapse(10_000)
        assert await worker.take() == ()

    async def test_a_rate_and_a_number_hold_together(self, stage: Stage) -> None:
        """The narrower one decides."""
        await allow(stage, 3, concurrency=2)
        await stage.add("a", "b", "c", "d")
        worker = stage.worker()
        assert ids_of(await worker.take(9)) == ["a", "b"]
        ended = [worker.ended(id_, Done("1")) for id_ in ("a", "b")]
        answer = await worker.exchange(*ended, want=9)
        assert ids_of(answer.jobs) == ["c"]
        assert answer.limited_ms > 0

    async def test_a_repeated_exchange_uses_up_room_once(self, stage: Stage) -> None:
        """A lost answer costs no room in the window."""
        await allow(stage, 2)
        await stage.add("a", "b", "c")
        worker = stage.worker()
        first = await worker.exchange(want=1)
        assert (await worker.repeat()).jobs == first.jobs
        assert ids_of(await worker.take(9)) == ["b"]

    async def test_jobs_that_only_fail_are_not_counted(self, stage: Stage) -> None:
        """A job with a deferred failure does no work."""
        await stage.add("a", "b")
        await stage.worker().take(1)
        await stage.elapse(LOCK_MS + 1)
        assert (await stage.jobs.recover(QUEUE, max_stalls=0, now=stage.now)).condemned == ("a",)
        await allow(stage, 1)
        worker = stage.worker()
        assert ids_of(await worker.take(1)) == ["a"]
        assert ids_of(await worker.take(1)) == ["b"]

    async def test_without_a_rate_everything_starts(self, stage: Stage) -> None:
        """When the rate is taken away the window does not matter any more."""
        await allow(stage, 1)
        await stage.add("a", "b", "c")
        worker = stage.worker()
        assert len(await worker.take(9)) == 1
        await stage.inspect.set_limits(QUEUE, QueueLimits(), now=stage.now)
        answer = await worker.exchange(want=9)
        assert (ids_of(answer.jobs), answer.limited_ms) == (["b", "c"], 0)

    async def test_a_shorter_window_ends_sooner(self, stage: Stage) -> None:
        """A rate that is changed does not wait for the end of a long window, nor forget what has started."""
        await allow(stage, 1, 60 * MINUTE)
        await stage.add("a", "b")
        worker = stage.worker()
        await worker.take(1)
        await allow(stage, 1, 2_000)
        assert 0 < (await worker.exchange(want=1)).limited_ms <= 2_000
        await stage.elapse(2_001)
        assert ids_of(await worker.take(1)) == ["b"]

    async def test_many_workers_never_exceed_the_rate(self, stage: Stage) -> None:
        """Eight workers at once start exactly as many as allowed in each window."""  # A11
        await allow(stage, 10)
        await stage.add(*(f"j{number}" for number in range(25)))
        workers = [stage.worker() for _ in range(8)]
        for expected in (10, 10, 5):
            taken = await asyncio.gather(*(worker.take(1 + number % 4) for number, worker in enumerate(workers * 2)))
            assert sum(map(len, taken)) == expected
            await stage.elapse(MINUTE + 1)


class StoppedCases(Cases):
    """The outcome `Limited`: a handler was told to come back later, and so is its whole queue."""

    async def test_the_whole_queue_stops(self, stage: Stage) -> None:
        """No worker takes anything until the time is over; the job is then the first, and no attempt was counted."""
        await stage.add("a", "b", "c")
        worker, other = stage.worker(), stage.worker()
        await worker.take(2)
        answer = await worker.exchange(worker.ended("a", Limited(MINUTE)), want=5)
        assert (answer.applied, answer.jobs) == ((Code.OK,), ())
        assert about(answer.limited_ms, MINUTE)
        elsewhere = await other.exchange(want=5)
        assert elsewhere.jobs == ()
        assert about(elsewhere.limited_ms, MINUTE)
        stored = await stage.read("a")
        assert (stored.state, stored.attempts_made, stored.starts) == (State.WAITING, 0, 1)
        assert [record.outcome for record in stored.history] == ["limited"]
        await stage.elapse(MINUTE + 1)
        assert ids_of(await other.take(5)) == ["a", "c"]

    async def test_several_come_back_as_they_were_handed_in(self, stage: Stage) -> None:
        """Their order stays, and the longest time counts."""
        await stage.add("a", "b", "c")
        worker = stage.worker()
        await worker.take(2)
        answer = await worker.exchange(worker.ended("a", Limited(MINUTE)), worker.ended("b", Limited(5_000)), want=5)
        assert about(answer.limited_ms, MINUTE)
        assert await stage.line() == ["a", "b", "c"]

    async def test_released_ones_beside_it_keep_their_place(self, stage: Stage) -> None:
        """Jobs that are given back in the same exchange, for either reason, stand as they were handed in."""
        await stage.add("a", "b", "c", "d")
        worker = stage.worker()
        await worker.take(3)
        ends = (worker.ended("a", Released()), worker.ended("b", Limited(5_000)), worker.ended("c", Released()))
        await worker.exchange(*ends)
        assert await stage.line() == ["a", "b", "c", "d"]

    async def test_a_prioritized_job_stays_one(self, stage: Stage) -> None:
        """It goes in front of those of its priority."""
        await stage.add(job("p", priority=5), job("q", priority=5), job("r", priority=1))
        worker = stage.worker()
        await worker.take(2)
        await worker.end("p", Limited(5_000))
        assert await stage.state("p") is State.PRIORITIZED
        assert await stage.line() == ["p", "q"]

    async def test_a_shorter_stop_does_not_end_a_longer_one(self, stage: Stage) -> None:
        """A longer one prolongs a shorter one."""
        await stage.add("a", "b", "c")
        worker = stage.worker()
        await worker.take(3)
        await worker.end("a", Limited(MINUTE))
        assert about((await worker.exchange(worker.ended("b", Limited(5_000)))).limited_ms, MINUTE)
        assert about((await worker.exchange(worker.ended("c", Limited(2 * MINUTE)))).limited_ms, 2 * MINUTE)

    async def test_a_repeated_exchange_stops_once(self, stage: Stage) -> None:
        """The time counts from the first call."""
        await stage.add("a")
        worker = stage.worker()
        await worker.take()
        await worker.exchange(worker.ended("a", Limited(MINUTE)))
        await stage.elapse(20_000)
        again = await worker.repeat()
        assert again.applied == (Code.OK,)
        assert about(again.limited_ms, MINUTE - 20_000)

    async def test_a_cancelled_job_does_not_come_back(self, stage: Stage) -> None:
        """It is failed as cancelled, and the queue stops all the same."""
        worker = await stage.bring("a", State.ACTIVE)
        await stage.jobs.cancel(QUEUE, "a", by="ann", reason="enough", now=stage.now)
        answer = await worker.exchange(worker.ended("a", Limited(MINUTE)))
        assert about(answer.limited_ms, MINUTE)
        assert (await stage.read("a")).failed_reason == "cancelled: enough"

    async def test_a_run_that_lost_its_lock_stops_nothing(self, stage: Stage) -> None:
        """What is not accepted has no effect."""
        await stage.add("a", "b")
        worker = stage.worker()
        await worker.take()
        answer = await worker.exchange(worker.ended("a", Limited(MINUTE), token="w:0"), want=1)
        assert (answer.applied, ids_of(answer.jobs), answer.limited_ms) == ((Code.LOCK_LOST,), ["b"], 0)

    @pytest.mark.parametrize("outcome", [Done("1"), Failed("no", ""), Retry("no", "", 0)], ids=str)
    async def test_running_jobs_go_on_while_it_stops(self, stage: Stage, outcome: Outcome) -> None:
        """What was taken before is handed in as always, and with a rate it begins a window of its own afterwards."""
        await allow(stage, 5)
        await stage.add("a", "b", "c")
        worker = stage.worker()
        await worker.take(2)
        await worker.end("a", Limited(MINUTE))
        answer = await worker.exchange(worker.ended("b", outcome), want=2)
        assert (answer.applied, answer.jobs) == ((Code.OK,), ())
        await stage.elapse(MINUTE + 1)
        answer = await worker.exchange(want=2)
        assert len(answer.jobs) == 2
        assert answer.limited_ms == 0
