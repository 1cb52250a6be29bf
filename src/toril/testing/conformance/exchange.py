"""Handing in and taking."""

from __future__ import annotations

import pytest

from toril.engine.ports.jobs import Code
from toril.jobs.model import TakenJob
from toril.jobs.outcome import Done, Failed, Outcome, Released, Retry, Snooze
from toril.jobs.states import State
from toril.testing.conformance.stage import LOCK_MS, QUEUE, Cases, Stage, ids_of, job


class ExchangeCases(Cases):
    """`JobStore.exchange`."""

    async def test_a_taken_job_is_whole(self, stage: Stage) -> None:
        """A worker gets what was added, and the numbers of this run."""
        await stage.add(job("a", name="resize", data='{"n":1}', timestamp=77, opts='{"attempts":9}'))
        assert await stage.worker().take() == (TakenJob("a", "resize", '{"n":1}', '{"attempts":9}', 77, 0, 1, 0, None),)

    async def test_a_taken_job_is_active(self, stage: Stage) -> None:
        """Inspection shows who runs the job and since when."""
        await stage.add("a")
        await stage.elapse(500)
        await stage.worker("me").take()
        stored = await stage.read("a")
        assert (stored.state, stored.processed, stored.worker) == (State.ACTIVE, stage.now, "me")
        assert (stored.starts, stored.attempts_made, stored.finished) == (1, 0, None)

    async def test_no_more_than_wanted(self, stage: Stage) -> None:
        """`want` is the most that is taken; 0 takes nothing."""
        await stage.add("a", "b", "c")
        worker = stage.worker()
        assert await worker.take(0) == ()
        assert ids_of(await worker.take(2)) == ["a", "b"]
        assert ids_of(await worker.take(2)) == ["c"]
        assert await worker.take(2) == ()

    async def test_an_unknown_queue_is_empty(self, stage: Stage) -> None:
        """Asking a queue that nobody ever used answers nothing."""
        answer = await stage.worker(queue="nowhere").exchange(want=5)
        assert (answer.applied, answer.jobs, answer.next_due_ms, answer.cancelled) == ((), (), None, ())

    async def test_finish_and_take_in_one_step(self, stage: Stage) -> None:
        """Ended runs are handed in and new jobs are taken in one exchange."""
        await stage.add("a", "b", "c")
        worker = stage.worker()
        await worker.take(2)
        answer = await worker.exchange(worker.ended("a", Done("1")), worker.ended("b", Done("2")), want=5)
        assert answer.applied == (Code.OK, Code.OK)
        assert ids_of(answer.jobs) == ["c"]
        assert (await stage.counts()).completed == 2

    @pytest.mark.parametrize("outcome", [Retry("again", "", 0), Snooze(0), Released()])
    async def test_finishes_come_before_taking(self, stage: Stage, outcome: Outcome) -> None:
        """A job that goes back in line can be taken by the very exchange that handed it in, with a new token."""
        worker = await stage.bring("a", State.ACTIVE)
        old = worker.tokens["a"]
        answer = await worker.exchange(worker.ended("a", outcome), want=1)
        assert [(each.id, each.starts) for each in answer.jobs] == [("a", 2)]
        assert worker.tokens["a"] != old
        assert await worker.end("a", Done("1"), token=old) is Code.LOCK_LOST
        assert await worker.end("a", Done("1")) is Code.OK

    async def test_due_jobs_are_in_line_before_taking(self, stage: Stage) -> None:
        """A job that is due is taken by the same exchange that finds it due."""
        await stage.add(job("d", delay_ms=5))
        await stage.elapse(5)
        assert ids_of(await stage.worker().take()) == ["d"]

    async def test_each_finish_stands_for_itself(self, stage: Stage) -> None:
        """A finish that is refused does not keep the others from being applied; each is answered in its place."""
        await stage.add("a", "b", "c")
        worker = stage.worker()
        await worker.take(3)
        answer = await worker.exchange(
            worker.ended("a", Done("1")),
            worker.ended("nobody", Done("2")),
            worker.ended("b", Done("3"), token="of:another"),
            worker.ended("c", Failed("no", "")),
        )
        assert answer.applied == (Code.OK, Code.MISSING, Code.LOCK_LOST, Code.OK)
        assert [await stage.state(name) for name in "abc"] == [State.COMPLETED, State.ACTIVE, State.FAILED]

    async def test_what_cannot_be_stored_is_broken(self, stage: Stage) -> None:
        """A result that no store can hold is answered with BROKEN, and harms no other finish."""
        await stage.add("a", "b")
        worker = stage.worker()
        await worker.take(2)
        answer = await worker.exchange(worker.ended("a", Done('"\ud800"')), worker.ended("b", Done("2")))
        assert answer.applied == (Code.BROKEN, Code.OK)
        assert await stage.state("a") is State.ACTIVE
        assert await worker.end("a", Failed("the result cannot be stored", "")) is Code.OK

    async def test_a_run_is_finished_once(self, stage: Stage) -> None:
        """The second finish of a run finds no lock, and changes nothing."""
        worker = await stage.bring("a", State.ACTIVE)
        answer = await worker.exchange(worker.ended("a", Done("1")), worker.ended("a", Failed("no", "")))
        assert answer.applied == (Code.OK, Code.LOCK_LOST)
        assert await worker.end("a", Failed("no", "")) is Code.LOCK_LOST
        stored = await stage.read("a")
        assert (stored.state, stored.result, stored.attempts_made) == (State.COMPLETED, "1", 1)

    async def test_a_finish_belongs_to_its_queue(self, stage: Stage) -> None:
        """A job that is handed in to another queue is missing there."""
        worker = await stage.bring("a", State.ACTIVE)
        other = stage.worker(queue="other")
        assert await other.end("a", Done("1"), token=worker.tokens["a"]) is Code.MISSING
        assert await stage.state("a") is State.ACTIVE

    async def test_many_finishes_and_many_takes(self, stage: Stage) -> None:
        """A thousand jobs are taken at once, and handed in at once."""
        await stage.add(*(job(f"j{number}") for number in range(2_000)))
        worker = stage.worker()
        taken = await worker.take(1_000)
        answer = await worker.exchange(*(worker.ended(each.id, Done("1")) for each in taken), want=1_000)
        assert answer.applied == (Code.OK,) * 1_000
        assert ids_of(answer.jobs) == [f"j{number}" for number in range(1_000, 2_000)]
        assert (await stage.counts()).completed == 1_000

    async def test_a_repeated_seq_changes_nothing(self, stage: Stage) -> None:
        """The same exchange again answers as the first time: codes, jobs, and what is due."""
        await stage.add("a", "b", "c", job("d", delay_ms=5_000))
        worker = stage.worker()
        await worker.take()
        first = await worker.exchange(worker.ended("a", Done("1")), want=1)
        tail, before = await stage.bus.tail(QUEUE), await stage.read("b")
        assert await worker.repeat() == first
        assert await worker.repeat() == first
        assert await stage.bus.tail(QUEUE) == tail
        assert await stage.read("b") == before
        assert await stage.line() == ["c"]

    async def test_a_seq_is_remembered_for_two_lock_times(self, stage: Stage) -> None:
        """A repetition that comes late, but within two lock times, still takes nothing more."""
        await stage.add("a", "b")
        worker = stage.worker()
        first = await worker.exchange(want=1)
        await stage.elapse(2 * LOCK_MS - 100)
        assert (await worker.repeat()).jobs == first.jobs
        assert await stage.line() == ["b"]

    async def test_seq_counts_per_worker_and_queue(self, stage: Stage) -> None:
        """The same number from another worker, or for another queue, is another exchange."""
        await stage.add("a", "b")
        await stage.add("x", queue="other")
        assert ids_of(await stage.worker("one").take()) == ["a"]
        assert ids_of(await stage.worker("two").take()) == ["b"]
        assert ids_of(await stage.worker("one", queue="other").take()) == ["x"]
