"""What Toril has set itself to reach, checked against the figures of the same run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.summary import Summary


@dataclass(frozen=True, kw_only=True)
class Goal:
    """`reached` reads the value off a summary, None when it was not measured; `at_least` or `at_most` bounds it."""

    text: str
    reached: Callable[[Summary], float | None]
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""

    def holds(self, value: float) -> bool:
        """Whether the value is inside the bound."""
        if self.at_least is not None:
            return value >= self.at_least
        return self.at_most is not None and value <= self.at_most


def _figure(measure: str, contestant: str, figure: str) -> Callable[[Summary], float | None]:
    return lambda summary: summary.median(measure, contestant, figure)


def _times(measure: str, contestant: str, peer: str) -> Callable[[Summary], float | None]:
    return lambda summary: summary.ratio(measure, contestant, peer)


GOALS = (
    Goal(
        text="drain, file, against huey as it comes",
        reached=_times("drain", "toril", "huey"),
        at_least=5,
        unit="x",
    ),
    Goal(
        text="drain, file, against huey in its fastest setting that stores results, which is not safe",
        reached=_times("drain", "toril", "huey-unsafe"),
        at_least=5,
        unit="x",
    ),
    Goal(text="bulk enqueue, file", reached=_figure("enqueue-bulk", "toril", "per_s"), at_least=50_000, unit="jobs/s"),
    Goal(text="drain, memory", reached=_figure("drain", "toril-memory", "per_s"), at_least=20_000, unit="jobs/s"),
    Goal(
        text="idle to start, one process, p50",
        reached=_figure("latency-inside", "toril", "p50_ms"),
        at_most=2,
        unit="ms",
    ),
    Goal(
        text="idle to start, two processes, p50",
        reached=_figure("latency-across", "toril", "p50_ms"),
        at_most=10,
        unit="ms",
    ),
    Goal(
        text="idle to start, two processes, p99",
        reached=_figure("latency-across", "toril", "p99_ms"),
        at_most=10,
        unit="ms",
    ),
    Goal(
        text="enqueue with a long line behind, against an empty queue",
        reached=_figure("scaling", "toril", "enqueue_times"),
        at_most=1.5,
        unit="x the time",
    ),
    Goal(
        text="exchange with a long line behind, against an empty queue",
        reached=_figure("scaling", "toril", "exchange_times"),
        at_most=1.5,
        unit="x the time",
    ),
    Goal(
        text="counts with a long line behind, against an empty queue",
        reached=_figure("scaling", "toril", "counts_times"),
        at_most=1.5,
        unit="x the time",
    ),
)
