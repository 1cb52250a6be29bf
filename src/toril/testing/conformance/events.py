"""What happened, readable again from any point."""

from __future__ import annotations

import asyncio
import time

import pytest

from toril.errors import ConfigError
from toril.jobs.outcome import Cancelled, Done, Failed, Outcome, Released, Retry, Snooze
from toril.jobs.states import State
from toril.testing.conformance.stage import LOCK_MS, MINUTE, QUEUE, Cases, Stage, job

LONG = 5.0
"""Seconds that a wait may take when something is wrong; nothing waits for them when all is well."""


class EventCases(Cases):
    """The event log: `Bus.tail`, `read` and `wait`."""

    async def test_a_life_is_told(self, stage: Stage) -> None:
        """Waiting, active, completed: kind, job, time and data of each."""
        start, begun = stage.now, round(time.time() * 1000)
        await stage.add("a")
        await stage.elapse(10)
        worker = stage.worker()
        await worker.take()
        await stage.elapse(10)
        await worker.end("a", Done("1"))
        events = await stage.events()
        told = [(event.queue, event.kind, event.job_id, event.data) for event in events]
        assert told == [(QUEUE, "waiting", "a", {}), (QUEUE, "active", "a", {}), (QUEUE, "completed", "a", {})]
        times = [event.at for event in events]
        if stage.engine.capabilities.own_clock:
            # Wall time all the same, as the store's machine has it.
            assert times == sorted(times)
            assert begun - MINUTE <= times[0] <= times[-1] <= begun + MINUTE
        else:
            assert times == [start, start + 10, start + 20]

    @pytest.mark.parametrize(
        ("outcome", "told"),
        [
            (Done("1"), ("completed", {})),
            (Failed("no", ""), ("failed", {"reason": "no"})),
            (Cancelled("late", "ann"), ("failed", {"reason": "cancelled: late"})),
            (Retry("no", "", 0), ("waiting", {"prev": "active"})),
            (Snooze(0), ("waiting", {"prev": "active"})),
            (Released(), ("waiting", {"prev": "active"})),
        ],
        ids=str,
    )
    async def test_the_end_of_a_run_is_told(
        self, stage: Stage, outcome: Outcome, told: tuple[str, dict[str, str]]
    ) -> None:
        """One event per outcome, with what it led to."""
        worker = await stage.bring("a", State.ACTIVE)
        tail = await stage.bus.tail(QUEUE)
        await worker.end("a", outcome)
        assert [(event.kind, event.data) for event in await stage.events(tail)] == [told]

    async def test_waits_are_told(self, stage: Stage) -> None:
        """A delayed job says when it is due, and a job that is due where it was before."""
        await stage.add(job("a", delay_ms=MINUTE, priority=2))
        due = stage.now + MINUTE
        await stage.elapse(MINUTE)
        worker = stage.worker()
        await worker.take()
        await worker.end("a", Retry("no", "", 500))
        told = [(event.kind, event.data) for event in await stage.events()]
        assert told == [
            ("delayed", {"due": due}),
            ("waiting", {"prev": "delayed"}),
            ("active", {}),
            ("delayed", {"due": stage.now + 500}),
        ]

    async def test_a_prioritized_job_is_told_as_waiting(self, stage: Stage) -> None:
        """Being in line is one kind of event, whatever the priority."""
        await stage.add(job("a", priority=2))
        assert [(event.kind, event.data) for event in await stage.events()] == [("waiting", {})]

    async def test_a_stall_is_told(self, stage: Stage) -> None:
        """A stalled job is waiting again, and has stalled."""
        await stage.bring("a", State.ACTIVE)
        tail = await stage.bus.tail(QUEUE)
        await stage.elapse(2 * LOCK_MS)
        await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)
        assert sorted(await stage.told(tail)) == [("stalled", "a"), ("waiting", "a")]

    async def test_what_an_operator_does_is_told(self, stage: Stage) -> None:
        """Promoting, putting back, removing, pausing and resuming."""
        await stage.bring("d", State.DELAYED)
        await stage.bring("f", State.FAILED)
        tail = await stage.bus.tail(QUEUE)
        await stage.inspect.promote(QUEUE, ["d"], now=stage.now)
        await stage.inspect.retry(QUEUE, ["f"], now=stage.now)
        await stage.inspect.remove(QUEUE, ["d"], now=stage.now)
        await stage.inspect.pause(QUEUE, now=stage.now)
        await stage.inspect.resume(QUEUE, now=stage.now)
        assert [(event.kind, event.job_id, event.data) for event in await stage.events(tail)] == [
            ("waiting", "d", {"prev": "delayed"}),
            ("waiting", "f", {"prev": "failed"}),
            ("removed", "d", {"prev": "waiting"}),
            ("paused", "", {}),
            ("resumed", "", {}),
        ]

    async def test_a_cancellation_is_told(self, stage: Stage) -> None:
        """A job that is cancelled before it runs has failed."""
        await stage.bring("a", State.DELAYED)
        tail = await stage.bus.tail(QUEUE)
        await stage.jobs.cancel(QUEUE, "a", by="ann", reason="late", now=stage.now)
        [event] = await stage.events(tail)
        assert (event.kind, event.job_id, event.data) == ("failed", "a", {"reason": "cancelled: late"})

    async def test_events_are_in_the_order_of_what_happened(self, stage: Stage) -> None:
        """An exchange tells its finishes before its takes, and those in the order in which they are to start."""
        await stage.add("a", "b", "c", "d")
        worker = stage.worker()
        await worker.take(2)
        tail = await stage.bus.tail(QUEUE)
        await worker.exchange(worker.ended("b", Done("1")), worker.ended("a", Failed("no", "")), want=2)
        told = await stage.told(tail)
        assert sorted(told[:2]) == [("completed", "b"), ("failed", "a")]
        assert told[2:] == [("active", "c"), ("active", "d")]

    async def test_an_empty_log(self, stage: Stage) -> None:
        """The tail is `0`, and there is nothing to read nor to miss."""
        assert await stage.bus.tail(QUEUE) == "0"
        page = await stage.bus.read(QUEUE, after="0")
        assert (page.events, page.gap) == ((), False)

    async def test_a_log_belongs_to_its_queue(self, stage: Stage) -> None:
        """Events of other queues are not seen, nor do they move the tail."""
        await stage.add("a")
        tail = await stage.bus.tail(QUEUE)
        await stage.add("b", queue="other")
        assert await stage.bus.tail(QUEUE) == tail
        assert await stage.told() == [("waiting", "a")]
        assert [event.job_id for event in await stage.events(queue="other")] == ["b"]

    async def test_reading_goes_on_after_any_event(self, stage: Stage) -> None:
        """After each event exactly the later ones are read, and all ids differ."""
        await stage.add(*(job(f"a{number}") for number in range(12)))
        events = await stage.events()
        assert len({event.id for event in events}) == 12
        assert events[-1].id == await stage.bus.tail(QUEUE)
        for index, event in enumerate(events):
            page = await stage.bus.read(QUEUE, after=event.id)
            assert (list(page.events), page.gap) == (events[index + 1 :], False)

    async def test_reading_is_bounded(self, stage: Stage) -> None:
        """At most `limit` events per call, the oldest of them."""
        await stage.add(*(job(f"a{number}") for number in range(12)))
        page = await stage.bus.read(QUEUE, after="0", limit=5)
        assert [event.job_id for event in page.events] == [f"a{number}" for number in range(5)]

    async def test_an_id_of_another_kind_is_refused(self, stage: Stage) -> None:
        """Text that no engine of this kind gave out is no place in the log."""
        await stage.add("a")
        for nonsense in ("banana", "", "-1", "1; DROP TABLE events", "٣", "1e3"):
            with pytest.raises(ConfigError):
                await stage.bus.read(QUEUE, after=nonsense)

    async def test_waiting_for_what_is_there(self, stage: Stage) -> None:
        """When there is an event after the id already, nobody waits."""
        await stage.add("a")
        begin = time.monotonic()
        assert await stage.bus.wait(QUEUE, after="0", timeout=LONG)
        assert time.monotonic() - begin < LONG / 2

    async def test_waiting_wakes(self, stage: Stage) -> None:
        """An event that comes later wakes everybody who waits for it."""
        await stage.add("a")
        tail = await stage.bus.tail(QUEUE)
        begin = time.monotonic()
        waiters = [asyncio.create_task(self.until_event(stage, tail)) for _ in range(3)]
        await asyncio.sleep(0)
        await stage.add("b")
        assert await asyncio.gather(*waiters) == ["b", "b", "b"]
        assert time.monotonic() - begin < LONG / 2

    async def until_event(self, stage: Stage, after: str) -> str:
        """Wait as a reader does: again, when it woke for nothing."""
        while not (page := await stage.bus.read(QUEUE, after=after)).events:
            await stage.bus.wait(QUEUE, after=after, timeout=LONG)
        return page.events[0].job_id

    async def test_waiting_ends(self, stage: Stage) -> None:
        """Without an event the wait ends after its time."""
        await stage.add("a")
        begin = time.monotonic()
        await stage.bus.wait(QUEUE, after=await stage.bus.tail(QUEUE), timeout=0.05)
        assert time.monotonic() - begin < LONG / 2
