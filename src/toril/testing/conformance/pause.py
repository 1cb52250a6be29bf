"""Pausing and resuming queues."""

from __future__ import annotations

from toril.engine.ports.jobs import Code
from toril.jobs.outcome import Done, Retry
from toril.jobs.states import State
from toril.testing.conformance.stage import QUEUE, Cases, Stage, ids_of, job


class PauseCases(Cases):
    """`JobInspector.pause`, `resume` and `is_paused`."""

    async def test_nothing_is_taken_from_a_paused_queue(self, stage: Stage) -> None:
        """Jobs wait, old ones and new ones, until the pause ends; their order stays."""
        await stage.add("a")
        await stage.inspect.pause(QUEUE, now=stage.now)
        await stage.add("b", job("p", priority=1), job("front", lifo=True))
        worker = stage.worker()
        assert await worker.take(9) == ()
        assert (await stage.counts()).waiting == 3
        await stage.inspect.resume(QUEUE, now=stage.now)
        assert ids_of(await worker.take(9)) == ["front", "a", "b", "p"]

    async def test_running_jobs_go_on(self, stage: Stage) -> None:
        """What was taken before the pause is handed in and renewed as always."""
        await stage.add("a", "b")
        worker = stage.worker()
        await worker.take(2)
        await stage.inspect.pause(QUEUE, now=stage.now)
        assert (await stage.jobs.renew([worker.lock("a")], lock_ms=1_000, now=stage.now)).lost == ()
        answer = await worker.exchange(worker.ended("a", Done("1")), worker.ended("b", Retry("no", "", 0)), want=2)
        assert (answer.applied, answer.jobs) == ((Code.OK, Code.OK), ())
        assert await stage.state("b") is State.WAITING

    async def test_a_pause_is_seen(self, stage: Stage) -> None:
        """`is_paused` follows pause and resume, of that queue alone."""
        await stage.add("a")
        assert not await stage.inspect.is_paused(QUEUE)
        await stage.inspect.pause(QUEUE, now=stage.now)
        assert await stage.inspect.is_paused(QUEUE)
        assert not await stage.inspect.is_paused("other")
        await stage.inspect.resume(QUEUE, now=stage.now)
        assert not await stage.inspect.is_paused(QUEUE)

    async def test_twice_is_once(self, stage: Stage) -> None:
        """Pausing a paused queue or resuming a running one changes nothing and tells nobody."""
        await stage.add("a")
        tail = await stage.bus.tail(QUEUE)
        await stage.inspect.resume(QUEUE, now=stage.now)
        await stage.inspect.pause(QUEUE, now=stage.now)
        await stage.inspect.pause(QUEUE, now=stage.now)
        await stage.inspect.resume(QUEUE, now=stage.now)
        await stage.inspect.resume(QUEUE, now=stage.now)
        assert await stage.told(tail) == [("paused", ""), ("resumed", "")]

    async def test_a_queue_can_be_paused_before_it_has_jobs(self, stage: Stage) -> None:
        """The pause is there when the first job comes."""
        await stage.inspect.pause(QUEUE, now=stage.now)
        assert await stage.inspect.is_paused(QUEUE)
        await stage.add("a")
        assert await stage.worker().take() == ()

    async def test_other_queues_run(self, stage: Stage) -> None:
        """A pause is for one queue."""
        await stage.add("a")
        await stage.add("b", queue="other")
        await stage.inspect.pause("other", now=stage.now)
        assert ids_of(await stage.worker().take()) == ["a"]
        assert await stage.worker(queue="other").take() == ()
