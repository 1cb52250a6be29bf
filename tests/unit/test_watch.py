"""One reader of a queue's events, which outlives a store that is away."""

import asyncio
from typing import cast

import pytest

from toril.engine.ports.bus import Event, EventPage
from toril.engine.protocol import Engine
from toril.errors import ConfigError, EngineClosed, EngineUnavailable
from toril.tasks import watch
from toril.tasks.watch import Watcher, place


class FakeBus:
    """A log in a list. What is in `errors` is raised by the next calls of `wait`."""

    def __init__(self) -> None:
        self.log: list[Event] = []
        self.errors: list[Exception] = []
        self.gap = False
        self.waits = 0
        self.tails = 0
        self.changed = asyncio.Event()
        self.bus = self

    def happen(self, job_id: str, kind: str = "progress") -> None:
        self.log.append(Event(str(len(self.log) + 1), "q", kind, job_id, 0, {}))
        self.changed.set()

    def fail(self, error: Exception) -> None:
        self.errors.append(error)
        self.changed.set()

    async def tail(self, queue: str) -> str:
        self.tails += 1
        if self.errors:
            raise self.errors.pop(0)
        return str(len(self.log))

    async def read(self, queue: str, *, after: str, limit: int = 1000) -> EventPage:
        gap, self.gap = self.gap, False
        return EventPage(tuple(self.log[int(after) :][:limit]), gap)

    async def wait(self, queue: str, *, after: str, timeout: float) -> bool:
        self.waits += 1
        while len(self.log) <= int(after) and not self.errors and not self.gap:
            self.changed.clear()
            await self.changed.wait()
        if self.errors:
            raise self.errors.pop(0)
        return True


def watcher(bus: FakeBus) -> Watcher:
    async def opened() -> Engine:
        return cast(Engine, bus)

    return Watcher(opened)


async def test_each_follower_gets_the_events_of_its_own_job() -> None:
    bus = FakeBus()
    bus.happen("a")
    watching = watcher(bus)
    async with watching.subscribe("q", "a") as a, watching.subscribe("q", "b") as b, watching.subscribe("q", "a") as c:
        assert [one.position for one in (a, b, c)] == ["1", "1", "1"]
        for job_id in ("a", "b", "", "a"):
            bus.happen(job_id)
        assert await c.wait(5)
        assert [[event.id for event in one.take()] for one in (a, b, c)] == [["2", "5"], ["3"], ["2", "5"]]
        assert not await b.wait(0)
    assert bus.tails == 1


async def test_a_store_that_is_away_is_asked_again_quietly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watch, "wait_s", lambda *args, **options: 0)
    bus = FakeBus()
    async with watcher(bus).subscribe("q", "a") as follower:
        for _ in range(3):
            bus.fail(EngineUnavailable("away"))
        bus.happen("a")
        assert await follower.wait(5)
        assert [event.job_id for event in follower.take()] == ["a"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_store_that_cannot_be_read_at_first_is_told_to_the_caller() -> None:
    bus = FakeBus()
    bus.fail(EngineUnavailable("away"))
    watching = watcher(bus)
    with pytest.raises(EngineUnavailable):
        async with watching.subscribe("q", "a"):
            raise AssertionError("subscribed")
    async with watching.subscribe("q", "a") as follower:
        bus.happen("a")
        assert await follower.wait(5)


async def test_a_closed_store_ends_the_wait() -> None:
    bus = FakeBus()
    async with watcher(bus).subscribe("q", "a") as follower:
        bus.happen("a")
        assert await follower.wait(5)
        bus.fail(EngineClosed("closed"))
        while not follower.closed:
            await asyncio.sleep(0)
        assert len(follower.take()) == 1
        assert await follower.wait(5)
        with pytest.raises(EngineClosed, match="closed while a job was followed"):
            follower.take()


async def test_missing_events_are_told_and_what_follows_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_MOST_UNREAD", 3)
    bus = FakeBus()
    async with watcher(bus).subscribe("q", "a") as follower:
        for _ in range(5):
            bus.happen("a")
        assert await follower.wait(5)
        assert (follower.gap, [event.id for event in follower.take()]) == (True, ["4", "5"])
        follower.gap, bus.gap = False, True
        bus.happen("a")
        assert await follower.wait(5)
        assert (follower.gap, [event.id for event in follower.take()]) == (True, ["6"])


async def test_the_reader_lives_as_long_as_its_last_follower() -> None:
    bus = FakeBus()
    watching = watcher(bus)
    async with watching.subscribe("q", "a"):
        async with watching.subscribe("q", "b"):
            pass
        [reader] = watching._readers.values()
        assert not reader._task.done()
    await asyncio.gather(reader._task, return_exceptions=True)
    assert reader._task.cancelled()
    assert watching._readers == {}


def test_events_are_compared_by_their_place() -> None:
    assert sorted(["10", "9", "2"], key=place) == ["2", "9", "10"]
    assert place("1700-2") < place("1700-10") < place("1701-0")
    for wrong in ("", "x", "1-", "1.5"):
        with pytest.raises(ConfigError, match="Expected the id of an event"):
            place(wrong)
