"""The figures for people: one list of lines, shown as a rich table and written as Markdown, and everything as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.goals import Goal
from bench.rounds import Sample
from bench.summary import Spread, Summary

OURS = "toril"
_UNITS = {
    "per_s": "jobs/s",
    "p50_ms": "ms, p50",
    "p99_ms": "ms, p99",
    "bytes": "bytes of Redis per job",
    "commands": "Redis commands per job",
    "redis_us": "µs of Redis CPU per job",
    "worker_us": "µs of worker CPU per job",
    "worker_mb": "MB of the worker",
}
_ENDINGS = (
    ("_empty_us", ", µs, empty queue"),
    ("_full_us", ", µs, line behind it"),
    ("_times", ", times as long with the line"),
)


class Title(NamedTuple):
    """A measure and its name for people."""

    name: str
    title: str


class Titled(Protocol):
    """What a measure must have to be reported."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...


class Named(Protocol):
    """What a contestant must have to be reported."""

    @property
    def name(self) -> str: ...

    @property
    def setting(self) -> str: ...


@dataclass(frozen=True)
class Line:
    """One contestant in one measure."""

    title: str
    contestant: str
    jobs: str
    value: str
    spread: str
    ours: str


@dataclass(frozen=True)
class Verdict:
    """One goal, and whether it was reached; `reached` is None when it was not measured."""

    text: str
    goal: str
    value: str
    reached: bool | None


def lines(summary: Summary, measures: Sequence[Titled], contestants: Sequence[Named]) -> Iterator[Line]:
    """The table, line by line: measures in their order, figures of a measure one below the other."""
    for measure in measures:
        for figure in summary.figures(measure.name):
            title = f"{measure.title}, {_unit(figure)}"
            for contestant in contestants:
                spread = summary.spread(measure.name, contestant.name, figure)
                if spread is not None:
                    yield Line(
                        title=title,
                        contestant=contestant.name,
                        jobs=f"{summary.jobs(measure.name, contestant.name):,}",
                        value=number(spread.median),
                        spread=f"{number(spread.low)} … {number(spread.high)}",
                        ours=_ours(summary, measure.name, contestant.name, figure, spread),
                    )


def verdicts(summary: Summary, goals: Sequence[Goal]) -> list[Verdict]:
    """Every goal against the figures."""
    found = []
    for goal in goals:
        value = goal.reached(summary)
        bound = f"≥ {goal.at_least:,g}" if goal.at_least is not None else f"≤ {goal.at_most:,g}"
        found.append(
            Verdict(
                text=goal.text,
                goal=f"{bound} {goal.unit}",
                value="not measured" if value is None else f"{number(value)} {goal.unit}",
                reached=None if value is None else goal.holds(value),
            )
        )
    return found


def show(console: Console, table: Sequence[Line], goals: Sequence[Verdict], failed: Sequence[Sample]) -> None:
    """Print tables to the terminal."""
    console.print(
        "[bold]Medians[/bold], with the smallest and largest round; the last column compares toril with that queue"
    )
    for title, group in groupby(table, key=lambda line: line.title):
        console.print()
        shown = Table(
            title=Text(title, style="bold"), title_justify="left", box=None, padding=(0, 1), header_style="dim"
        )
        for name, width in (("", 17), ("jobs", 9), ("median", 9), ("min … max", 20), ("toril does", 15)):
            shown.add_column(name, width=width, justify="right" if name else "left", no_wrap=True)
        for line in group:
            style = "green" if line.contestant.startswith(OURS) else ""
            shown.add_row(line.contestant, line.jobs, line.value, line.spread, line.ours, style=style)
        console.print(shown)
    console.print()
    checks = Table(title="Goals", title_justify="left", box=None, padding=(0, 1))
    for name in ("", "goal", "asked", "measured"):
        checks.add_column(name, justify="right" if name in {"asked", "measured"} else "left", no_wrap=name != "goal")
    for verdict in goals:
        checks.add_row(Text(*_mark(verdict)), verdict.text, verdict.goal, verdict.value)
    console.print(checks)
    for sample in failed:
        console.print(f"no figures: {sample.measure} of {sample.contestant}: {sample.error}", style="red", markup=False)


def markdown(
    machine: dict[str, str],
    date: str,
    table: Sequence[Line],
    goals: Sequence[Verdict],
    contestants: Sequence[Named],
    *,
    subject: str = "",
    extra: Sequence[str] = (),
) -> str:
    """The same as a page. `subject` is part of its title, `extra` are lines behind the goals."""
    page = [
        f"# Benchmark {f'on {subject} ' if subject else ''}of {date}",
        "",
        "Written by `make bench`. Every figure is from one run; the queues took turns.",
        "",
    ]
    page += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in machine.items()), ""]
    page += ["## Goals", "", "| goal | asked | measured | |", "|---|---:|---:|---|"]
    page += [f"| {one.text} | {one.goal} | {one.value} | {_mark(one)[0]} |" for one in goals]
    page += [
        "",
        *extra,
        *([""] if extra else []),
        "## Figures",
        "",
        "Medians over all rounds. *Toril does* compares `toril` with the queue of that line.",
    ]
    for title, group in groupby(table, key=lambda line: line.title):
        page += [
            "",
            f"### {title}",
            "",
            "| queue | jobs | median | min … max | Toril does |",
            "|---|---:|---:|---:|---:|",
        ]
        page += [f"| {one.contestant} | {one.jobs} | {one.value} | {one.spread} | {one.ours} |" for one in group]
    page += ["", "## Settings", "", *(f"- **{one.name}**: {one.setting}" for one in contestants), ""]
    return "\n".join(page)


def write(
    folder: Path, stem: str, page: str, machine: dict[str, str], goals: Sequence[Verdict], samples: Sequence[Sample]
) -> Path:
    """Write the page and, beside it, the raw samples. Returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = {"machine": machine, "goals": [asdict(one) for one in goals], "samples": [asdict(one) for one in samples]}
    (folder / f"{stem}.json").write_text(json.dumps(raw, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path = folder / f"{stem}.md"
    path.write_text(page, encoding="utf-8")
    return path


def _unit(figure: str) -> str:
    for ending, words in _ENDINGS:
        if figure.endswith(ending):
            return figure.removesuffix(ending) + words
    return _UNITS[figure]


def _mark(verdict: Verdict) -> tuple[str, str]:
    if verdict.reached is None:
        return ("-", "dim")
    return ("reached", "green") if verdict.reached else ("missed", "red")


def _ours(summary: Summary, measure: str, contestant: str, figure: str, spread: Spread) -> str:
    """Toril against this line: times as many jobs, or the share of the wait."""
    ours = summary.median(measure, OURS, figure)
    if ours is None or contestant == OURS or figure not in _UNITS or not spread.median or not ours:
        return ""
    wait = " the wait" if figure.endswith("_ms") else ""
    return f"{number(ours / spread.median)}x{wait}"


def number(value: float) -> str:
    """A figure with about three digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
