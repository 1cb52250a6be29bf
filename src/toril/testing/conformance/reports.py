"""Progress and log lines of running jobs."""

from __future__ import annotations

from typing import Any

import pytest

from toril.engine.ports.jobs import LogLine, Progress
from toril.jobs.outcome import Done, Retry
from toril.jobs.states import State
from toril.testing.conformance.stage import LOCK_MS, QUEUE, Cases, HandWorker, Stage


async def log(stage: Stage, worker: HandWorker, *lines: str, token: str | None = None, keep: int = 1000) -> None:
    """Log lines for the job `a`."""
    at = [LogLine("a", token or worker.tokens["a"], line, stage.now, keep) for line in lines]
    await stage.jobs.report(QUEUE, [], at)


class ReportCases(Cases):
    """`JobStore.report` and `JobInspector.logs`."""

    @pytest.mark.parametrize(
        ("value", "shown"),
        [("45", 45), ("0.5", 0.5), ('{"progress":45,"message":"half"}', {"progress": 45, "message": "half"})],
    )
    async def test_progress_is_seen_while_the_job_runs(self, stage: Stage, value: str, shown: Any) -> None:
        """A number, or a number with a message."""  # S0-07
        worker = await stage.bring("a", State.ACTIVE)
        tail = await stage.bus.tail(QUEUE)
        await stage.jobs.report(QUEUE, [Progress("a", worker.tokens["a"], value, stage.now)], [])
        stored = await stage.read("a")
        assert (stored.progress, stored.state) == (shown, State.ACTIVE)
        [event] = await stage.events(tail)
        assert (event.kind, event.job_id, event.data) == ("progress", "a", {"value": shown})

    async def test_the_last_progress_stands(self, stage: Stage) -> None:
        """Reports are stored in order, also those of one call; the last one stays after the end."""
        worker = await stage.bring("a", State.ACTIVE)
        await stage.jobs.report(
            QUEUE, [Progress("a", worker.tokens["a"], str(number), stage.now) for number in (1, 2, 3)], []
        )
        assert (await stage.read("a")).progress == 3
        await worker.end("a", Done("1"))
        assert (await stage.read("a")).progress == 3

    async def test_no_progress_is_zero(self, stage: Stage) -> None:
        """A job that never reported stands at 0."""
        await stage.add("a")
        stored = await stage.read("a")
        assert (stored.progress, stored.progress_number, stored.progress_message) == (0, 0, "")

    async def test_lines_are_kept_in_order(self, stage: Stage) -> None:
        """Within a call and over calls, and they stay after the job has ended."""
        worker = await stage.bring("a", State.ACTIVE)
        await log(stage, worker, "one", "two")
        await log(stage, worker, "three")
        await worker.end("a", Done("1"))
        page = await stage.inspect.logs(QUEUE, "a")
        assert (page.lines, page.total) == (("one", "two", "three"), 3)

    async def test_lines_are_told(self, stage: Stage) -> None:
        """Each line is an event."""
        worker = await stage.bring("a", State.ACTIVE)
        tail = await stage.bus.tail(QUEUE)
        await log(stage, worker, "one", "two")
        told = [(event.kind, event.job_id, event.data) for event in await stage.events(tail)]
        assert told == [("log", "a", {"line": "one"}), ("log", "a", {"line": "two"})]

    async def test_lines_are_read_page_by_page(self, stage: Stage) -> None:
        """From any line on, so many lines; the total is that of the job."""
        worker = await stage.bring("a", State.ACTIVE)
        await log(stage, worker, *(str(number) for number in range(10)))
        page = await stage.inspect.logs(QUEUE, "a", start=7, limit=2)
        assert (page.lines, page.total) == (("7", "8"), 10)
        assert (await stage.inspect.logs(QUEUE, "a", start=9)).lines == ("9",)
        assert (await stage.inspect.logs(QUEUE, "a", start=10)).lines == ()

    async def test_the_oldest_lines_go_first(self, stage: Stage) -> None:
        """A job keeps so many lines as each line says."""
        worker = await stage.bring("a", State.ACTIVE)
        for number in range(12):
            await log(stage, worker, str(number), keep=5)
        await log(stage, worker, "12", "13", keep=5)
        page = await stage.inspect.logs(QUEUE, "a")
        assert (page.lines, page.total) == (("9", "10", "11", "12", "13"), 5)
        assert (await stage.inspect.logs(QUEUE, "a", start=3)).lines == ("12", "13")

    async def test_another_token_reports_nothing(self, stage: Stage) -> None:
        """What comes from a run that does not hold the job is dropped without a word."""
        worker = await stage.bring("a", State.ACTIVE)
        tail = await stage.bus.tail(QUEUE)
        await log(stage, worker, "ghost", token="somebody:1")
        await stage.jobs.report(
            QUEUE, [Progress("a", "somebody:1", "9", stage.now), Progress("nobody", "any:1", "9", stage.now)], []
        )
        assert (await stage.inspect.logs(QUEUE, "a")).total == 0
        assert (await stage.read("a")).progress == 0
        assert await stage.events(tail) == []

    async def test_an_ended_run_reports_nothing(self, stage: Stage) -> None:
        """After its end a run has nothing more to say, whether the job is finished or back in line."""
        worker = await stage.bring("a", State.ACTIVE)
        await worker.end("a", Retry("no", "", 0))
        await log(stage, worker, "ghost")
        assert (await stage.inspect.logs(QUEUE, "a")).total == 0
        await worker.take()
        await worker.end("a", Done("1"))
        await stage.jobs.report(QUEUE, [Progress("a", worker.tokens["a"], "9", stage.now)], [])
        assert (await stage.read("a")).progress == 0

    async def test_an_old_run_reports_nothing(self, stage: Stage) -> None:
        """When another run has begun, the old one is not heard; the new one is."""
        old = await stage.bring("a", State.ACTIVE)
        await stage.elapse(2 * LOCK_MS)
        await stage.jobs.recover(QUEUE, max_stalls=2, now=stage.now)
        new = stage.worker()
        await new.take()
        await log(stage, old, "ghost")
        await log(stage, new, "real")
        assert (await stage.inspect.logs(QUEUE, "a")).lines == ("real",)

    async def test_one_call_for_many_jobs(self, stage: Stage) -> None:
        """Progress and lines of several jobs travel together; each finds its job."""
        await stage.add("a", "b")
        worker = stage.worker()
        await worker.take(2)
        one, two = worker.tokens["a"], worker.tokens["b"]
        await stage.jobs.report(
            QUEUE,
            [
                Progress("a", one, "1", stage.now),
                Progress("b", two, "2", stage.now),
                Progress("a", "wrong:1", "9", stage.now),
            ],
            [LogLine("b", two, "of b", stage.now), LogLine("a", one, "of a", stage.now)],
        )
        assert [(await stage.read(name)).progress for name in "ab"] == [1, 2]
        assert [(await stage.inspect.logs(QUEUE, name)).lines for name in "ab"] == [("of a",), ("of b",)]

    async def test_a_job_without_lines_has_an_empty_page(self, stage: Stage) -> None:
        """So has a job that is not there."""
        await stage.add("a")
        for name in ("a", "nobody"):
            page = await stage.inspect.logs(QUEUE, name)
            assert (page.lines, page.total) == ((), 0)
