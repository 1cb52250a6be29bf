"""What the benchmark says follows from its samples: medians, ratios, and goals that can be missed."""

from bench.goals import GOALS, Goal
from bench.measures import quantiles
from bench.report import verdicts
from bench.rounds import Sample
from bench.summary import Spread, Summary


def sample(measure: str, contestant: str, error: str | None = None, **figures: float) -> Sample:
    return Sample(round=0, measure=measure, contestant=contestant, jobs=10, figures=figures, error=error)


def test_a_figure_is_the_median_of_its_rounds() -> None:
    summary = Summary([sample("drain", "toril", per_s=value) for value in (30.0, 10.0, 20.0)])
    assert summary.spread("drain", "toril", "per_s") == Spread(20.0, 10.0, 30.0)
    assert summary.spread("drain", "huey", "per_s") is None
    assert summary.jobs("drain", "toril") == 10


def test_a_ratio_needs_both_sides() -> None:
    summary = Summary([sample("drain", "toril", per_s=30.0), sample("drain", "huey", per_s=10.0)])
    assert summary.ratio("drain", "toril", "huey") == 3.0
    assert summary.ratio("drain", "toril", "litequeue") is None


def test_a_sample_without_figures_is_an_error_and_no_zero() -> None:
    summary = Summary([sample("drain", "toril", error="it broke")])
    assert [one.error for one in summary.errors()] == ["it broke"]
    assert summary.median("drain", "toril", "per_s") is None


def test_a_goal_is_reached_missed_or_not_measured() -> None:
    assert {one.reached for one in verdicts(Summary([]), GOALS)} == {None}
    slow = [sample("drain", "toril", per_s=30.0), sample("drain", "huey", per_s=10.0)]
    fast = [sample("drain", "toril", per_s=60.0), sample("drain", "huey", per_s=10.0)]
    [asked] = [goal.text for goal in GOALS if "huey as it comes" in goal.text]
    assert [one.reached for one in verdicts(Summary(slow), GOALS) if one.text == asked] == [False]
    assert [one.reached for one in verdicts(Summary(fast), GOALS) if one.text == asked] == [True]


def test_every_goal_is_bounded_on_one_side() -> None:
    def bounds(goal: Goal) -> int:
        return (goal.at_least is not None) + (goal.at_most is not None)

    assert [goal.text for goal in GOALS if bounds(goal) != 1] == []


def test_quantiles_are_of_the_sorted_waits() -> None:
    assert quantiles([float(wait) for wait in range(100, -1, -1)]) == {"p50_ms": 50.0, "p99_ms": 99.0}
