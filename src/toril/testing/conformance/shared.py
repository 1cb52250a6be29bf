"""Two engines on one store, and a store that is opened again."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from toril.engine.ports.jobs import CancelAnswer, Code, LogLine
from toril.jobs.outcome import Done
from toril.jobs.states import State
from toril.testing.conformance.racing import run_dry
from toril.testing.conformance.stage import LOCK_MS, MINUTE, QUEUE, Cases, Stage, ids_of, job
from toril.testing.conformance.waking import LONG, SOON, make_idle, took, until


class SharedCases(Cases):
    """Engines whose store several processes use (`Capabilities.shared`)."""

    async def test_what_one_adds_the_other_takes(self, stage: Stage) -> None:
        """Jobs, results and counts are the store's, not the engine's."""  # S0-21
        other = await stage.second()
        await stage.add("a", job("d", delay_ms=5))
        worker = stage.worker(engine=other)
        assert ids_of(await worker.take()) == ["a"]
        assert await stage.state("a") is State.ACTIVE
        await worker.end("a", Done("1"))
        assert (await stage.read("a")).result == "1"
        assert await other.inspect.counts(QUEUE) == await stage.counts()

    async def test_the_other_is_woken(self, stage: Stage) -> None:
        """Work that one engine adds wakes a waiter of the other soon."""
        other = await stage.second()
        worker = stage.worker(engine=other)
        await make_idle(worker, other, [QUEUE])
        task = asyncio.create_task(until(worker, other, took("a")))
        await asyncio.wait({task}, timeout=0.05)
        begin = time.monotonic()
        await stage.add("a")
        await task
        assert time.monotonic() - begin < SOON

    async def test_a_cancellation_reaches_the_other(self, stage: Stage) -> None:
        """A request made on one engine wakes the worker on the other, and is in its renewal."""
        other = await stage.second()
        worker = stage.worker(engine=other)
        await stage.add("a")
        await worker.take()
        await make_idle(worker, other, [QUEUE])
        task = asyncio.create_task(until(worker, other, lambda answer: bool(answer.cancelled)))
        await asyncio.wait({task}, timeout=0.05)
        begin = time.monotonic()
        asked = await stage.jobs.cancel(QUEUE, "a", by="ann", reason="", now=stage.now)
        assert asked is CancelAnswer.REQUESTED
        await task
        assert time.monotonic() - begin < SOON
        renewed = await other.jobs.renew([worker.lock("a")], lock_ms=LOCK_MS, now=stage.now)
        assert [each.id for each in renewed.cancelled] == ["a"]

    async def test_both_race_for_jobs(self, stage: Stage) -> None:
        """Workers on two engines never take one job twice."""
        other = await stage.second()
        names = [f"j{number}" for number in range(200)]
        await stage.add(*names)
        ran: list[str] = []
        workers = [stage.worker(engine=engine) for engine in (stage.engine, other) for _ in range(4)]
        await asyncio.gather(*(run_dry(worker, 3, ran) for worker in workers))
        assert Counter(ran) == Counter(names)

    async def test_both_add_the_same(self, stage: Stage) -> None:
        """One id, or one batch, added through two engines at once is stored once."""
        other = await stage.second()
        both = (stage.engine, other)
        ids = await asyncio.gather(
            *(each.jobs.add(QUEUE, [job("a")], batch=stage.batch(), now=stage.now) for each in both)
        )
        assert sorted(each.created for each in ids) == [(False,), (True,)]
        batches = await asyncio.gather(
            *(each.jobs.add(QUEUE, [job("b"), job("c")], batch="one", now=stage.now) for each in both)
        )
        assert batches[0] == batches[1]
        assert await stage.line() == ["a", "b", "c"]

    async def test_locks_hold_across_engines(self, stage: Stage) -> None:
        """A lock is checked, renewed and recovered through any engine."""
        other = await stage.second()
        worker = await stage.bring("a", State.ACTIVE)
        assert await stage.worker(engine=other).end("a", Done("1"), token="somebody:1") is Code.LOCK_LOST
        assert (await other.jobs.renew([worker.lock("a")], lock_ms=9 * LOCK_MS, now=stage.now)).lost == ()
        await stage.elapse(8 * LOCK_MS)
        assert (await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)).requeued == ()
        await stage.elapse(2 * LOCK_MS)
        assert (await other.jobs.recover(QUEUE, max_stalls=2, now=stage.now)).requeued == ("a",)
        assert await worker.end("a", Done("1")) is Code.LOCK_LOST

    async def test_a_pause_holds_for_all(self, stage: Stage) -> None:
        """A queue that is paused through one engine is paused for the other."""
        other = await stage.second()
        await stage.add("a")
        await other.inspect.pause(QUEUE, now=stage.now)
        assert await stage.inspect.is_paused(QUEUE)
        assert await stage.worker().take() == ()

    async def test_events_and_values_are_shared(self, stage: Stage) -> None:
        """What one tells and stores, the other reads."""
        other = await stage.second()
        await stage.add("a")
        tail = await other.bus.tail(QUEUE)
        assert tail == await stage.bus.tail(QUEUE)
        waiter = asyncio.create_task(other.bus.wait(QUEUE, after=tail, timeout=LONG))
        await asyncio.wait({waiter}, timeout=0.05)
        begin = time.monotonic()
        await stage.add("b")
        await waiter
        while not (await other.bus.read(QUEUE, after=tail)).events:
            await other.bus.wait(QUEUE, after=tail, timeout=LONG)
        assert time.monotonic() - begin < SOON
        await stage.keyvalue.set([("k", b"v")], ttl_ms=MINUTE, now=stage.now)
        assert await other.keyvalue.get(["k"], now=stage.now) == (b"v",)
        assert await other.keyvalue.replace("k", b"w", expected=b"v", ttl_ms=MINUTE, now=stage.now)
        assert not await stage.keyvalue.replace("k", b"x", expected=b"v", ttl_ms=MINUTE, now=stage.now)

    async def test_one_may_leave(self, stage: Stage) -> None:
        """When one engine is closed, the other goes on."""
        other = await stage.second()
        await other.close()
        await stage.add("a")
        assert ids_of(await stage.worker().take()) == ["a"]


class DurableCases(Cases):
    """Engines whose store outlives them (`Capabilities.durable`)."""

    async def test_everything_is_there_again(self, stage: Stage) -> None:
        """Jobs of every state, order, counts, events, logs, values and the pause survive."""  # S0-03
        runner = await stage.bring("running", State.ACTIVE)
        for state in (State.COMPLETED, State.FAILED, State.DELAYED, State.PRIORITIZED):
            await stage.bring(f"j-{state}", state)
        await stage.add("b", "a", job("front", lifo=True))
        await stage.jobs.report(QUEUE, [], [LogLine("running", runner.tokens["running"], "hello", stage.now)])
        await stage.keyvalue.set([("k", b"v")], ttl_ms=MINUTE, now=stage.now)
        await stage.inspect.pause(QUEUE, now=stage.now)
        before = (await stage.pages(*State), await stage.counts(), await stage.events())
        await stage.reopen()
        assert (await stage.pages(*State), await stage.counts(), await stage.events()) == before
        assert (await stage.inspect.logs(QUEUE, "running")).lines == ("hello",)
        assert await stage.keyvalue.get(["k"], now=stage.now) == (b"v",)
        assert await stage.inspect.is_paused(QUEUE)
        await stage.inspect.resume(QUEUE, now=stage.now)
        assert ids_of(await stage.worker().take(9)) == ["front", "b", "a", "j-prioritized"]

    async def test_running_jobs_are_still_held(self, stage: Stage) -> None:
        """Their worker can finish them after the store was closed and opened; without it they are recovered."""
        worker = await stage.bring("a", State.ACTIVE)
        await stage.bring("b", State.ACTIVE)
        await stage.reopen()
        assert await stage.worker().take() == ()
        assert await worker.end("a", Done("1")) is Code.OK
        await stage.elapse(2 * LOCK_MS)
        assert (await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)).requeued == ("b",)

    async def test_answers_are_remembered(self, stage: Stage) -> None:
        """A batch or an exchange that is repeated after the store was opened again changes nothing."""
        first = await stage.jobs.add(QUEUE, [job("a"), job("b")], batch="one", now=stage.now)
        worker = stage.worker()
        taken = await worker.exchange(want=1)
        await stage.reopen()
        assert (await worker.repeat()).jobs == taken.jobs
        await stage.inspect.remove(QUEUE, ["b"], now=stage.now)
        assert await stage.jobs.add(QUEUE, [job("a"), job("b")], batch="one", now=stage.now) == first
        assert await stage.line() == []

    async def test_events_go_on(self, stage: Stage) -> None:
        """A reader's place in the log is good after the store was opened again."""
        await stage.add("a")
        tail = await stage.bus.tail(QUEUE)
        await stage.reopen()
        assert await stage.bus.tail(QUEUE) == tail
        await stage.add("b")
        assert await stage.told(tail) == [("waiting", "b")]
