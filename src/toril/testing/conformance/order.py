"""Who is next."""

from __future__ import annotations

import pytest

from toril.jobs.outcome import Released, Retry, Snooze
from toril.jobs.states import State
from toril.testing.conformance.stage import MINUTE, QUEUE, Cases, Stage, ids_of, job


class OrderCases(Cases):
    """The order of the line: first in first out, then prioritized by number."""

    async def test_first_in_first_out(self, stage: Stage) -> None:
        """Jobs start in the order in which they were added, in one batch and over batches."""
        await stage.add("a", "b")
        await stage.add("c")
        await stage.add("d", "e")
        assert await stage.line() == ["a", "b", "c", "d", "e"]
        assert ids_of(await stage.worker().take(5)) == ["a", "b", "c", "d", "e"]

    async def test_the_order_is_not_that_of_ids_or_timestamps(self, stage: Stage) -> None:
        """Only the adding decides: neither the names of ids nor the timestamps do."""
        await stage.add(job("z", timestamp=9), job("m", timestamp=5), job("a", timestamp=1))
        assert ids_of(await stage.worker().take(3)) == ["z", "m", "a"]

    async def test_one_by_one_is_the_same_order(self, stage: Stage) -> None:
        """Taking one job at a time gives the order of taking them together."""
        await stage.add("a", "b", "c")
        worker = stage.worker()
        assert [ids_of(await worker.take()) for _ in range(4)] == [["a"], ["b"], ["c"], []]

    async def test_last_in_first_out(self, stage: Stage) -> None:
        """A lifo job goes to the front of the line, before lifo jobs that came earlier."""
        await stage.add("a", "b")
        await stage.add(job("c", lifo=True), job("d", lifo=True))
        await stage.add("e")
        assert await stage.line() == ["d", "c", "a", "b", "e"]
        assert ids_of(await stage.worker().take(5)) == ["d", "c", "a", "b", "e"]

    async def test_waiting_before_prioritized_then_by_number(self, stage: Stage) -> None:
        """Jobs without a priority run first, then number 1, then higher numbers."""  # S2-06, S4-24
        await stage.add(job("p9", priority=9), job("p1", priority=1), job("p5", priority=5), "a")
        await stage.add(job("big", priority=2_097_151), "b")
        assert await stage.line() == ["a", "b", "p1", "p5", "p9", "big"]
        assert ids_of(await stage.worker().take(6)) == ["a", "b", "p1", "p5", "p9", "big"]

    async def test_equal_numbers_run_in_turn(self, stage: Stage) -> None:
        """Jobs of one priority run first-in first-out, and `lifo` does not change that."""
        await stage.add(job("x1", priority=3), job("y1", priority=2))
        await stage.add(job("x2", priority=3), job("x3", priority=3, lifo=True), job("y2", priority=2))
        assert await stage.line() == ["y1", "y2", "x1", "x2", "x3"]

    async def test_a_more_urgent_job_overtakes(self, stage: Stage) -> None:
        """A lower number that comes later runs before a higher one that waits already."""
        worker = stage.worker()
        await stage.add(job("p5", priority=5), job("q5", priority=5))
        assert ids_of(await worker.take()) == ["p5"]
        await stage.add(job("p1", priority=1))
        assert ids_of(await worker.take(2)) == ["p1", "q5"]

    @pytest.mark.parametrize("outcome", [Retry("again", "", 0), Snooze(0)])
    async def test_a_job_that_comes_back_queues_behind(self, stage: Stage, outcome: Retry | Snooze) -> None:
        """A job which runs again without a delay goes behind those that wait."""
        worker = stage.worker()
        await stage.add("a", "b", "c")
        await worker.take()
        await worker.end("a", outcome)
        assert await stage.line() == ["b", "c", "a"]

    @pytest.mark.parametrize("outcome", [Retry("again", "", 0), Snooze(0)])
    async def test_a_job_that_comes_back_keeps_its_priority(self, stage: Stage, outcome: Retry | Snooze) -> None:
        """A prioritized job which runs again is in line by its number, behind its equals."""
        worker = stage.worker()
        await stage.add(job("p3", priority=3), job("q3", priority=3), job("p4", priority=4))
        await worker.take()
        await worker.end("p3", outcome)
        assert await stage.line() == ["q3", "p3", "p4"]
        assert await stage.state("p3") is State.PRIORITIZED

    async def test_a_lifo_job_that_is_retried_goes_to_the_front(self, stage: Stage) -> None:
        """Last in, first out holds for retries too: the last one handed in stands foremost, behind released jobs."""
        opts = '{"attempts":3,"lifo":true,"toril":{"p":1}}'
        lifo = [job(name, opts=opts, lifo=True) for name in ("a", "b", "d")]
        await stage.add(*lifo, job("p3", opts=opts, priority=3, lifo=True), "c", "e", job("p4", priority=3))
        worker = stage.worker()
        assert ids_of(await worker.take(5)) == ["d", "b", "a", "c", "e"]
        await stage.add("w")
        again = [worker.ended(name, Retry("again", "", 0)) for name in ("a", "e", "b")]
        await worker.exchange(again[0], worker.ended("c", Released()), *again[1:], worker.ended("d", Snooze(0)))
        assert await stage.line() == ["c", "b", "a", "w", "e", "d", "p3", "p4"]
        await worker.take(6)
        [taken] = await worker.take()
        await worker.end(taken.id, Retry("again", "", 0))
        assert await stage.line() == ["p4", "p3"]

    @pytest.mark.parametrize("priority", [0, 4])
    async def test_a_released_job_is_next(self, stage: Stage, priority: int) -> None:
        """A job that its worker gives back goes to the very front of the line, priority or not."""
        worker = await stage.bring("a", State.ACTIVE, priority=priority)
        await stage.add("b", job("c", lifo=True), job("p1", priority=1))
        await worker.end("a", Released())
        assert await stage.line() == ["a", "c", "b", "p1"]
        assert await stage.state("a") is State.WAITING
        assert (await stage.read("a")).priority == priority
        assert ids_of(await stage.worker().take(4)) == ["a", "c", "b", "p1"]

    async def test_released_jobs_keep_their_order(self, stage: Stage) -> None:
        """Jobs that are given back together stand at the front as they were handed in."""
        await stage.add("a", "b", "c", "d")
        worker = stage.worker()
        await worker.take(3)
        await worker.exchange(*(worker.ended(name, Released()) for name in "abc"))
        assert await stage.line() == ["a", "b", "c", "d"]

    async def test_due_jobs_queue_behind_in_the_order_of_their_due_times(self, stage: Stage) -> None:
        """Delayed jobs join the line behind those that wait, the earlier due first, equals as they were added."""
        await stage.add(job("late", delay_ms=9_000), job("b", delay_ms=5_000), job("a", delay_ms=5_000), "w")
        await stage.elapse(MINUTE)
        assert ids_of(await stage.worker().take(4)) == ["w", "b", "a", "late"]

    async def test_a_due_job_is_in_line_by_its_priority(self, stage: Stage) -> None:
        """A delayed job with a priority becomes prioritized."""
        await stage.add(job("d1", delay_ms=5, priority=1), job("d0", delay_ms=5), job("p2", priority=2))
        await stage.elapse(10)
        await stage.worker().exchange()
        assert await stage.ids(State.WAITING) == ["d0"]
        assert await stage.ids(State.PRIORITIZED) == ["d1", "p2"]

    async def test_a_retried_finished_job_queues_behind(self, stage: Stage) -> None:
        """Finished jobs that are put back wait behind the others, in the order of the call."""
        await stage.bring("done", State.COMPLETED)
        await stage.bring("broken", State.FAILED)
        await stage.add("a")
        await stage.inspect.retry(QUEUE, ["broken", "done"], now=stage.now)
        assert await stage.line() == ["a", "broken", "done"]

    async def test_long_lines_keep_their_order(self, stage: Stage) -> None:
        """Two hundred jobs of every kind come out exactly sorted."""
        kinds = [(number % 5, f"j{number}") for number in range(200)]
        for start in range(0, 200, 40):
            await stage.add(*(job(name, priority=priority) for priority, name in kinds[start : start + 40]))
        expected = [name for _, name in sorted(kinds, key=lambda kind: kind[0])]
        assert await stage.line() == expected
        worker = stage.worker()
        taken = [name for _ in range(10) for name in ids_of(await worker.take(20))]
        assert taken == expected
