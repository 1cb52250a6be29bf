"""What Toril has set itself to reach on Redis, checked against the figures of the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bench.goals import Goal
from bench.redis.peers import OURS, PEERS, PYTHON_PEERS
from bench.summary import Summary

_COUNTED = tuple(peer.name for peer in PEERS if peer.acknowledges and not peer.is_ours)
_COUNTED_PYTHON = tuple(peer.name for peer in PYTHON_PEERS if peer.acknowledges)

Reached = Callable[[Summary], float | None]


def _best(summary: Summary, measure: str, peers: Iterable[str], figure: str = "per_s") -> float | None:
    """The figure of the best peer: the most jobs a second, the least of anything else."""
    found = [value for name in peers if (value := summary.median(measure, name, figure)) is not None]
    choose = max if figure == "per_s" else min
    return choose(found) if found else None


def _against(measure: str, peers: Iterable[str], figure: str = "per_s") -> Reached:
    """Toril's figure as a multiple of the best peer's."""

    def reached(summary: Summary) -> float | None:
        ours, theirs = summary.median(measure, OURS, figure), _best(summary, measure, peers, figure)
        return None if ours is None or not theirs else ours / theirs

    return reached


def _behind(figure: str) -> Reached:
    """The figure with a long line behind as a multiple of the figure without."""

    def reached(summary: Summary) -> float | None:
        long, short = (summary.median(measure, OURS, figure) for measure in ("drain-behind", "drain-alone"))
        return None if long is None or not short else long / short

    return reached


def _equal(summary: Summary) -> float | None:
    ours, theirs = (summary.median("waiting-equal", name, "bytes") for name in ("toril-equal", "npm-equal"))
    return None if ours is None or not theirs else ours / theirs


_NPM = ("npm-bullmq",)

GOALS = (
    Goal(
        text="drain, against the bare batched script",
        reached=_against("drain", ("toril-script",)),
        at_least=0.75,
        unit="x",
    ),
    Goal(text="drain, against npm bullmq", reached=_against("drain", _NPM), at_least=3, unit="x"),
    Goal(text="drain, against npm bullmq, stretched", reached=_against("drain", _NPM), at_least=4, unit="x"),
    Goal(
        text="drain, against the best Python queue that acknowledges",
        reached=_against("drain", _COUNTED_PYTHON),
        at_least=8,
        unit="x",
    ),
    Goal(text="drain, against PyPI bullmq", reached=_against("drain", ("bullmq",)), at_least=12, unit="x"),
    Goal(
        text="drain of jobs that sleep 10 ms, 200 slots, against npm bullmq",
        reached=_against("drain-nap", _NPM),
        at_least=2,
        unit="x",
    ),
    Goal(text="enqueue in bulk, against npm bullmq", reached=_against("enqueue-bulk", _NPM), at_least=4, unit="x"),
    Goal(
        text="enqueue one by one, against the best that acknowledges",
        reached=_against("enqueue-single", _COUNTED),
        at_least=1.5,
        unit="x",
    ),
    Goal(
        text="latency p50, against the best that acknowledges",
        reached=_against("latency", _COUNTED, "p50_ms"),
        at_most=1,
        unit="x",
    ),
    Goal(
        text="commands per job with a long line behind, against none",
        reached=_behind("commands"),
        at_most=1.02,
        unit="x",
    ),
    Goal(
        text="Redis CPU per job with a long line behind, against none",
        reached=_behind("redis_us"),
        at_most=1.1,
        unit="x",
    ),
    Goal(
        text="bytes per waiting job, options and id length as npm bullmq's",
        reached=_equal,
        at_most=1.05,
        unit="x",
    ),
)
