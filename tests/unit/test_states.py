"""The one table of transitions."""

import itertools
import typing

from toril.jobs import outcome
from toril.jobs.model import CancelRequest, Counts, Job
from toril.jobs.states import TRANSITIONS, Cause, State, allowed, render

OUTCOMES: list[outcome.Outcome] = [
    outcome.Done("1"),
    outcome.Retry("r", "", 5),
    outcome.Failed("r", ""),
    outcome.Snooze(5),
    outcome.Cancelled("", ""),
    outcome.Released(),
    outcome.Parked(),
    outcome.Limited(5),
]


def test_every_outcome_leads_from_active_and_from_nowhere_else() -> None:
    assert {type(one) for one in OUTCOMES} == set(typing.get_args(outcome.Outcome))
    for one in OUTCOMES:
        for state in State:
            assert bool(allowed(state, one.cause)) == (state is State.ACTIVE)


def test_a_finished_job_can_only_be_replayed() -> None:
    for state, cause in itertools.product((State.COMPLETED, State.FAILED), Cause):
        assert bool(allowed(state, cause)) == (cause is Cause.REPLAY)
        assert state.finished


def test_every_state_can_be_reached_and_left() -> None:
    reached = set().union(*TRANSITIONS.values())
    left = {state for state, _ in TRANSITIONS}
    assert reached == set(State)
    assert left == set(State)


def test_every_cause_leads_somewhere() -> None:
    assert {cause for _, cause in TRANSITIONS} == set(Cause)
    assert all(TRANSITIONS.values())


def test_every_unfinished_job_can_be_cancelled() -> None:
    assert {state for state in State if allowed(state, Cause.CANCEL)} == {s for s in State if not s.finished}


def test_the_drawn_table_has_one_row_per_rule() -> None:
    lines = render().splitlines()
    assert len(lines) == 2 + len(TRANSITIONS)
    assert "| `active` | done | `completed` |" in lines


def test_the_reason_of_a_cancelled_job() -> None:
    assert outcome.failed_reason("") == "cancelled"
    assert outcome.failed_reason("too late") == "cancelled: too late"


def test_counts_by_state_and_in_total() -> None:
    # S0-15
    counts = Counts(waiting=3, active=5, completed=42, failed=2, waiting_children=1)
    assert counts.total == 53
    assert {state: counts.of(state) for state in State} == {
        State.WAITING: 3,
        State.PRIORITIZED: 0,
        State.DELAYED: 0,
        State.WAITING_CHILDREN: 1,
        State.ACTIVE: 5,
        State.COMPLETED: 42,
        State.FAILED: 2,
    }


def job(**fields: typing.Any) -> Job:
    return Job(**{"id": "a", "queue": "q", "name": "n", "data": "{}", "opts": "{}", "state": State.WAITING,
                  "timestamp": 5, **fields})  # fmt: skip


def test_a_job_says_what_became_of_it() -> None:
    asked = CancelRequest("me", "", 1)
    assert not job(cancel=asked, state=State.ACTIVE).cancelled
    assert job(cancel=asked, state=State.FAILED).cancelled
    assert job(cancel=asked, deferred_failure="cancelled").cancelled
    assert not job(state=State.FAILED).cancelled
    assert [job().updated, job(processed=6).updated, job(processed=6, finished=7).updated] == [5, 6, 7]


def test_progress_of_any_producer_becomes_a_number_and_a_message() -> None:
    shown = [(job(progress=p).progress_number, job(progress=p).progress_message) for p in (
        45, 0.5, True, "half", None, [1], {"progress": 45, "message": "x"}, {"progress": "45"}, {"message": None},
    )]  # fmt: skip
    assert shown == [(45, ""), (0.5, ""), (0, ""), (0, ""), (0, ""), (0, ""), (45, "x"), (0, ""), (0, "")]
