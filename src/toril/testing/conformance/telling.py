"""Queues that tell less than all."""

from __future__ import annotations

from toril.engine.ports.jobs import LogLine, Progress
from toril.jobs.outcome import Done, Failed, Retry
from toril.jobs.states import State
from toril.jobs.telling import Told
from toril.testing.conformance.stage import LOCK_MS, MINUTE, QUEUE, Cases, Stage, job


async def live(stage: Stage, prefix: str) -> None:
    """One job that reports and is completed, one that is retried and fails, one delayed that is removed."""
    done, broken, later = (f"{prefix}-{name}" for name in ("done", "broken", "later"))
    await stage.add(done, broken)
    await stage.add(job(later, timestamp=stage.now, delay_ms=MINUTE))
    worker = stage.worker()
    await worker.take(2)
    progress = Progress(done, worker.tokens[done], "40", stage.now)
    await stage.jobs.report(QUEUE, [progress], [LogLine(done, worker.tokens[done], "half of it", stage.now)])
    await worker.end(done, Done("1"))
    await worker.end(broken, Retry("not yet", "Error: not yet", 0))
    await worker.take()
    await worker.end(broken, Failed("never", "Error: never"))
    await stage.inspect.remove(QUEUE, [later], now=stage.now)


class TellingCases(Cases):
    """`JobInspector.set_told`, and what the log of events holds then."""

    async def test_by_default_all_is_told(self, stage: Stage) -> None:
        """A queue that nobody has heard of, and one that is new, tell all."""
        assert await stage.inspect.told(QUEUE) is Told.ALL
        await live(stage, "a")
        assert await stage.inspect.told(QUEUE) is Told.ALL
        assert {"waiting", "delayed", "active", "progress", "log", "completed", "failed", "removed"} == {
            kind for kind, _ in await stage.told()
        }

    async def test_only_how_jobs_end(self, stage: Stage) -> None:
        """And what their handlers report; all else happens as ever."""
        assert await stage.inspect.set_told(QUEUE, Told.FINISHED, now=stage.now)
        assert await stage.inspect.told(QUEUE) is Told.FINISHED
        await live(stage, "a")
        await stage.inspect.pause(QUEUE, now=stage.now)
        await stage.inspect.resume(QUEUE, now=stage.now)
        assert await stage.told() == [
            ("progress", "a-done"),
            ("log", "a-done"),
            ("completed", "a-done"),
            ("failed", "a-broken"),
        ]
        assert ((await stage.read("a-done")).result, (await stage.read("a-done")).progress) == ("1", 40)
        assert (await stage.read("a-broken")).attempts_made == 2

    async def test_nothing(self, stage: Stage) -> None:
        """A queue without events keeps results, progress and logs all the same, and a stalled job comes back."""
        await stage.inspect.set_told(QUEUE, Told.OFF, now=stage.now)
        await live(stage, "a")
        await stage.bring("lost", State.ACTIVE)
        await stage.elapse(2 * LOCK_MS)
        assert (await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)).requeued == ("lost",)
        assert await stage.told() == []
        assert await stage.bus.tail(QUEUE) == "0" or not await stage.events()
        done = await stage.read("a-done")
        assert (done.state, done.result, done.progress) == (State.COMPLETED, "1", 40)
        assert (await stage.inspect.logs(QUEUE, "a-done")).lines == ("half of it",)

    async def test_more_and_less_again(self, stage: Stage) -> None:
        """What is told changes from now on; who reads the log goes on where he was, and nothing is missing."""
        await live(stage, "a")
        last = await stage.bus.tail(QUEUE)
        await stage.inspect.set_told(QUEUE, Told.OFF, now=stage.now)
        await live(stage, "b")
        page = await stage.bus.read(QUEUE, after=last)
        assert (page.events, page.gap) == ((), False)
        await stage.inspect.set_told(QUEUE, Told.ALL, now=stage.now)
        await live(stage, "c")
        page = await stage.bus.read(QUEUE, after=last)
        assert {event.job_id.partition("-")[0] for event in page.events} == {"c"}
        assert not page.gap

    async def test_declared_once_and_changed_by_hand(self, stage: Stage) -> None:
        """A declaration that was made before changes nothing, so what was set since then stays; a new one counts."""
        assert await stage.inspect.set_told(QUEUE, Told.OFF, now=stage.now, declared=True)
        assert await stage.inspect.set_told(QUEUE, Told.ALL, now=stage.now)
        assert not await stage.inspect.set_told(QUEUE, Told.OFF, now=stage.now, declared=True)
        assert await stage.inspect.told(QUEUE) is Told.ALL
        assert await stage.inspect.set_told(QUEUE, Told.FINISHED, now=stage.now, declared=True)
        assert await stage.inspect.told(QUEUE) is Told.FINISHED

    async def test_what_was_declared_ends_with_the_queue(self, stage: Stage) -> None:
        """An obliterated queue that comes again tells all, until somebody declares otherwise again."""
        await stage.inspect.set_told(QUEUE, Told.OFF, now=stage.now, declared=True)
        assert await stage.inspect.obliterate(QUEUE, force=False, now=stage.now)
        await stage.add("a")
        assert await stage.inspect.told(QUEUE) is Told.ALL
        assert await stage.inspect.set_told(QUEUE, Told.OFF, now=stage.now, declared=True)
        assert await stage.inspect.told(QUEUE) is Told.OFF
