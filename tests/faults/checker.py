"""What a trial must have led to, proven from its journal and from what the store holds at the end.

Every accepted job is in exactly one final state; nobody ran a job a second time unless the store has recorded why the
run before did not count; what is stored as a result is that of the last run; nothing is left active or locked.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from tests.faults import journal as j
from tests.faults.journal import Event

TERMINAL = frozenset({"completed", "failed"})
AGAIN = frozenset({"stall", "released", "retry", "snooze", "limited"})
"""Causes in a job's history after which it is run once more."""
ENDS = frozenset({"done", "failed", "cancelled"})
TOO_MANY_STALLS = "job stalled more than allowable limit"
_SHOWN = 5


class Final(NamedTuple):
    """A job as the store has it at the end. `number` is what its producer called it, `causes` how its runs ended."""

    id: str
    number: int
    kind: str
    state: str
    result: str | None
    reason: str | None
    stalls: int
    causes: tuple[str, ...]


class Ending(NamedTuple):
    """How a trial came to its end: the jobs, whether all was done in time, what was left locked, exit codes of workers
    that were asked to stop, and lines of their logs that must not be there.
    """

    jobs: Sequence[Final]
    drained: bool = True
    locks: int = 0
    exits: Sequence[int] = ()
    outcries: Sequence[str] = ()


class Rules(NamedTuple):
    """`loss_s`: how many seconds of accepted work a crash of the server may cost · `max_stalls`: of the workers ·
    `faultless`: nothing was broken, so no job may have stalled.
    """

    loss_s: float = 0.0
    max_stalls: int = 2
    faultless: bool = False


@dataclass
class Figures:
    """What is printed. Times in seconds. `take_over` is how long it took from the death of a worker until its jobs
    began anew; `twice` the same for jobs whose next worker died before it could begin them.
    """

    jobs: int = 0
    runs: int = 0
    kills: int = 0
    freezes: int = 0
    outages: int = 0
    crashes: int = 0
    lost: int = 0
    lost_in_window: int = 0
    stuck: int = 0
    duplicates: int = 0
    again: Counter[str] = field(default_factory=Counter)
    overlapping: int = 0
    condemned: int = 0
    unprovoked: int = 0
    take_over: list[float] = field(default_factory=list)
    twice: list[float] = field(default_factory=list)
    enqueue: list[float] = field(default_factory=list)
    recovery: list[float] = field(default_factory=list)

    @staticmethod
    def quantile(values: Sequence[float], part: float) -> float | None:
        """The value below which `part` of the values lie, or None without values."""
        if not values:
            return None
        ordered = sorted(values)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


@dataclass
class Verdict:
    """`problems` is empty when everything is as it must be."""

    problems: list[str]
    figures: Figures


class _Run(NamedTuple):
    id: str
    run: str
    start: int
    pid: int
    began: int
    ended: int | None
    how: str


def check(events: Iterable[Event], ending: Ending, rules: Rules = Rules()) -> Verdict:  # noqa: B008 - immutable
    """Judge a trial."""
    return _Checker(list(events), ending, rules).verdict()


