"""The embedded run: measure the queues that need no server, print the table, write the results."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from bench import report, rounds
from bench.child import contestants
from bench.goals import GOALS
from bench.machine import describe
from bench.measures import MEASURES
from bench.summary import Summary

_ROOT = Path(__file__).resolve().parent.parent


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    names, measures = [one.name for one in contestants()], [one.name for one in MEASURES]
    parser = argparse.ArgumentParser(prog="python -m bench embedded", description=__doc__)
    parser.add_argument("--only", help=f"queues and measures, with commas: {', '.join([*names, *measures])}")
    parser.add_argument("--quick", action="store_true", help="fewer jobs, one round, results not kept under bench/")
    parser.add_argument("--rounds", type=int, help="rounds to run (3, with --quick 1)")
    parser.add_argument("--disk", type=Path, default=_ROOT / "build" / "bench", help="folder on the disk to measure")
    parser.add_argument("--out", type=Path, help="folder for the results")
    options = parser.parse_args(arguments)
    options.only = set(options.only.split(",")) if options.only else set()
    if unknown := options.only - {*names, *measures}:
        parser.error(f"--only: expected some of {', '.join([*names, *measures])}, found {', '.join(sorted(unknown))}")
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.out = options.out or (options.disk if options.quick else _ROOT / "bench" / "results")
    return options


def main(arguments: list[str]) -> int:
    """Run it. The exit code is 1 when a measure ended without figures."""
    options = parse(arguments)
    everyone, everything = contestants(), MEASURES
    queues = [one for one in everyone if one.name in options.only] or list(everyone)
    measures = [one for one in everything if one.name in options.only] or list(everything)
    options.disk.mkdir(parents=True, exist_ok=True)
    machine = describe(options.disk, {one.package for one in queues if one.package})
    begun = datetime.now(UTC)
    console, log = Console(), Console(stderr=True)
    samples = []
    with log.status("starting") as status:
        for sample in rounds.run(
            queues, measures, rounds=options.rounds, quick=options.quick, disk=options.disk, tell=status.update
        ):
            samples.append(sample)
            if not log.is_terminal:
                log.print(f"{sample.round + 1} {sample.measure} {sample.contestant}", sample.figures or sample.error)
    loads = [sample.load for sample in samples]
    machine["load during"] = f"{min(loads):.1f} … {max(loads):.1f} (the benchmark itself makes about 1)"
    summary = Summary(samples)
    table, goals = list(report.lines(summary, measures, queues)), report.verdicts(summary, GOALS)
    report.show(console, table, goals, summary.errors())
    page = report.markdown(machine, begun.strftime("%Y-%m-%d %H:%M UTC"), table, goals, queues)
    stem = begun.strftime("%Y-%m-%d-%H%M") + ("-quick" if options.quick else "")
    path = report.write(options.out, stem, page, machine, goals, samples)
    console.print(f"\nwritten: {path} and the raw rounds in {path.with_suffix('.json').name}", soft_wrap=True)
    return 1 if summary.errors() else 0
