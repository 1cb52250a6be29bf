"""The run on Redis: round after round, stage after stage, one peer after the other on one server of its own."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from bench import report
from bench.machine import describe
from bench.redis.environments import ROOT, Environments
from bench.redis.goals import GOALS
from bench.redis.overview import overview
from bench.redis.peers import OURS, PEERS, Peer
from bench.redis.server import running
from bench.redis.stages import STAGES, Arena, Stage
from bench.rounds import Sample
from bench.summary import Summary

_BEHIND, _QUICK_BEHIND = 500_000, 50_000

TITLES = (
    report.Title("enqueue-single", "enqueue, one by one"),
    report.Title("enqueue-bulk", "enqueue in bulk"),
    report.Title("drain", "drain of no-op jobs, one worker"),
    report.Title("drain-nap", "drain of jobs that sleep 10 ms, one worker"),
    report.Title("latency", "enqueue to start, two processes"),
    report.Title("waiting", "waiting jobs"),
    report.Title("waiting-equal", "waiting jobs, equal options, ids of 20 characters"),
    report.Title("drain-alone", "drain of no-op jobs with none behind, in turn with the next"),
    report.Title("drain-behind", f"drain of no-op jobs with {_BEHIND:,} waiting behind"),
)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    names, stages = [one.name for one in PEERS], [one.name for one in STAGES]
    parser = argparse.ArgumentParser(prog="python -m bench redis", description=__doc__)
    parser.add_argument("--only", help=f"peers and stages, with commas: {', '.join([*names, *stages])}")
    parser.add_argument("--quick", action="store_true", help="fewer jobs, one round, results not kept under bench/")
    parser.add_argument("--rounds", type=int, help="rounds to run (3, with --quick 1)")
    parser.add_argument("--minutes", type=float, help="begin no round that would end later than this")
    parser.add_argument("--out", type=Path, help="folder for the results")
    options = parser.parse_args(arguments)
    options.only = set(options.only.split(",")) if options.only else set()
    if unknown := options.only - {*names, *stages}:
        parser.error(f"--only: expected some of {', '.join([*names, *stages])}, found {', '.join(sorted(unknown))}")
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.out = options.out or (ROOT / "build" / "bench" if options.quick else ROOT / "bench" / "results")
    return options


def samples(
    arena: Arena,
    peers: Sequence[Peer],
    stages: Sequence[Stage],
    *,
    rounds: int,
    quick: bool,
    minutes: float | None,
    tell: Callable[[str], None],
) -> Iterator[Sample]:
    """Yield the samples, a stage of a peer often gives several. Each round begins with another peer."""
    begun = time.monotonic()
    for number in range(rounds):
        if number and minutes and (time.monotonic() - begun) * (number + 1) / number > minutes * 60:
            return
        turn = number * 4 % max(1, len(peers))
        order = [*peers[turn:], *peers[:turn]]
        for stage in stages:
            for peer in order:
                rests = stage.once and number > 0 and not peer.is_ours
                if stage.name not in peer.skips and not rests:
                    tell(f"round {number + 1} of {rounds} · {stage.name} · {peer.name}")
                    yield from _measure(arena, peer, stage, number, quick=quick)


def _measure(arena: Arena, peer: Peer, stage: Stage, number: int, *, quick: bool) -> Iterator[Sample]:
    load, jobs = os.getloadavg()[0], stage.jobs(peer, quick=quick)
    arena.server.empty()
    try:
        results = stage.run(arena, peer, jobs)
    except (subprocess.SubprocessError, ValueError, OSError, RuntimeError) as problem:
        yield Sample(
            round=number,
            measure=stage.name,
            contestant=peer.name,
            jobs=jobs,
            figures={},
            error=_reason(problem),
            load=load,
        )
        return
    for measure, figures in results.items():
        yield Sample(round=number, measure=measure, contestant=peer.name, jobs=jobs, figures=figures, load=load)


def _reason(problem: Exception) -> str:
    if isinstance(problem, subprocess.CalledProcessError) and problem.stderr:
        lines = str(problem.stderr).strip().splitlines()
        return next((line for line in reversed(lines) if "Error" in line), lines[-1])
    return f"{type(problem).__name__}: {problem}"


def main(arguments: list[str]) -> int:
    """Run it. The exit code is 1 when a peer ended without figures."""
    options = parse(arguments)
    console, log = Console(width=None if os.isatty(1) else 160), Console(stderr=True)
    folder = ROOT / "build" / "bench"
    environments = Environments(folder / "env")
    chosen = [one for one in PEERS if one.name in options.only] or list(PEERS)
    stages = [one for one in STAGES if one.name in options.only] or list(STAGES)
    peers, absent = [], []
    for peer in chosen:
        problem = environments.missing(peer)
        if problem is None:
            environments.prepare(peer, log.print)
            peers.append(peer)
        else:
            absent.append(f"{peer.name}: {problem}")
    begun, clock = datetime.now(UTC), time.monotonic()
    machine = describe(folder, {OURS})
    for peer in peers:
        machine |= environments.versions(peer)
    taken: list[Sample] = []
    files = Path(tempfile.mkdtemp(prefix="redis-", dir=folder))
    try:
        with running() as server, log.status("starting") as status:
            machine["redis-server"] = f"{server.version()}, no persistence"
            arena = Arena(server, environments, files, _QUICK_BEHIND if options.quick else _BEHIND)
            for sample in samples(
                arena,
                peers,
                stages,
                rounds=options.rounds,
                quick=options.quick,
                minutes=options.minutes,
                tell=status.update,
            ):
                taken.append(sample)
                if not log.is_terminal:
                    log.print(
                        f"{sample.round + 1} {sample.measure} {sample.contestant}", sample.figures or sample.error
                    )
    finally:
        shutil.rmtree(files, ignore_errors=True)
    loads = [sample.load for sample in taken]
    machine["load during"] = f"{min(loads):.1f} … {max(loads):.1f} (the benchmark itself makes 1 to 2)"
    machine["took"] = (
        f"{(time.monotonic() - clock) / 60:.1f} minutes, {max(sample.round for sample in taken) + 1} rounds"
    )
    return _report(console, options, begun, machine, peers, taken, absent)


def _report(
    console: Console,
    options: argparse.Namespace,
    begun: datetime,
    machine: dict[str, str],
    peers: Sequence[Peer],
    taken: Sequence[Sample],
    absent: Sequence[str],
) -> int:
    summary = Summary(taken)
    table, goals = list(report.lines(summary, TITLES, peers)), report.verdicts(summary, GOALS)
    report.show(console, table, goals, summary.errors())
    for sentence in absent:
        console.print(f"not measured: {sentence}", style="red")
    date = begun.strftime("%Y-%m-%d %H:%M UTC")
    page = report.markdown(
        machine, date, table, goals, peers, subject="Redis", extra=overview(summary, peers, [*summary.errors()])
    )
    stem = begun.strftime("%Y-%m-%d-%H%M") + "-redis" + ("-quick" if options.quick else "")
    path = report.write(options.out, stem, page, machine, goals, taken)
    console.print(f"\nwritten: {path} and the raw rounds in {path.with_suffix('.json').name}", soft_wrap=True)
    return 1 if summary.errors() else 0
