"""What the benchmark on Redis says follows from what it saw: progress, job counts, goals, and a table without gaps."""

from pathlib import Path
from typing import Any

import pytest

from bench.goals import Goal
from bench.redis.goals import GOALS
from bench.redis.overview import overview
from bench.redis.peers import PEERS, Peer, Progress
from bench.redis.stages import STAGES, Meter, Stage
from bench.rounds import Sample
from bench.summary import Summary

ADAPTERS = Path(__file__).parents[2] / "bench" / "redis" / "adapters"


def sample(measure: str, contestant: str, **figures: float) -> Sample:
    return Sample(round=0, measure=measure, contestant=contestant, jobs=10, figures=figures)


def reached(text: str, *samples: Sample) -> float | None:
    [goal] = [goal for goal in GOALS if goal.text == text]
    return goal.reached(Summary(samples))


def peer(**changes: Any) -> Peer:
    values = {"name": "one", "library": "one", "setting": "", "progress": Progress((("DBSIZE",),)), "slots": 1}
    return Peer(**{**values, **changes})


class CountingServer:
    """Answers the numbers it was given, one per pipeline."""

    def __init__(self, *answers: list[int]) -> None:
        self.client = self
        self._answers = list(answers)

    def pipeline(self, *, transaction: bool) -> "CountingServer":
        assert not transaction
        return self

    def __enter__(self) -> "CountingServer":
        return self

    def __exit__(self, *error: object) -> None: ...

    def execute_command(self, *command: str) -> None: ...

    def execute(self) -> list[int]:
        return self._answers.pop(0)


@pytest.mark.parametrize(("falls", "answers"), [(False, ([3, 4], [5, 7])), (True, ([5, 7], [3, 4]))])
def test_progress_is_what_came_since_the_start_in_either_direction(falls: bool, answers: tuple[list[int], ...]) -> None:
    server: Any = CountingServer(*answers)
    meter = Meter(server, peer(progress=Progress((("LLEN", "a"), ("HLEN", "b")), falls=falls)))
    assert meter.finished() == 5
    assert meter.commands == 4


def test_a_stage_takes_as_many_jobs_as_the_peers_pace_allows() -> None:
    def never(*given: object) -> dict[str, dict[str, float]]:
        raise AssertionError(given)

    stage = Stage(name="drain", run=never, pace=1, seconds=2.0, least=100, most=5_000)
    assert stage.jobs(peer(paces=(1, 700, 1)), quick=False) == 1_400
    assert stage.jobs(peer(paces=(1, 700, 1)), quick=True) == 420
    assert stage.jobs(peer(paces=(1, 7, 1)), quick=False) == 100
    assert stage.jobs(peer(paces=(1, 7_000, 1)), quick=False) == 5_000


def test_a_queue_that_never_acknowledges_does_not_count() -> None:
    ours, arq, huey = (sample("latency", name, p50_ms=value) for name, value in (("toril", 2), ("arq", 4), ("huey", 1)))
    assert reached("latency p50, against the best that acknowledges", ours, arq, huey) == 0.5
    assert reached("latency p50, against the best that acknowledges", ours, huey) is None


def test_the_best_peer_is_the_fastest_one() -> None:
    samples = [sample("drain", name, per_s=value) for name, value in (("toril", 80), ("arq", 5), ("dramatiq", 10))]
    assert reached("drain, against the best Python queue that acknowledges", *samples) == 8
    assert reached("drain, against npm bullmq", *samples) is None


def test_a_long_line_behind_is_compared_with_none() -> None:
    samples = [sample("drain-alone", "toril", redis_us=50), sample("drain-behind", "toril", redis_us=60)]
    assert reached("Redis CPU per job with a long line behind, against none", *samples) == 1.2


def test_every_goal_is_bounded_on_one_side() -> None:
    def bounds(goal: Goal) -> int:
        return (goal.at_least is not None) + (goal.at_most is not None)

    assert [goal.text for goal in GOALS if bounds(goal) != 1] == []


def test_peers_have_adapters_and_skip_only_stages_that_exist() -> None:
    stages = {stage.name for stage in STAGES}
    for one in PEERS:
        assert one.skips <= stages, one.name
        assert one.library == "node" or (ADAPTERS / f"{one.library}_adapter.py").exists(), one.name
    assert len({one.name for one in PEERS}) == len(PEERS)


def test_the_overview_marks_who_does_not_count() -> None:
    peers = [one for one in PEERS if one.name in {"huey", "toril", "rq"}]
    lines = overview(Summary([sample("drain", "huey", per_s=3_000), sample("drain", "toril", per_s=20_000)]), peers, [])
    rows = [line for line in lines if line.startswith("| ") and "|---" not in line][1:]
    assert [row.split(" | ")[0] for row in rows] == ["| toril", "| huey (at most once, not counted)"]
    assert "20,000" in rows[0]
    assert all(row.count("|") == lines[2].count("|") for row in rows)
