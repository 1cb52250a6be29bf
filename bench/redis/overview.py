"""One wide table: a line per peer, a column per figure."""

from __future__ import annotations

from collections.abc import Sequence

from bench.redis.peers import Peer
from bench.report import number
from bench.rounds import Sample
from bench.summary import Summary

_COLUMNS = (
    ("enqueue, one by one /s", "enqueue-single", "per_s"),
    ("enqueue in bulk /s", "enqueue-bulk", "per_s"),
    ("drain no-op /s", "drain", "per_s"),
    ("drain 10 ms, 200 slots /s", "drain-nap", "per_s"),
    ("latency p50 ms", "latency", "p50_ms"),
    ("latency p99 ms", "latency", "p99_ms"),
    ("Redis commands per job", "drain", "commands"),
    ("Redis CPU µs per job", "drain", "redis_us"),
    ("worker CPU µs per job", "drain", "worker_us"),
    ("worker MB", "drain", "worker_mb"),
    ("bytes per waiting job", "waiting", "bytes"),
)


def overview(summary: Summary, peers: Sequence[Peer], errors: Sequence[Sample]) -> list[str]:
    """The table as lines of Markdown, and what could not be measured."""
    lines = [
        "## Overview",
        "",
        f"| | {' | '.join(title for title, _, _ in _COLUMNS)} |",
        f"|---|{'---:|' * len(_COLUMNS)}",
    ]
    for peer in peers:
        values = [summary.median(measure, peer.name, figure) for _, measure, figure in _COLUMNS]
        if any(value is not None for value in values):
            name = peer.name if peer.acknowledges else f"{peer.name} (at most once, not counted)"
            lines.append(f"| {name} | {' | '.join('' if one is None else number(one) for one in values)} |")
    lines += ["", *(f"- no figures: {one.measure} of {one.contestant}: {one.error}" for one in errors)]
    return lines
