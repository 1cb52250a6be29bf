"""Cache, limits, sessions, channels beside the libraries for them: each in an environment of its own, by turns."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from bench.machine import describe
from bench.redis.environments import Environments
from bench.redis.peers import OURS, Peer, Progress
from bench.redis.server import running

ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 300


class Measure(NamedTuple):
    """What is measured, of whom, and the goal: Toril so many times quicker than the best of the others, or at most so
    much.
    """

    name: str
    title: str
    peers: tuple[str, ...]
    times: float | None = None
    at_most: float | None = None


MEASURES = (
    Measure("limit-1", "rate-limit check on Redis, one by one, µs", ("limits",), times=2),
    Measure("limit-100", "the same, 100 tasks, µs", ("limits",), times=6),
    Measure("memory-hit", "decorated hit in memory, µs", ("aiocache", "cashews"), times=7, at_most=3),
    Measure("store-1", "decorated hit on Redis, one by one, µs", ("aiocache", "cashews"), times=2.5),
    Measure("store-50", "the same, 50 tasks, µs", ("aiocache", "cashews"), times=6),
    Measure("tagged", "giving up a tag of 5,000 values, ms", ("cashews",), at_most=5),
    Measure("session-1", "request that reads its session on Redis, one by one, µs", ("starsessions",), times=4),
    Measure("session-50", "the same, 50 at once, µs", ("starsessions",), times=4),
    Measure("fan-out", "server-sent event to one of 100 listeners, µs", (), at_most=12.5),
    Measure("breaker-closed", "closed breaker, µs over a bare await", ("purgatory", "aiobreaker"), at_most=1.5),
    Measure("breaker-probes", "half-open, 1 probe: let through of 50", ("purgatory", "aiobreaker"), at_most=1),
)
_REQUIREMENTS = {
    "purgatory": ("purgatory",),
    "aiobreaker": ("aiobreaker",),
    "limits": ("limits", "redis", "hiredis"),
    "aiocache": ("aiocache", "redis", "hiredis"),
    "cashews": ("cashews", "redis", "hiredis"),
    "starsessions": ("starsessions", "redis", "hiredis"),
}


def peer_of(library: str) -> Peer:
    """What the environments know a library by."""
    requirements = _REQUIREMENTS.get(library, ())
    return Peer(name=library, library=library, setting="", progress=Progress(()), slots=1, requirements=requirements)


def figure(environments: Environments, library: str, measure: str, url: str) -> float:
    """One figure. Raises SubprocessError and ValueError."""
    python = sys.executable if library == OURS else str(environments.place(peer_of(library)) / "bin" / "python")
    command = [python, "-m", "bench.blocks.child", library, measure, url]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TORIL_", "REDIS_"))}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True, timeout=_SECONDS
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


def verdict(measure: Measure, figures: dict[str, float]) -> str:
    """Whether the goals of a measure are reached."""
    ours, others = figures[OURS], [figures[name] for name in measure.peers if name in figures]
    said = []
    if measure.at_most is not None:
        said.append(f"{'reached' if ours <= measure.at_most else 'missed'}: {ours:.3g}, goal {measure.at_most:g}")
    if measure.times is not None and others:
        times = min(others) / ours
        said.append(f"{'reached' if times >= measure.times else 'missed'}: {times:.1f}x, goal {measure.times:g}x")
    return "; ".join(said)


def main(arguments: Sequence[str]) -> int:
    """Run it, print a table and write it beside the others. The exit code is 1 when a contestant had no figure."""
    parser = argparse.ArgumentParser(prog="python -m bench blocks")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", default=[], choices=[measure.name for measure in MEASURES])
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results")
    options = parser.parse_args(arguments)
    console, log = Console(width=None if os.isatty(1) else 160), Console(stderr=True)
    folder = ROOT / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    environments = Environments(folder / "env")
    chosen = [measure for measure in MEASURES if not options.only or measure.name in options.only]
    machine = describe(folder, {OURS})
    for library in sorted({name for measure in chosen for name in measure.peers}):
        environments.prepare(peer_of(library), log.print)
        machine |= environments.versions(peer_of(library))
    begun, taken, problems = datetime.now(UTC), list[dict[str, object]](), list[str]()
    with running() as server:
        machine["redis-server"] = f"{server.version()}, no persistence"
        for number in range(options.rounds):
            for measure in chosen:
                for library in (OURS, *measure.peers):
                    server.empty()
                    try:
                        value = figure(environments, library, measure.name, server.url.removesuffix("/0"))
                    except (subprocess.SubprocessError, ValueError, IndexError) as problem:
                        reason = str(getattr(problem, "stderr", "") or problem).strip().splitlines()[-1]
                        problems.append(f"{measure.name} {library}: {reason}")
                        continue
                    log.print(f"{number + 1} {measure.name} {library} {value:.3g}")
                    taken.append({"round": number, "measure": measure.name, "contestant": library, "value": value})
    machine["load after"] = f"{os.getloadavg()[0]:.2f}"
    rows = [_row(measure, taken) for measure in chosen]
    table = Table(*_HEAD, box=None)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for sentence in problems:
        console.print(f"no figure: {sentence}", style="red")
    _write(options.out, begun, machine, rows, taken)
    return 1 if problems else 0


_HEAD = ("measure", "toril", "others", "goals")


def _row(measure: Measure, taken: Sequence[dict[str, object]]) -> tuple[str, str, str, str]:
    figures: dict[str, float] = {}
    for library in (OURS, *measure.peers):
        values = [
            float(str(one["value"])) for one in taken if (one["measure"], one["contestant"]) == (measure.name, library)
        ]
        if values:
            figures[library] = median(values)
    others = ", ".join(f"{name} {figures[name]:.3g}" for name in measure.peers if name in figures)
    if OURS not in figures:
        return measure.title, "-", others, "-"
    return measure.title, f"{figures[OURS]:.3g}", others, verdict(measure, figures)


def _write(
    out: Path,
    begun: datetime,
    machine: dict[str, str],
    rows: Sequence[Sequence[str]],
    taken: Sequence[dict[str, object]],
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    stem = out / (begun.strftime("%Y-%m-%d-%H%M") + "-blocks")
    lines = ["# Blocks beside jobs, " + begun.strftime("%Y-%m-%d %H:%M UTC"), "", *_table(_HEAD, rows), ""]
    lines += [f"- {name}: {value}" for name, value in machine.items()]
    stem.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    stem.with_suffix(".json").write_text(json.dumps({"machine": machine, "figures": taken}, indent=1), encoding="utf-8")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