class _Checker:
    def __init__(self, events: list[Event], ending: Ending, rules: Rules) -> None:
        self._rules = rules
        self._ending = ending
        self._jobs = {job.id: job for job in ending.jobs}
        self._problems: dict[str, list[str]] = defaultdict(list)
        self._figures = Figures(jobs=len(ending.jobs))
        self._said: dict[str, dict[int, Event]] = {
            kind: {int(event.words[0]): event for event in events if event.kind == kind}
            for kind in (j.OFFERED, j.ACCEPTED, j.REFUSED)
        }
        self._runs = _runs(events)
        self._faults = [event for event in events if event.kind in {j.KILLED, j.FROZEN, j.THAWED}]
        self._crashes = [event.at for event in events if event.kind == j.DOWN and event.words == ("crash",)]
        self._troubles = _troubles(events)
        self._outages = [event.at for event in events if event.kind == j.UP]
        self._touched = {id_: [run.began for run in runs] for id_, runs in self._runs.items()}

    def verdict(self) -> Verdict:
        self._end_of_the_trial()
        self._accepted()
        self._strangers()
        for job in self._ending.jobs:
            self._one(job)
        for id_ in self._runs.keys() - self._jobs.keys():
            if not self._in_window(run.began for run in self._runs[id_]):
                self._problems["ran and is not stored"].append(id_)
        self._count()
        problems = [
            f"{what}: {len(who)} ({', '.join(who[:_SHOWN])}{', …' if len(who) > _SHOWN else ''})"
            for what, who in sorted(self._problems.items())
        ]
        return Verdict(problems, self._figures)

    # the whole

    def _end_of_the_trial(self) -> None:
        ending = self._ending
        if not ending.drained:
            self._problems["hangs: jobs are left when the time is over"].append("the store")
        if ending.locks:
            self._problems["locks that outlive their workers"].append(str(ending.locks))
        self._problems_of("a worker that was told to stop did not end with 0", map(str, filter(None, ending.exits)))
        self._problems_of("in the log", ending.outcries)

    def _problems_of(self, what: str, who: Iterable[str]) -> None:
        for each in who:
            self._problems[what].append(each)

    def _accepted(self) -> None:
        for number, event in self._said[j.ACCEPTED].items():
            self._figures.enqueue += (int(word) / 1e6 for word in event.words[2:])
            job = self._jobs.get(event.words[1])
            if job is None:
                if self._in_window([event.at]):
                    self._figures.lost_in_window += 1
                else:
                    self._figures.lost += 1
                    self._problems["lost"].append(event.words[1])
            elif job.number != number:
                self._problems["another job has the id"].append(job.id)

    def _strangers(self) -> None:
        times = Counter(job.number for job in self._ending.jobs)
        for job in self._ending.jobs:
            if times[job.number] > 1:
                self._problems["one call made two jobs"].append(f"{job.number} {job.id}")
            if job.number not in self._said[j.OFFERED]:
                self._problems["nobody offered it"].append(job.id)
            if job.number in self._said[j.REFUSED]:
                self._problems["it was refused, and is stored"].append(job.id)

    def _in_window(self, moments: Iterable[int]) -> bool:
        """Whether what happened then may have been lost in a crash of the server."""
        window = self._rules.loss_s * 1e9
        return any(0 <= crash - at <= window for crash in self._crashes for at in moments)

    # one job

    def _one(self, job: Final) -> None:
        runs = self._runs.get(job.id, [])
        if job.state not in TERMINAL:
            self._figures.stuck += 1
            self._problems[f"not finished ({job.state})"].append(job.id)
            return
        rolled_back = self._in_window(moment for run in runs for moment in (run.began, run.ended or run.began))
        ends = [cause for cause in job.causes if cause in ENDS]
        if len(ends) != 1 and not rolled_back:
            self._problems["not exactly one end"].append(f"{job.id} {'+'.join(job.causes)}")
        self._again(job, runs, rolled_back)
        if job.state == "completed":
            self._completed(job, runs)
        elif job.reason == TOO_MANY_STALLS:
            self._figures.condemned += 1
            if job.stalls <= self._rules.max_stalls:
                self._problems["condemned too soon"].append(job.id)
        elif job.kind != "broken":
            self._problems["failed"].append(f"{job.id} {job.reason}")

    def _again(self, job: Final, runs: Sequence[_Run], rolled_back: bool) -> None:
        reasons = [cause for cause in job.causes if cause in AGAIN]
        self._figures.again.update(reasons)
        extra = len(runs) - 1 - len(reasons)
        if extra > 0:
            if rolled_back:
                self._figures.again["rolled back"] += extra
            else:
                self._figures.duplicates += extra
                self._problems["ran again without a reason"].append(job.id)
        elif self._rules.faultless and "stall" in reasons:
            self._problems["stalled without a fault"].append(job.id)
        cut = [pair for pair in pairwise(runs) if pair[0].ended is None or pair[0].ended > pair[1].began]
        unbegun = reasons.count("stall") > len(cut)
        for first, second in cut:
            self._interrupted(first, second, self._figures.twice if unbegun else self._figures.take_over)

    def _interrupted(self, first: _Run, second: _Run, times: list[float]) -> None:
        """The second run began before the first had ended, or the first never ended."""
        if first.ended is not None:
            self._figures.overlapping += 1
        hit = [
            fault.at
            for fault in self._faults
            if fault.kind in {j.KILLED, j.FROZEN}
            and fault.words[0] == str(first.pid)
            # A process lives on for an instant after it was written down as killed.
            and (fault.kind == j.KILLED or first.began <= fault.at)
            and fault.at <= second.began
        ]
        if hit:
            times.append((second.began - hit[0]) / 1e9)
        elif not any(begin <= second.began and end >= first.began for begin, end in self._troubles):
            self._figures.unprovoked += 1

    def _completed(self, job: Final, runs: Sequence[_Run]) -> None:
        if not runs:
            self._problems["completed without a run"].append(job.id)
            return
        # By the number that the store gave it: a worker that was late may have begun an older one after that.
        last = max(runs, key=lambda run: (run.start, run.began))
        if job.result != f'"{last.run}"':
            self._problems["the result is not that of the last run"].append(job.id)
        elif last.how not in {j.FINISHED, j.STOPPED}:
            self._problems["completed by a run that never ended"].append(job.id)

    # figures

    def _count(self) -> None:
        figures = self._figures
        figures.runs = sum(len(runs) for runs in self._runs.values())
        figures.kills = sum(event.kind == j.KILLED for event in self._faults)
        figures.freezes = sum(event.kind == j.FROZEN for event in self._faults)
        figures.outages, figures.crashes = len(self._outages), len(self._crashes)
        starts = sorted(run.began for runs in self._runs.values() for run in runs)
        position = 0
        for at in sorted(outage for outage in self._outages if starts and outage > starts[0]):
            while position < len(starts) and starts[position] < at:
                position += 1
            if position < len(starts):
                figures.recovery.append((starts[position] - at) / 1e9)


