"""Looking at a queue and operating it."""

import pytest

from toril import ConfigError, JobFailed, State, Toril
from toril.tasks import queue as queue_module
from toril.testing.clock import ManualClock


async def test_a_queue_is_counted_listed_and_drained(toril: Toril, monkeypatch: pytest.MonkeyPatch) -> None:
    # S0-20
    monkeypatch.setattr(queue_module, "_PART", 10)
    monkeypatch.setattr(queue_module, "_PAGE", 7)

    @toril.task(queue="docs")
    async def note(n: int) -> int:
        return n

    await toril.enqueue_many(note.call(n) for n in range(25))
    await note.with_options(priority=3).enqueue(100)
    later = await note.with_options(delay="1h").enqueue(101)
    queue = toril.queue("docs")
    counts = await queue.counts()
    assert (counts.waiting, counts.prioritized, counts.delayed, counts.total) == (25, 1, 1, 27)
    assert [job.data async for job in queue.jobs("waiting")] == [f'{{"n":{n}}}' for n in range(25)]
    newest = [job.data async for job in queue.jobs(State.WAITING, newest_first=True)]
    assert newest == [f'{{"n":{n}}}' for n in reversed(range(25))]
    assert len([job async for job in queue.jobs()]) == 27
    assert len([job async for job in queue.jobs(task="other")]) == 0
    assert await queue.promote([later.id, "nobody"]) == ("ok", "missing")
    assert await queue.drain() == 27
    await note.with_options(delay="1h").enqueue(101)
    assert await queue.drain() == 0
    assert await queue.drain(delayed=True) == 1
    assert (await queue.counts()).total == 0
    with pytest.raises(ConfigError, match="state: expected one of waiting, prioritized"):
        await queue.clean("done")


async def test_a_paused_queue_starts_nothing(toril: Toril) -> None:
    @toril.task(queue="docs")
    async def note(n: int) -> int:
        return n

    queue = toril.queue("docs")
    await queue.pause()
    assert await queue.is_paused()
    job = await note.enqueue(1)
    async with toril.worker():
        info = await job.info()
        assert info is not None
        assert info.state == "waiting"
        await queue.resume()
        assert await job.result(timeout=5) == 1
    assert not await queue.is_paused()


async def test_failed_jobs_are_replayed_each_once(toril: Toril, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "_PAGE", 3)
    runs: dict[int, int] = {}

    @toril.task(attempts=1)
    async def stubborn(n: int) -> None:
        runs[n] = runs.get(n, 0) + 1
        raise OSError("again")

    handles = await toril.enqueue_many(stubborn.call(n) for n in range(10))
    queue = toril.queue("default")
    async with toril.worker():
        for handle in handles:
            with pytest.raises(JobFailed):
                await handle.result(timeout=5)
        assert await queue.retry_failed() == 10
        for handle in handles:
            with pytest.raises(JobFailed):
                await handle.result(timeout=5)
    assert set(runs.values()) == {2}
    assert await queue.retry([handles[0].id, "nobody"]) == ("ok", "missing")
    assert (await queue.counts()).failed == 9


async def test_old_jobs_are_cleaned_and_a_queue_is_obliterated() -> None:
    # S0-26
    clock = ManualClock()
    async with Toril("sqlite://", clock=clock) as toril:

        @toril.task(queue="docs")
        async def note(n: int) -> int:
            return n

        old = await note.enqueue(1)
        clock.advance("2h")
        await note.enqueue(2)
        queue = toril.queue("docs")
        assert await queue.clean("waiting", older_than="1h") == 1
        assert await old.info() is None
        assert await queue.clean("waiting") == 1
        await toril.enqueue_many(note.call(n) for n in range(30))
        await queue.obliterate()
        assert (await queue.counts()).total == 0
