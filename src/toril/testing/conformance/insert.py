"""Adding jobs."""

from __future__ import annotations

import asyncio

import pytest

from toril.errors import PayloadError
from toril.jobs.model import Job
from toril.jobs.outcome import Done
from toril.jobs.states import State
from toril.testing.conformance.stage import FOREIGN, MINUTE, QUEUE, Cases, Stage, job


class InsertCases(Cases):
    """`JobStore.add`."""

    async def test_a_job_is_stored_as_it_was_given(self, stage: Stage) -> None:
        """What is read back is what was added, and everything else is at its beginning."""
        await stage.add(job("a", name="resize", data='{"path":"x"}', opts=FOREIGN, timestamp=123))
        assert await stage.read("a") == Job(
            id="a",
            queue=QUEUE,
            name="resize",
            data='{"path":"x"}',
            opts=FOREIGN,
            state=State.WAITING,
            timestamp=123,
        )

    @pytest.mark.parametrize(
        ("delay_ms", "priority", "state"),
        [
            (0, 0, State.WAITING),
            (0, 1, State.PRIORITIZED),
            (0, 2_097_151, State.PRIORITIZED),
            (1, 0, State.DELAYED),
            (MINUTE, 7, State.DELAYED),
        ],
    )
    async def test_delay_then_priority_decide_the_state(
        self, stage: Stage, delay_ms: int, priority: int, state: State
    ) -> None:
        """A delay makes a job delayed, else a priority makes it prioritized, else it is waiting."""
        await stage.add(job("a", delay_ms=delay_ms, priority=priority))
        stored = await stage.read("a")
        assert (stored.state, stored.priority) == (state, priority)
        assert stored.due == (stage.now + delay_ms if delay_ms else None)

    async def test_the_delay_counts_from_the_adding(self, stage: Stage) -> None:
        """A job is due `delay_ms` after `now`, whatever its timestamp says."""
        await stage.add(job("a", timestamp=5, delay_ms=MINUTE))
        assert (await stage.read("a")).due == stage.now + MINUTE

    async def test_each_new_job_is_answered(self, stage: Stage) -> None:
        """The answer names the jobs in the given order, all of them created."""
        added = await stage.add("a", "b", "c")
        assert (added.ids, added.created) == (("a", "b", "c"), (True, True, True))

    async def test_adding_nothing_is_nothing(self, stage: Stage) -> None:
        """An empty batch answers empty and tells nobody."""
        added = await stage.add()
        assert (added.ids, added.created) == ((), ())
        assert await stage.events() == []

    @pytest.mark.parametrize("state", [State.WAITING, State.DELAYED, State.ACTIVE, State.COMPLETED, State.FAILED])
    async def test_a_stored_id_is_left_as_it_is(self, stage: Stage, state: State) -> None:
        """A second job of an id changes nothing, whatever state the first is in, and is answered as not created."""
        await stage.bring("a", state)
        before, tail = await stage.read("a"), await stage.bus.tail(QUEUE)
        added = await stage.add(job("a", name="other", data='{"n":2}', delay_ms=5, priority=3), "b")
        assert (added.ids, added.created) == (("a", "b"), (False, True))
        assert await stage.read("a") == before
        assert await stage.told(tail) == [("waiting", "b")]

    async def test_an_id_twice_in_one_batch_is_one_job(self, stage: Stage) -> None:
        """The first one of an id wins, inside a batch too."""
        added = await stage.add(job("a", name="first"), job("a", name="second"))
        assert (added.ids, added.created) == (("a", "a"), (True, False))
        assert (await stage.read("a")).name == "first"

    async def test_ids_belong_to_their_queue(self, stage: Stage) -> None:
        """The same id in two queues is two jobs."""
        await stage.add(job("a", name="here"))
        added = await stage.add(job("a", name="there"), queue="other")
        assert added.created == (True,)
        assert (await stage.read("a")).name == "here"
        assert (await stage.read("a", "other")).name == "there"

    async def test_a_removed_id_can_be_used_again(self, stage: Stage) -> None:
        """After a job is deleted its id is free for a new one."""
        await stage.add("a")
        await stage.inspect.remove(QUEUE, ["a"], now=stage.now)
        assert (await stage.add("a")).created == (True,)

    async def test_a_batch_is_stored_whole_or_not_at_all(self, stage: Stage) -> None:
        """One job that cannot be stored keeps the others of its batch out, and its error says so."""
        with pytest.raises((PayloadError, ValueError)):
            await stage.add("a", job("b", data='"\ud800"'), "c")
        assert (await stage.counts()).total == 0
        assert (await stage.add("a", "c")).created == (True, True)

    async def test_a_refused_batch_does_not_harm_its_neighbours(self, stage: Stage) -> None:
        """Of batches added at the same time only the impossible one fails."""
        answers = await asyncio.gather(
            *(stage.add(f"good{number}") for number in range(20)),
            stage.add(job("bad", data='"\ud800"')),
            *(stage.add(f"more{number}") for number in range(20)),
            return_exceptions=True,
        )
        assert [isinstance(answer, BaseException) for answer in answers].count(True) == 1
        assert (await stage.counts()).waiting == 40

    async def test_a_repeated_batch_adds_nothing(self, stage: Stage) -> None:
        """The same batch again answers the same, for ten minutes."""
        jobs = [job("a"), job("b", delay_ms=5), job("c", priority=2)]
        first = await stage.jobs.add(QUEUE, jobs, batch="one", now=stage.now)
        tail = await stage.bus.tail(QUEUE)
        await stage.elapse(9 * MINUTE)
        assert await stage.jobs.add(QUEUE, jobs, batch="one", now=stage.now) == first
        assert (await stage.counts()).total == 3
        assert await stage.events(tail) == []

    async def test_a_repeated_batch_answers_what_the_first_did(self, stage: Stage) -> None:
        """The repetition says `created` of jobs that it created the first time, and not of the others."""
        await stage.add("a")
        first = await stage.jobs.add(QUEUE, [job("a"), job("b")], batch="one", now=stage.now)
        assert first.created == (False, True)
        assert await stage.jobs.add(QUEUE, [job("a"), job("b")], batch="one", now=stage.now) == first

    async def test_a_repeated_batch_does_not_revive_what_is_gone(self, stage: Stage) -> None:
        """The same batch adds nothing when its jobs have been run and removed meanwhile."""
        worker = stage.worker()
        first = await stage.jobs.add(QUEUE, [job("a"), job("b")], batch="one", now=stage.now)
        await worker.take(2)
        await worker.exchange(worker.ended("a", Done("1")), worker.ended("b", Done("2")))
        await stage.inspect.remove(QUEUE, ["a", "b"], now=stage.now)
        assert await stage.jobs.add(QUEUE, [job("a"), job("b")], batch="one", now=stage.now) == first
        assert (await stage.counts()).total == 0

    async def test_a_batch_repeated_at_the_same_time_is_added_once(self, stage: Stage) -> None:
        """Ten equal calls at once store the jobs once, and all answer the same."""
        jobs = [job("a"), job("b")]
        calls = (stage.jobs.add(QUEUE, jobs, batch="one", now=stage.now) for _ in range(10))
        answers = await asyncio.gather(*calls)
        assert len(set(answers)) == 1
        assert await stage.line() == ["a", "b"]

    async def test_two_queues_do_not_mix(self, stage: Stage) -> None:
        """A job is in the queue that it was added to, and in no other."""
        await stage.add("a")
        await stage.add("b", queue="other")
        assert [each.id for each in await stage.worker().take(5)] == ["a"]
        assert [each.id for each in await stage.worker(queue="other").take(5)] == ["b"]
