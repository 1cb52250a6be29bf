"""How long finished jobs stay."""

from __future__ import annotations

import pytest

from toril.engine.ports.jobs import CancelAnswer, Code
from toril.jobs.options import Keep
from toril.jobs.outcome import Cancelled, Done, Failed, Outcome, Retry
from toril.jobs.states import State
from toril.testing.conformance.stage import FOREIGN, MINUTE, OWN, QUEUE, Cases, Stage, job

DAY = 24 * 60 * MINUTE
DAY_S = 86_400.0


async def finish(stage: Stage, *names: str, outcome: Outcome = Done("1"), opts: str = OWN) -> None:  # noqa: B008 - immutable
    """Run jobs to their end, one millisecond apart."""
    worker = stage.worker()
    await stage.add(*(job(name, opts=opts, timestamp=stage.now) for name in names))
    await worker.take(len(names))
    for name in names:
        await stage.elapse(1)
        assert await worker.end(name, outcome) is Code.OK


async def prune(
    stage: Stage, *, completed: Keep | None = None, failed: Keep | None = None, limit: int = 1000, events: int = 10_000
) -> int:
    """Prune the queue."""
    return await stage.jobs.prune(QUEUE, completed=completed, failed=failed, events=events, now=stage.now, limit=limit)


class RetentionCases(Cases):
    """What a finish says about keeping, and `JobStore.prune`."""

    @pytest.mark.parametrize(
        "outcome", [Done("1"), Failed("no", ""), Cancelled("", "ann")], ids=lambda each: each.cause
    )
    async def test_keep_none_at_all(self, stage: Stage, outcome: Outcome) -> None:
        """A finish with count 0 deletes the job as it ends; its end is told all the same."""
        worker = await stage.bring("a", State.ACTIVE)
        tail = await stage.bus.tail(QUEUE)
        assert await worker.end("a", outcome, keep=Keep(None, 0)) is Code.OK
        assert await stage.state("a") is None
        assert (await stage.counts()).total == 0
        told = await stage.told(tail)
        assert told[0] == ("completed" if isinstance(outcome, Done) else "failed", "a")

    async def test_keep_a_number(self, stage: Stage) -> None:
        """A finish with a count leaves that many jobs of its state, the newest."""
        await finish(stage, "a", "b", "c", "d")
        worker = await stage.bring("e", State.ACTIVE)
        await stage.elapse(1)
        await worker.end("e", Done("1"), keep=Keep(None, 2))
        assert await stage.ids(State.COMPLETED) == ["d", "e"]

    async def test_keep_for_a_time(self, stage: Stage) -> None:
        """A finish with an age deletes what finished longer ago."""
        await finish(stage, "old")
        await stage.elapse(9 * MINUTE)
        await finish(stage, "young")
        await stage.elapse(2 * MINUTE)
        worker = await stage.bring("new", State.ACTIVE)
        await worker.end("new", Done("1"), keep=Keep(600.0, None))
        assert await stage.ids(State.COMPLETED) == ["young", "new"]

    async def test_keep_applies_to_all_jobs_of_the_queue(self, stage: Stage) -> None:
        """What a job says at its end bounds everybody's finished jobs of that state, and no other state."""
        await finish(stage, "foreign", opts=FOREIGN)
        await finish(stage, "broken", outcome=Failed("no", ""))
        worker = await stage.bring("a", State.ACTIVE)
        await stage.elapse(1)
        await worker.end("a", Done("1"), keep=Keep(None, 1))
        assert await stage.ids(State.COMPLETED, State.FAILED) == ["a", "broken"]

    async def test_keep_nothing_said(self, stage: Stage) -> None:
        """Without a word about keeping, finished jobs stay."""
        await finish(stage, *(f"j{number}" for number in range(30)))
        await stage.elapse(365 * DAY)
        await finish(stage, "last")
        assert (await stage.counts()).completed == 31

    async def test_keep_is_for_the_end_only(self, stage: Stage) -> None:
        """A run after which the job goes on deletes nothing, whatever it says about keeping."""
        await finish(stage, "done")
        worker = await stage.bring("a", State.ACTIVE)
        await worker.end("a", Retry("no", "", 0), keep=Keep(None, 0))
        assert (await stage.counts()).waiting == 1
        assert await stage.ids(State.COMPLETED) == ["done"]

    async def test_a_deleted_job_takes_its_log_along(self, stage: Stage) -> None:
        """What was logged for a job is deleted with it."""
        worker = await stage.bring("a", State.ACTIVE)
        await worker.exchange()
        await worker.end("a", Done("1"), keep=Keep(None, 0))
        assert (await stage.inspect.logs(QUEUE, "a")).total == 0

    async def test_prune_by_age(self, stage: Stage) -> None:
        """After eight days completed jobs are gone, failed ones are kept for fourteen."""  # S0-06
        await finish(stage, "ok1", "ok2")
        await finish(stage, "bad", outcome=Failed("no", ""))
        ok, bad = Keep(7 * DAY_S, None), Keep(14 * DAY_S, None)
        await stage.elapse(6 * DAY)
        assert await prune(stage, completed=ok, failed=bad) == 0
        await stage.elapse(2 * DAY)
        assert await prune(stage, completed=ok, failed=bad) == 2
        assert await stage.ids(State.COMPLETED, State.FAILED) == ["bad"]
        await stage.elapse(7 * DAY)
        assert await prune(stage, completed=ok, failed=bad) == 1
        assert (await stage.counts()).total == 0

    async def test_prune_by_count(self, stage: Stage) -> None:
        """Above the bound the oldest go first."""  # S0-23
        await finish(stage, "a", "b", "c", "d", "e")
        assert await prune(stage, completed=Keep(None, 3)) == 2
        assert await stage.ids(State.COMPLETED) == ["c", "d", "e"]
        assert await prune(stage, completed=Keep(None, 3)) == 0

    async def test_prune_by_both(self, stage: Stage) -> None:
        """Either bound is enough to be deleted."""
        await finish(stage, "old1", "old2")
        await stage.elapse(10 * MINUTE)
        await finish(stage, "a", "b", "c")
        assert await prune(stage, completed=Keep(300.0, 2)) == 3
        assert await stage.ids(State.COMPLETED) == ["b", "c"]

    async def test_prune_without_bounds(self, stage: Stage) -> None:
        """None is no bound, for a state or for an age or a count."""
        await finish(stage, "a")
        await finish(stage, "b", outcome=Failed("no", ""))
        await stage.elapse(1_000 * DAY)
        assert await prune(stage) == 0
        assert await prune(stage, completed=Keep(None, None), failed=Keep(None, None)) == 0
        assert (await stage.counts()).total == 2

    async def test_prune_spares_the_jobs_of_others(self, stage: Stage) -> None:
        """Jobs that another producer stored are not ours to delete."""
        await finish(stage, "foreign1", "foreign2", opts=FOREIGN)
        await finish(stage, "a", "b")
        await stage.elapse(365 * DAY)
        assert await prune(stage, completed=Keep(DAY_S, None)) == 2
        assert await stage.ids(State.COMPLETED) == ["foreign1", "foreign2"]
        assert await prune(stage, completed=Keep(None, 0)) == 0

    async def test_prune_spares_unfinished_jobs(self, stage: Stage) -> None:
        """Only completed and failed jobs grow old."""
        for state in (State.PRIORITIZED, State.DELAYED, State.ACTIVE, State.WAITING):
            await stage.bring(f"j-{state}", state)
        await stage.elapse(365 * DAY)
        assert await prune(stage, completed=Keep(None, 0), failed=Keep(None, 0)) == 0
        assert (await stage.counts()).total == 4

    async def test_prune_is_bounded(self, stage: Stage) -> None:
        """At most `limit` jobs of each state go per call, oldest first; calling again gets the rest."""
        await finish(stage, *(f"c{number}" for number in range(12)))
        await finish(stage, *(f"f{number}" for number in range(3)), outcome=Failed("no", ""))
        none = Keep(None, 0)
        assert await prune(stage, limit=5, completed=none, failed=none) == 8
        assert await stage.ids(State.COMPLETED) == [f"c{number}" for number in range(5, 12)]
        assert [await prune(stage, limit=5, completed=none, failed=none) for _ in range(3)] == [5, 2, 0]

    async def test_prune_is_per_queue(self, stage: Stage) -> None:
        """The jobs of another queue stay, and an unknown queue has none."""
        await finish(stage, "a")
        deleted = await stage.jobs.prune(
            "other", completed=Keep(None, 0), failed=Keep(None, 0), events=0, now=stage.now
        )
        assert deleted == 0
        assert await stage.ids(State.COMPLETED) == ["a"]
        assert await stage.events() != []

    async def test_prune_takes_cancelled_jobs_as_failed(self, stage: Stage) -> None:
        """A cancelled job stays as long as a failed one."""
        await stage.bring("a", State.DELAYED)
        assert await stage.jobs.cancel(QUEUE, "a", by="", reason="", now=stage.now) is CancelAnswer.CANCELLED
        await stage.elapse(8 * DAY)
        assert await prune(stage, completed=Keep(None, 0), failed=Keep(14 * DAY_S, None)) == 0
        await stage.elapse(7 * DAY)
        assert await prune(stage, failed=Keep(14 * DAY_S, None)) == 1

    async def test_old_events_are_pruned(self, stage: Stage) -> None:
        """About the newest `events` stay; who reads from further back is told of the gap."""
        await stage.add(*(job(f"a{number}") for number in range(1_500)))
        early = (await stage.bus.read(QUEUE, after="0", limit=10)).events[-1].id
        tail = await stage.bus.tail(QUEUE)
        await prune(stage, events=200)
        left = await stage.events()
        # About: a store may keep some more, and may count what it writes for other readers, such as BullMQ's `added`.
        assert 100 <= len(left) < 1_000
        assert left[-1].id == tail
        assert (await stage.bus.read(QUEUE, after=early)).gap
        assert not (await stage.bus.read(QUEUE, after=left[0].id)).gap
        assert not (await stage.bus.read(QUEUE, after=tail)).gap
