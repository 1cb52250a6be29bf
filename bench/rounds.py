"""Runs everything in turn: round after round, measure after measure, one contestant after the other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.contestants.protocol import Contestant
from bench.measures import Figures, Measure

_LONGEST_S = 600


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one process measured. `error` says why there are no figures; `load` is the machine's before it."""

    round: int
    measure: str
    contestant: str
    jobs: int
    figures: Figures
    error: str | None = None
    load: float = 0.0


def run(
    contestants: Sequence[Contestant],
    measures: Sequence[Measure],
    *,
    rounds: int,
    quick: bool,
    disk: Path,
    tell: Callable[[str], None],
) -> Iterator[Sample]:
    """Yield a sample per round, measure and contestant. Each round begins with another contestant."""
    for number in range(rounds):
        turn = number % max(1, len(contestants))
        order = [*contestants[turn:], *contestants[:turn]]
        for measure in measures:
            for contestant in order:
                if measure.name in contestant.skips or (measure.only and contestant.name not in measure.only):
                    continue
                tell(f"round {number + 1} of {rounds} · {measure.title} · {contestant.name}")
                jobs = contestant.jobs(measure.name, measure.quick if quick else measure.jobs)
                yield _sample(number, measure, contestant, jobs, disk)


def _sample(number: int, measure: Measure, contestant: Contestant, jobs: int, disk: Path) -> Sample:
    load = os.getloadavg()[0]
    folder = Path(tempfile.mkdtemp(prefix=f"{contestant.name}-", dir=disk))
    figures: Figures = {}
    error = None
    try:
        figures = _run_child([contestant.name, measure.name, str(folder), str(jobs)])
    except (subprocess.SubprocessError, ValueError) as problem:
        error = _reason(problem)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Sample(
        round=number,
        measure=measure.name,
        contestant=contestant.name,
        jobs=jobs,
        figures=figures,
        error=error,
        load=load,
    )


def _run_child(arguments: list[str]) -> Figures:
    done = subprocess.run(
        [sys.executable, "-m", "bench.child", *arguments],
        capture_output=True,
        text=True,
        timeout=_LONGEST_S,
        check=True,
    )
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def _reason(problem: Exception) -> str:
    if isinstance(problem, subprocess.CalledProcessError) and problem.stderr:
        return str(problem.stderr).strip().splitlines()[-1]
    return f"{type(problem).__name__}: {problem}"
