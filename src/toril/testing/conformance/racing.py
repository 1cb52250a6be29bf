"""Many at the same time."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

from toril.engine.ports.jobs import Code
from toril.jobs.outcome import Done, Retry
from toril.jobs.states import State
from toril.testing.conformance.stage import QUEUE, Cases, HandWorker, Stage, job


async def run_dry(worker: HandWorker, want: int, ran: list[str]) -> None:
    """Take and finish jobs until there are none."""
    answer = await worker.exchange(want=want)
    while answer.jobs:
        ran += [each.id for each in answer.jobs]
        ended = [worker.ended(each.id, Done("1")) for each in answer.jobs]
        answer = await worker.exchange(*ended, want=want)
        assert set(answer.applied) == {Code.OK}


def on_own_loops(*works: list[HandWorker], ran: list[str]) -> None:
    """Run each list of workers on an event loop of its own, in a thread of its own."""
    problems: list[BaseException] = []

    async def together(workers: list[HandWorker]) -> None:
        await asyncio.gather(*(run_dry(worker, 3, ran) for worker in workers))

    def body(workers: list[HandWorker]) -> None:
        try:
            asyncio.run(together(workers))
        except BaseException as error:  # noqa: BLE001 - handed to the thread of the case
            problems.append(error)

    threads = [threading.Thread(target=body, args=(workers,)) for workers in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


class RacingCases(Cases):
    """No job is given to two, none is lost, none is counted twice."""

    async def test_no_job_is_taken_twice(self, stage: Stage) -> None:
        """Sixteen workers empty one queue at once: each job runs once."""  # A03
        names = [f"j{number}" for number in range(400)]
        await stage.add(*names)
        ran: list[str] = []
        await asyncio.gather(*(run_dry(stage.worker(), 1 + number % 5, ran) for number in range(16)))
        assert Counter(ran) == Counter(names)
        assert (await stage.counts()).completed == 400

    async def test_adding_and_running_at_once(self, stage: Stage) -> None:
        """Producers and workers at the same time: every job runs, in the end, once."""
        ran: list[str] = []

        async def produce(start: int) -> None:
            for number in range(20):
                await stage.add(job(f"j{start}-{number}", priority=number % 3))

        await asyncio.gather(
            *(produce(start) for start in range(10)), *(run_dry(stage.worker(), 2, ran) for _ in range(6))
        )
        await run_dry(stage.worker(), 50, ran)
        assert len(ran) == len(set(ran)) == 200
        assert (await stage.counts()).completed == 200

    async def test_every_loop_may_call(self, stage: Stage) -> None:
        """The ports are called from event loops of other threads as from the one that opened the engine."""
        names = [f"j{number}" for number in range(200)]
        await stage.add(*names)
        ran: list[str] = []
        groups = [[stage.worker() for _ in range(3)] for _ in range(4)]
        await asyncio.to_thread(on_own_loops, *groups, ran=ran)
        assert Counter(ran) == Counter(names)

    async def test_one_id_from_many_producers(self, stage: Stage) -> None:
        """Of thirty that add the same id at once, one creates it and all are told it."""
        added = await asyncio.gather(*(stage.add(job("a", name=f"n{number}")) for number in range(30)))
        assert {each.ids for each in added} == {("a",)}
        assert [each.created[0] for each in added].count(True) == 1
        winner = [each.created[0] for each in added].index(True)
        assert (await stage.read("a")).name == f"n{winner}"

    async def test_one_run_is_finished_by_one(self, stage: Stage) -> None:
        """Two that hand in the same run at once: one is OK, the other has lost the lock."""
        worker = await stage.bring("a", State.ACTIVE)
        token = worker.tokens["a"]
        codes = await asyncio.gather(*(stage.worker().end("a", Retry("no", "", 5_000), token=token) for _ in range(10)))
        assert sorted(codes) == [Code.LOCK_LOST] * 9 + [Code.OK]
        assert (await stage.read("a")).attempts_made == 1

    async def test_recovering_at_once_counts_one_stall(self, stage: Stage) -> None:
        """However many workers look after stalled jobs, a stall is one stall."""
        await stage.add(*(job(f"j{number}") for number in range(30)))
        await stage.worker().take(30)
        await stage.elapse(60_000)
        recovered = await asyncio.gather(
            *(stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now, limit=20) for _ in range(5))
        )
        back = Counter(name for each in recovered for name in each.requeued)
        assert len(back) == 30
        assert set(back.values()) == {1}
        assert {each.stalls for each in await stage.pages(State.WAITING)} == {1}

    async def test_readers_do_not_stop_writers(self, stage: Stage) -> None:
        """Listing and counting go on while jobs run; no job is missed by a count, or listed twice in a state."""
        await stage.add(*(job(f"j{number}") for number in range(100)))
        ran: list[str] = []

        async def look() -> None:
            while len(ran) < 100:
                counts = await stage.counts()
                assert counts.total == 100
                shown = await stage.ids(State.COMPLETED)
                assert sorted(shown) == sorted(set(shown))

        await asyncio.gather(look(), look(), *(run_dry(stage.worker(), 2, ran) for _ in range(3)))
        assert len(set(ran)) == 100
