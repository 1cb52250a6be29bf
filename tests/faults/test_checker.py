"""The checker must catch what it is there to catch: bad journals, one kind of wrong at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import journal as j
from tests.faults.checker import TOO_MANY_STALLS, Ending, Figures, Final, Rules, check
from tests.faults.journal import Event, Journal

S = 1_000_000_000


def ran(id_: str, run: str, began: float, ended: float | None, pid: int = 7, how: str = j.FINISHED) -> list[Event]:
    events = [Event(j.STARTED, int(began * S), pid, (id_, run, run[1:]))]
    return events if ended is None else [*events, Event(how, int(ended * S), pid, (id_, run))]


def accepted(number: int, id_: str, at: float = 0.0) -> list[Event]:
    return [
        Event(j.OFFERED, int(at * S), 1, (str(number),)),
        Event(j.ACCEPTED, int(at * S), 1, (str(number), id_)),
    ]


def final(id_: str = "a", number: int = 1, **changes: object) -> Final:
    done = Final(id_, number, "quick", "completed", f'"{id_}1"', None, 0, ("done",))
    return done._replace(**changes)  # type: ignore[arg-type]


def problems(events: list[Event], ending: Ending, rules: Rules = Rules()) -> list[str]:  # noqa: B008 - immutable
    return [problem.partition(":")[0] for problem in check(events, ending, rules).problems]


GOOD = accepted(1, "a") + ran("a", "a1", 1, 2)


def test_a_good_trial_has_no_problems() -> None:
    verdict = check(GOOD, Ending([final()]))
    assert verdict.problems == []
    assert (verdict.figures.jobs, verdict.figures.runs, verdict.figures.duplicates) == (1, 1, 0)


def test_a_lost_job_is_caught() -> None:
    # A02
    verdict = check(GOOD, Ending([]))
    assert verdict.problems[0].startswith("lost: 1 (a)")
    assert verdict.figures.lost == 1


@pytest.mark.parametrize("state", ["waiting", "prioritized", "delayed", "active", "waiting-children"])
def test_a_job_that_is_not_finished_is_caught(state: str) -> None:
    # A02
    verdict = check(GOOD, Ending([final(state=state, result=None, causes=())]))
    assert [problem.partition(":")[0] for problem in verdict.problems] == [f"not finished ({state})"]
    assert verdict.figures.stuck == 1


def test_a_second_run_without_a_reason_is_caught() -> None:
    # A03
    twice = [*GOOD, *ran("a", "a2", 3, 4)]
    verdict = check(twice, Ending([final(result='"a2"')]))
    assert verdict.problems == ["ran again without a reason: 1 (a)"]
    assert verdict.figures.duplicates == 1


@pytest.mark.parametrize("cause", ["stall", "released", "retry", "snooze"])
def test_a_second_run_that_the_store_explains_is_none(cause: str) -> None:
    twice = [*accepted(1, "a"), *ran("a", "a1", 1, None), *ran("a", "a2", 3, 4)]
    assert problems(twice, Ending([final(result='"a2"', stalls=1, causes=(cause, "done"))])) == []


def test_a_third_run_needs_a_second_reason() -> None:
    thrice = [*GOOD, *ran("a", "a2", 3, 4), *ran("a", "a3", 5, 6)]
    assert problems(thrice, Ending([final(result='"a3"', causes=("stall", "done"))])) == ["ran again without a reason"]


def test_a_silent_hang_is_caught() -> None:
    assert "hangs" in problems(GOOD, Ending([final()], drained=False))


def test_a_worker_that_does_not_stop_is_caught() -> None:
    assert problems(GOOD, Ending([final()], exits=[0, -9])) == ["a worker that was told to stop did not end with 0"]


def test_a_lock_that_outlives_its_worker_is_caught() -> None:
    assert problems(GOOD, Ending([final()], locks=1)) == ["locks that outlive their workers"]


def test_an_outcry_in_a_log_is_caught() -> None:
    assert problems(GOOD, Ending([final()], outcries=["Traceback"])) == ["in the log"]


def test_a_call_that_made_two_jobs_is_caught() -> None:
    events = [*GOOD, *ran("b", "b1", 1, 2)]
    assert problems(events, Ending([final(), final("b")])) == ["one call made two jobs"]


def test_a_job_that_was_refused_must_not_exist() -> None:
    events = [Event(j.OFFERED, 0, 1, ("1",)), Event(j.REFUSED, 0, 1, ("1",)), *ran("a", "a1", 1, 2)]
    assert problems(events, Ending([final()])) == ["it was refused, and is stored"]


def test_a_job_that_nobody_offered_is_caught() -> None:
    assert problems(ran("a", "a1", 1, 2), Ending([final()])) == ["nobody offered it"]


def test_an_answer_that_names_another_job_is_caught() -> None:
    assert "another job has the id" in problems(GOOD, Ending([final(number=2)]))


def test_a_job_that_ran_and_is_nowhere_is_caught() -> None:
    events = [*GOOD, *ran("b", "b1", 1, 2)]
    assert problems(events, Ending([final()])) == ["ran and is not stored"]


def test_the_result_of_an_old_run_is_caught() -> None:
    # A03
    events = [*accepted(1, "a"), *ran("a", "a1", 1, 9), *ran("a", "a2", 3, 4)]
    ending = Ending([final(result='"a1"', causes=("stall", "done"))])
    assert problems(events, ending) == ["the result is not that of the last run"]


def test_an_old_run_that_begins_late_is_no_later_run() -> None:
    events = [*accepted(1, "a"), *ran("a", "a2", 1, 2), *ran("a", "a1", 3, 4)]
    assert problems(events, Ending([final(result='"a2"', causes=("stall", "done"))])) == []


def test_a_completion_without_a_run_is_caught() -> None:
    assert problems(accepted(1, "a"), Ending([final()])) == ["completed without a run"]
    unended = [*accepted(1, "a"), *ran("a", "a1", 1, None)]
    assert problems(unended, Ending([final()])) == ["completed by a run that never ended"]


@pytest.mark.parametrize("causes", [(), ("done", "done"), ("failed", "done")])
def test_more_or_less_than_one_end_is_caught(causes: tuple[str, ...]) -> None:
    # A02
    assert problems(GOOD, Ending([final(causes=causes)])) == ["not exactly one end"]


def test_a_failure_that_nobody_asked_for_is_caught() -> None:
    failed = final(state="failed", result=None, reason="boom", causes=("failed",))
    assert problems(GOOD, Ending([failed])) == ["failed"]
    assert problems(GOOD, Ending([failed._replace(kind="broken")])) == []


def test_a_job_that_kills_its_workers_is_condemned_and_not_before() -> None:
    condemned = final(
        state="failed", result=None, reason=TOO_MANY_STALLS, stalls=3, causes=("stall",) * 3 + ("failed",)
    )
    verdict = check(GOOD, Ending([condemned]))
    assert (verdict.problems, verdict.figures.condemned) == ([], 1)
    assert problems(GOOD, Ending([condemned._replace(stalls=1)])) == ["condemned too soon"]


def test_what_a_crash_may_cost_is_counted_and_no_more() -> None:
    # A02: one second, for an append-only file that is written once a second
    crash = [Event(j.DOWN, 10 * S, 1, ("crash",)), Event(j.UP, 11 * S, 1)]
    shortly = [*accepted(1, "a", at=9.5), *crash]
    verdict = check(shortly, Ending([]), Rules(loss_s=1.0))
    assert (verdict.problems, verdict.figures.lost, verdict.figures.lost_in_window) == ([], 0, 1)
    long_before = [*accepted(1, "a", at=8.5), *crash]
    assert problems(long_before, Ending([]), Rules(loss_s=1.0)) == ["lost"]
    assert problems(shortly, Ending([])) == ["lost"]


def test_a_run_that_a_crash_has_undone_may_be_repeated() -> None:
    crash = [Event(j.DOWN, 10 * S, 1, ("crash",)), Event(j.UP, 11 * S, 1)]
    events = [*accepted(1, "a"), *ran("a", "a1", 9.2, 9.8), *crash, *ran("a", "a2", 12, 13)]
    ending = Ending([final(result='"a2"')])
    assert problems(events, ending, Rules(loss_s=1.0)) == []
    assert problems(events, ending) == ["ran again without a reason"]


def test_without_faults_no_job_may_stall() -> None:
    # A03
    twice = [*accepted(1, "a"), *ran("a", "a1", 1, None), *ran("a", "a2", 3, 4)]
    ending = Ending([final(result='"a2"', causes=("stall", "done"))])
    assert problems(twice, ending, Rules(faultless=True)) == ["stalled without a fault"]


def test_take_over_and_recovery_are_measured() -> None:
    events = [
        *accepted(1, "a"),
        *ran("a", "a1", 1, None, pid=7),
        Event(j.KILLED, 2 * S, 1, ("7",)),
        *ran("a", "a2", 6.5, 7, pid=8),
        *accepted(2, "b"),
        *ran("b", "b1", 7, 9, pid=8),
        *ran("b", "b2", 8, 8.5, pid=9),
        Event(j.DOWN, 20 * S, 1, ("frozen",)),
        Event(j.UP, 21 * S, 1),
        *accepted(3, "c"),
        *ran("c", "c1", 22.5, 23),
    ]
    jobs = [
        final(result='"a2"', causes=("stall", "done")),
        final("b", 2, result='"b2"', causes=("stall", "done")),
        final("c", 3),
    ]
    figures = check(events, Ending(jobs)).figures
    assert figures.take_over == [4.5]
    assert figures.recovery == [1.5]
    assert (figures.kills, figures.outages, figures.overlapping, figures.unprovoked) == (1, 1, 1, 1)


def test_a_job_whose_next_worker_died_too_is_counted_apart() -> None:
    events = [
        *accepted(1, "a"),
        *ran("a", "a1", 1, None, pid=7),
        Event(j.KILLED, 2 * S, 1, ("7",)),
        *ran("a", "a3", 30, 31, pid=8),
    ]
    causes = ("stall", "stall", "done")
    figures = check(events, Ending([final(result='"a3"', stalls=2, causes=causes)])).figures
    assert (figures.take_over, figures.twice) == ([], [28.0])


def test_how_long_an_enqueue_took_is_kept() -> None:
    events = [Event(j.OFFERED, 0, 1, ("1",)), Event(j.ACCEPTED, 0, 1, ("1", "a", "1500")), *ran("a", "a1", 1, 2)]
    assert check(events, Ending([final()])).figures.enqueue == [0.0015]


def test_a_run_that_was_frozen_is_taken_over_from_that_moment_on() -> None:
    events = [
        *accepted(1, "a"),
        *ran("a", "a1", 1, 30, pid=7),
        Event(j.FROZEN, 2 * S, 1, ("7",)),
        *ran("a", "a2", 9, 10, pid=8),
        Event(j.THAWED, 20 * S, 1, ("7",)),
    ]
    figures = check(events, Ending([final(result='"a2"', causes=("stall", "done"))])).figures
    assert (figures.take_over, figures.overlapping, figures.unprovoked) == ([7.0], 1, 0)


def test_quantiles() -> None:
    assert Figures.quantile([], 0.5) is None
    assert Figures.quantile([3, 1, 2], 0.5) == 2
    assert Figures.quantile(list(range(100)), 0.99) == 99


def test_a_half_line_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.write(j.OFFERED, 1)
    whole = path.read_bytes()
    with path.open("ab") as torn:
        torn.write(b"\naccepted\t12")
    journal.write_many(j.STARTED, [("a", "r", 1), ("b", "s", 1)])
    journal.close()
    assert whole
    assert [(event.kind, event.words) for event in j.read(path)] == [
        (j.OFFERED, ("1",)),
        (j.STARTED, ("a", "r", "1")),
        (j.STARTED, ("b", "s", "1")),
    ]
