"""Looking at jobs and queues."""

from __future__ import annotations

import pytest

from toril.jobs.outcome import Done
from toril.jobs.states import State
from toril.testing.conformance.stage import MINUTE, QUEUE, REACHABLE, Cases, Stage, ids_of, job


def owned(owner: str, tags: str = "") -> str:
    """Options of a job that belongs to somebody."""
    return f'{{"attempts":1,"toril":{{"owner":"{owner}","tags":"{tags}","v":1}}}}'


class InspectionCases(Cases):
    """`JobInspector.get`, `list` and `queues`."""

    @pytest.mark.parametrize("state", REACHABLE)
    async def test_a_job_is_found_in_every_state(self, stage: Stage, state: State) -> None:
        """By its id and queue, and by its id alone."""
        await stage.bring("a", state)
        found = await stage.inspect.get("a", QUEUE)
        assert found is not None
        assert (found.id, found.queue, found.state) == ("a", QUEUE, state)
        assert await stage.inspect.get("a") == found

    async def test_what_is_not_there_is_none(self, stage: Stage) -> None:
        """No such id, no such queue, or a job of another queue."""
        await stage.add("a")
        assert await stage.inspect.get("b", QUEUE) is None
        assert await stage.inspect.get("b") is None
        assert await stage.inspect.get("a", "other") is None

    async def test_a_job_is_found_in_any_queue(self, stage: Stage) -> None:
        """Without a queue all of them are searched."""
        for number in range(5):
            await stage.add(f"j{number}", queue=f"q{number}")
        found = await stage.inspect.get("j3")
        assert found is not None
        assert found.queue == "q3"

    @pytest.mark.parametrize("state", REACHABLE)
    async def test_a_listing_shows_the_same_job(self, stage: Stage, state: State) -> None:
        """`list` and `get` tell the same of a job, in its own state only."""
        await stage.bring("a", state)
        assert await stage.pages(state) == [await stage.read("a")]
        assert await stage.pages(*(other for other in State if other is not state)) == []

    async def test_states_come_one_after_the_other(self, stage: Stage) -> None:
        """The order of the states is the caller's."""
        await stage.bring("done", State.COMPLETED)
        await stage.bring("broken", State.FAILED)
        await stage.bring("later", State.DELAYED)
        await stage.bring("waiting", State.WAITING)
        order = [State.FAILED, State.WAITING, State.COMPLETED, State.DELAYED]
        assert await stage.ids(*order) == ["broken", "waiting", "done", "later"]
        assert await stage.ids(*reversed(order)) == ["later", "done", "waiting", "broken"]

    async def test_delayed_jobs_are_listed_by_due_time(self, stage: Stage) -> None:
        """The next one due comes first."""
        await stage.add(job("c", delay_ms=30), job("a", delay_ms=10), job("b", delay_ms=20))
        assert await stage.ids(State.DELAYED) == ["a", "b", "c"]
        assert await stage.ids(State.DELAYED, newest_first=True) == ["c", "b", "a"]

    async def test_finished_jobs_are_listed_by_finishing(self, stage: Stage) -> None:
        """The one that finished first comes first, or last when the newest are wanted first."""
        await stage.add("a", "b", "c")
        worker = stage.worker()
        await worker.take(3)
        for name in ("b", "c", "a"):
            await stage.elapse(10)
            await worker.end(name, Done("1"))
        assert await stage.ids(State.COMPLETED) == ["b", "c", "a"]
        assert await stage.ids(State.COMPLETED, newest_first=True) == ["a", "c", "b"]

    async def test_the_line_can_be_turned_round(self, stage: Stage) -> None:
        """`newest_first` shows the end of the line first, inside each state."""
        await stage.add("a", "b", job("p2", priority=2), job("p1", priority=1))
        assert await stage.ids(State.WAITING, State.PRIORITIZED) == ["a", "b", "p1", "p2"]
        assert await stage.ids(State.WAITING, State.PRIORITIZED, newest_first=True) == ["b", "a", "p2", "p1"]

    async def test_jobs_are_found_by_name(self, stage: Stage) -> None:
        """Exactly that name, in all the given states."""
        await stage.add(job("a", name="mail"), job("b", name="Mail"), job("c", name="mails"), job("d", name="mail"))
        await stage.worker().take()
        page = await stage.inspect.list(QUEUE, [State.ACTIVE, State.WAITING], name="mail")
        assert ids_of(page.jobs) == ["a", "d"]

    async def test_jobs_are_found_by_owner(self, stage: Stage) -> None:
        """Exactly that owner; jobs that belong to nobody are shown to none."""  # S1-06
        await stage.add(job("a", opts=owned("ann")), job("b", opts=owned("bob")), job("c", opts=owned("Ann")), "d")
        await stage.add(job("e", opts=owned("ann"), name="other"))
        listed = await stage.inspect.list(QUEUE, [State.WAITING], owner="ann")
        assert ids_of(listed.jobs) == ["a", "e"]
        both = await stage.inspect.list(QUEUE, [State.WAITING], owner="ann", name="other")
        assert ids_of(both.jobs) == ["e"]
        assert (await stage.inspect.list(QUEUE, [State.WAITING], owner="%")).jobs == ()

    async def test_an_unknown_queue_lists_nothing(self, stage: Stage) -> None:
        """One empty page, without a cursor."""
        page = await stage.inspect.list("nowhere", list(State))
        assert (page.jobs, page.cursor) == ((), None)

    async def test_queues_are_listed_by_name(self, stage: Stage) -> None:
        """Every queue that has jobs, with its counts and whether it is paused."""
        await stage.add("a", "b", queue="zebra")
        await stage.add(job("c", delay_ms=MINUTE), queue="ant")
        await stage.inspect.pause("ant", now=stage.now)
        queues = await stage.inspect.queues()
        shown = [(each.name, each.paused, each.counts.waiting, each.counts.delayed) for each in queues]
        assert shown == [("ant", True, 0, 1), ("zebra", False, 2, 0)]

    async def test_a_queue_stays_known_when_it_is_empty(self, stage: Stage) -> None:
        """A queue whose jobs are all gone is still a queue."""
        await stage.add("a")
        await stage.inspect.remove(QUEUE, ["a"], now=stage.now)
        assert [each.name for each in await stage.inspect.queues()] == [QUEUE]

    async def test_no_queues_at_first(self, stage: Stage) -> None:
        """An empty store knows no queue."""
        assert await stage.inspect.queues() == ()