def _runs(events: Iterable[Event]) -> dict[str, list[_Run]]:
    """The runs of every job, in the order in which they began."""
    begun: dict[str, Event] = {}
    ended: dict[str, Event] = {}
    for event in events:
        if event.kind == j.STARTED:
            begun[event.words[1]] = event
        elif event.kind in {j.FINISHED, j.RAISED, j.STOPPED}:
            ended[event.words[1]] = event
    runs: dict[str, list[_Run]] = defaultdict(list)
    for run, event in begun.items():
        end = ended.get(run)
        how = "" if end is None else end.kind
        runs[event.words[0]].append(
            _Run(event.words[0], run, int(event.words[2]), event.pid, event.at, None if end is None else end.at, how)
        )
    for group in runs.values():
        group.sort(key=lambda run: run.began)
    return runs


def _troubles(events: Iterable[Event]) -> list[tuple[int, int]]:
    """When the whole line was in trouble: the store was away, somebody held it up, or wall time was set."""
    spans: list[tuple[int, int]] = []
    down: int | None = None
    frozen: Mapping[str, int] = {}
    last = 0
    for event in events:
        last = event.at
        if event.kind == j.DOWN:
            down = event.at if down is None else down
        elif event.kind == j.UP and down is not None:
            spans.append((down, event.at))
            down = None
        elif event.kind == j.PAUSED:
            spans.append((event.at, event.at + int(event.words[1]) * 1_000_000))
        elif event.kind == j.JUMPED:
            spans.append((event.at, event.at))
        elif event.kind == j.FROZEN:
            frozen = {**frozen, event.words[0]: event.at}
        elif event.kind == j.THAWED and event.words[0] in frozen:
            # One that is stopped while it writes holds up all others.
            spans.append((frozen[event.words[0]], event.at))
    if down is not None:
        spans.append((down, last))
    return spans
