"""Jobs that are not due yet."""

from __future__ import annotations

from toril.jobs.outcome import Done, Retry, Snooze
from toril.jobs.states import State
from toril.testing.conformance.stage import MINUTE, QUEUE, Cases, Stage, ids_of, job


class DelayCases(Cases):
    """Delayed jobs, and the time at which the next one is due."""

    async def test_a_job_is_not_taken_before_it_is_due(self, stage: Stage) -> None:
        """One millisecond early is too early, the millisecond itself is not."""
        await stage.add(job("a", delay_ms=MINUTE))
        worker = stage.worker()
        await stage.elapse(MINUTE - 1)
        assert await worker.take() == ()
        assert await stage.state("a") is State.DELAYED
        await stage.elapse(1)
        assert ids_of(await worker.take()) == ["a"]

    async def test_a_due_job_forgets_when_it_was_due(self, stage: Stage) -> None:
        """`due` is set while a job is delayed, and not longer."""
        await stage.add(job("a", delay_ms=MINUTE))
        assert (await stage.read("a")).due == stage.now + MINUTE
        await stage.elapse(MINUTE)
        await stage.worker().exchange()
        assert (await stage.read("a")).due is None
        assert await stage.state("a") is State.WAITING

    async def test_the_exchange_tells_the_next_due_time(self, stage: Stage) -> None:
        """`next_due_ms` is the earliest due time of the queue, None without delayed jobs."""
        worker = stage.worker()
        assert (await worker.exchange()).next_due_ms is None
        start = stage.now
        await stage.add(job("b", delay_ms=2 * MINUTE), job("a", delay_ms=MINUTE), "c")
        await stage.add(job("x", delay_ms=5), queue="other")
        assert (await worker.exchange(want=1)).next_due_ms == start + MINUTE
        await stage.elapse(MINUTE)
        assert (await worker.exchange(want=1)).next_due_ms == start + 2 * MINUTE
        await stage.elapse(MINUTE)
        assert (await worker.exchange(want=1)).next_due_ms is None

    async def test_a_retry_with_a_delay_is_the_next_due(self, stage: Stage) -> None:
        """The answer of the exchange that delays a job counts that job already."""
        worker = await stage.bring("a", State.ACTIVE)
        answer = await worker.exchange(worker.ended("a", Retry("no", "", 7_000)), want=1)
        assert (answer.jobs, answer.next_due_ms) == ((), stage.now + 7_000)

    async def test_at_most_a_thousand_become_due_at_once(self, stage: Stage) -> None:
        """One exchange puts 1,000 due jobs in line; the rest is due at once for the next one."""
        due = stage.now + 5
        await stage.add(*(job(f"j{number}", delay_ms=5) for number in range(1_001)))
        await stage.elapse(MINUTE)
        worker = stage.worker()
        assert (await worker.exchange()).next_due_ms == due
        assert ((await stage.counts()).waiting, (await stage.counts()).delayed) == (1_000, 1)
        assert (await worker.exchange()).next_due_ms is None
        assert (await stage.counts()).waiting == 1_001

    async def test_due_jobs_join_the_line_while_the_queue_is_paused(self, stage: Stage) -> None:
        """A pause holds back workers, not time."""
        await stage.add(job("a", delay_ms=MINUTE))
        await stage.inspect.pause(QUEUE, now=stage.now)
        await stage.elapse(MINUTE)
        assert await stage.worker().take() == ()
        assert await stage.state("a") is State.WAITING

    async def test_a_clock_set_back_takes_nothing_early(self, stage: Stage) -> None:
        """A job stays due at the wall time that was computed when it was added."""
        await stage.add(job("a", delay_ms=MINUTE))
        await stage.elapse(-MINUTE)
        worker = stage.worker()
        assert await worker.take() == ()
        await stage.elapse(2 * MINUTE)
        assert ids_of(await worker.take()) == ["a"]

    async def test_a_far_future_is_kept_exactly(self, stage: Stage) -> None:
        """A hundred years of delay are no problem."""
        century = 100 * 365 * 86_400_000
        await stage.add(job("a", delay_ms=century))
        assert (await stage.worker().exchange(want=1)).next_due_ms == stage.now + century

    async def test_each_wait_is_its_own(self, stage: Stage) -> None:
        """Retries wait as long as each outcome says: 5 s, 10 s, 20 s."""  # S0-22
        worker = await stage.bring("a", State.ACTIVE)
        for delay in (5_000, 10_000, 20_000):
            await worker.end("a", Retry("no", "", delay))
            assert (await stage.read("a")).due == stage.now + delay
            await stage.elapse(delay - 1)
            assert await worker.take() == ()
            await stage.elapse(1)
            assert ids_of(await worker.take()) == ["a"]
        await worker.end("a", Done("1"))
        assert (await stage.read("a")).attempts_made == 4

    async def test_a_snoozed_job_waits(self, stage: Stage) -> None:
        """A snooze with a wait delays the job as a retry does."""
        worker = await stage.bring("a", State.ACTIVE, priority=3)
        await worker.end("a", Snooze(MINUTE))
        stored = await stage.read("a")
        assert (stored.state, stored.due) == (State.DELAYED, stage.now + MINUTE)
        await stage.elapse(MINUTE)
        await worker.exchange()
        assert await stage.state("a") is State.PRIORITIZED
