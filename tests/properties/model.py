"""What an engine should do with one queue, in plain Python: a line, two orders, and the table of transitions."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.properties.model_children import Family
from tests.properties.model_gate import ModelGate
from tests.properties.model_job import ModelJob
from tests.properties.model_keys import ModelKeys
from toril.engine.ports.inspect import Changed
from toril.engine.ports.jobs import CancelAnswer, Code
from toril.jobs.flow import JobRef
from toril.jobs.model import NewJob
from toril.jobs.options import Keep
from toril.jobs.outcome import Cancelled, Done, Failed, Limited, Outcome, Parked, Released, Retry, Snooze, failed_reason
from toril.jobs.states import Cause, State, allowed

MAX_STALLS = 2
QUEUE = "line"
COUNTED = {Cause.DONE, Cause.RETRY, Cause.FAILED}
AGAIN = (Retry, Snooze, Released, Parked, Limited)
IN_LINE = (State.WAITING, State.PRIORITIZED)


class End(NamedTuple):
    """A run that is handed in, and when it ended."""

    id: str
    token: str
    outcome: Outcome
    ended: int
    keep: Keep | None = None


@dataclass
class Model:
    """One queue. `immediate` says whether a waiting job that is cancelled fails at once."""

    now: int
    immediate: bool = True
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    events: list[tuple[str, str, str | None]] = field(default_factory=list)
    paused: bool = False
    gate: ModelGate = field(default_factory=ModelGate)
    keys: ModelKeys = field(default_factory=ModelKeys)
    born: int = 0
    back: int = 0
    front: int = 0

    def __post_init__(self) -> None:
        self.family = Family(self)
        self.kept: dict[State, Keep] = {}

    def of(self, *states: State) -> list[ModelJob]:
        """Jobs of some states, state by state, each as a listing should show it."""
        return [job for state in states for job in sorted(self.jobs.values(), key=ModelJob.place) if job.state is state]

    def ordered(self, *states: State) -> list[str]:
        return [job.id for job in self.of(*states)]

    # Moving one job

    def move(self, job: ModelJob, cause: Cause, state: State) -> None:
        """Change a state, as the table of transitions allows it."""
        assert state in allowed(job.state, cause), f"the model itself goes {job.state} -{cause}-> {state}"
        if state is not job.state:
            self.tell(job, state, job.state)
        job.state = state

    def tell(self, job: ModelJob, state: State, before: State | None) -> None:
        kind = "waiting" if state in IN_LINE else state.value
        self.events.append((kind, job.id, before.value if before is not None and kind == "waiting" else None))

    def in_line(self, job: ModelJob, cause: Cause) -> None:
        """Behind those that are there."""
        self.back += 1
        job.arrived = self.back
        self.move(job, cause, State.PRIORITIZED if job.priority else State.WAITING)

    def foremost(self, job: ModelJob) -> None:
        """Before everybody, or before those of its priority."""
        self.front -= 1
        job.arrived = self.front

    def delay(self, job: ModelJob, cause: Cause, delay_ms: int) -> None:
        self.move(job, cause, State.DELAYED)
        job.due = self.now + delay_ms

    # Adding

    def add(self, new: Sequence[NewJob]) -> tuple[list[str], list[bool]]:
        """The ids and whether they were made."""
        ids, created = [], []
        for job in new:
            owner = None if job.id in self.jobs else self.keys.claim(self, job)
            made = owner is None and self.store(job)
            if made and job.unique is not None:
                self.jobs[job.id].key = job.unique.id
            ids.append(owner or job.id)
            created.append(made)
        return ids, created

    def store(self, new: NewJob, *, waits: bool = False) -> bool:
        """Store a job that is not there; with `waits` it has children to wait for."""
        if new.id in self.jobs:
            return False
        self.born += 1
        lifo = '"lifo":true' in new.opts
        job = self.jobs[new.id] = ModelJob(new.id, self.born, new.timestamp, new.priority, lifo, "toril" in new.opts)
        if waits:
            job.state, job.delay = State.WAITING_CHILDREN, new.delay_ms
        elif new.delay_ms:
            job.state, job.due = State.DELAYED, self.now + new.delay_ms
        elif new.lifo and not new.priority:
            self.foremost(job)
        else:
            self.back += 1
            job.arrived = self.back
            job.state = State.PRIORITIZED if job.priority else State.WAITING
        self.tell(job, job.state, None)
        return True

    # Ending runs

    def finish_all(self, ends: Sequence[End]) -> list[Code]:
        """Each by itself; those that are given back stand at the front in the given order, before all others."""
        ahead: list[ModelJob] = []
        self.kept.clear()
        codes = [self.finish(end, ahead) for end in ends]
        for state, keep in self.kept.items():
            self.trim(state, keep)
        for job in reversed(ahead):
            self.foremost(job)
        return codes

    def finish(self, end: End, ahead: list[ModelJob]) -> Code:
        job = self.jobs.get(end.id)
        if job is None:
            return Code.MISSING
        outcome = end.outcome
        refused = self.family.forbids(job, outcome)
        if refused is not None:
            return refused
        if not job.held_by(end.token, self.now):
            return Code.LOCK_LOST
        if isinstance(outcome, Limited):
            self.gate.stop(self.now, outcome.delay_ms)
        if job.asked is not None and isinstance(outcome, AGAIN):
            outcome = Cancelled(job.asked, "")
        if isinstance(outcome, Parked) and not self.family.pending(job):
            outcome = Released()
        job.token = ""
        job.attempts += outcome.cause in COUNTED
        job.deferred = None
        if isinstance(outcome, Done | Failed | Cancelled):
            self.end(job, outcome, end)
        else:
            self.put_back(job, outcome, ahead)
        return Code.OK

    def end(self, job: ModelJob, outcome: Done | Failed | Cancelled, end: End) -> None:
        self.keys.ended(self, job)
        [state] = allowed(State.ACTIVE, outcome.cause)
        self.move(job, outcome.cause, state)
        job.finished = end.ended
        job.result = outcome.result if isinstance(outcome, Done) else None
        if isinstance(outcome, Failed):
            job.reason = outcome.reason
        elif isinstance(outcome, Cancelled):
            job.asked = outcome.reason if job.asked is None else job.asked
            job.reason = failed_reason(outcome.reason)
        self.family.ended(job, isinstance(outcome, Done))
        if end.keep is not None and end.keep.count == 0:
            self.delete([job])
        elif end.keep is not None:
            self.kept[state] = end.keep

    def put_back(self, job: ModelJob, outcome: Outcome, ahead: list[ModelJob]) -> None:
        cause = outcome.cause
        if isinstance(outcome, Retry):
            job.reason = outcome.reason
        if isinstance(outcome, Released):
            self.move(job, cause, State.WAITING)
            ahead.append(job)
        elif isinstance(outcome, Limited):
            self.move(job, cause, State.PRIORITIZED if job.priority else State.WAITING)
            ahead.append(job)
        elif isinstance(outcome, Parked):
            self.move(job, cause, State.WAITING_CHILDREN)
        elif isinstance(outcome, Retry | Snooze) and outcome.delay_ms:
            self.delay(job, cause, outcome.delay_ms)
        elif isinstance(outcome, Retry) and job.lifo and not job.priority:
            self.move(job, cause, State.WAITING)
            self.foremost(job)
        else:
            self.in_line(job, cause)

    def trim(self, state: State, keep: Keep, *, ours: bool = False) -> None:
        """Apply how long finished jobs are kept."""
        jobs = [job for job in self.of(state) if job.ours or not ours]
        old = [] if keep.age_s is None else [job for job in jobs if job.finished <= self.now - keep.age_s * 1000]
        many = [] if keep.count is None else jobs[: max(0, len(jobs) - keep.count)]
        self.delete(max(old, many, key=len))

    # Taking

    def take(self, want: int, token: str, lock_ms: int) -> list[str]:
        for job in [job for job in self.of(State.DELAYED) if job.due <= self.now]:
            self.in_line(job, Cause.DUE)
        active = len(self.of(State.ACTIVE))
        most = 0 if self.paused else self.gate.room(self.now, want, active)
        jobs = self.of(*IN_LINE)[:most]
        for job in jobs:
            self.move(job, Cause.TAKE, State.ACTIVE)
            job.starts += 1
            job.token, job.until = token, self.now + lock_ms
        self.gate.took(self.now, sum(job.deferred is None for job in jobs))
        return [job.id for job in jobs]

    def renew(self, name: str, token: str, lock_ms: int) -> bool:
        job = self.jobs.get(name)
        if job is None or not job.held_by(token, self.now):
            return False
        job.until = self.now + lock_ms
        return True

    def recover(self, order: Sequence[str]) -> None:
        """Put expired jobs at the front, in the order that was answered."""
        for name in reversed(order):
            job = self.jobs[name]
            assert job.state is State.ACTIVE
            assert job.until <= self.now
            job.stalls += 1
            if job.asked is not None:
                job.deferred = failed_reason(job.asked)
            elif job.stalls > MAX_STALLS:
                job.deferred = "stalled"
            self.move(job, Cause.STALL, State.WAITING)
            self.foremost(job)
            self.events.append(("stalled", job.id, None))

    # What operators do

    def cancel(self, name: str, reason: str) -> CancelAnswer:
        job = self.jobs.get(name)
        if job is None:
            return CancelAnswer.MISSING
        if job.state.finished:
            return CancelAnswer.FINISHED
        job.asked = reason if job.asked is None else job.asked
        if job.state is State.ACTIVE:
            return CancelAnswer.REQUESTED
        self.keys.ended(self, job)
        if job.state is State.WAITING and not self.immediate:
            job.deferred = failed_reason(job.asked)
            return CancelAnswer.CANCELLED
        self.move(job, Cause.CANCEL, State.FAILED)
        job.finished, job.deferred, job.reason = self.now, None, failed_reason(job.asked)
        self.family.ended(job, False)
        return CancelAnswer.CANCELLED

    def replay(self, name: str) -> Changed:
        job = self.jobs.get(name)
        if job is None:
            return Changed.MISSING
        if not allowed(job.state, Cause.REPLAY):
            return Changed.LOCKED if job.state is State.ACTIVE else Changed.REFUSED
        self.in_line(job, Cause.REPLAY)
        job.attempts = job.stalls = 0
        job.asked = job.deferred = job.result = job.reason = None
        self.family.again(job)
        return Changed.OK

    def promote(self, name: str) -> Changed:
        job = self.jobs.get(name)
        if job is None:
            return Changed.MISSING
        if not allowed(job.state, Cause.PROMOTE):
            return Changed.LOCKED if job.state is State.ACTIVE else Changed.REFUSED
        self.in_line(job, Cause.PROMOTE)
        return Changed.OK

    def remove(self, name: str) -> Changed:
        job = self.jobs.get(name)
        if job is None:
            return Changed.MISSING
        family = [job, *self.family.below(job)]
        if any(each.state is State.ACTIVE and each.until > self.now for each in family):
            return Changed.LOCKED
        for each in family:
            self.events.append(("removed", each.id, each.state.value))
        self.delete(family, free=True)
        return Changed.OK

    def sweep(self, jobs: Sequence[ModelJob]) -> None:
        """Drain or clean: parents that waited for these alone go with them."""
        self.delete(jobs, free=True, hard=True)

    def delete(self, jobs: Sequence[ModelJob], *, free: bool = False, hard: bool = False) -> None:
        """Delete jobs; with `free` their unique keys too, which retention leaves to their windows."""
        for job in jobs:
            del self.jobs[job.id]
            if free:
                self.keys.removed(job)
        self.family.deleted(jobs, hard=hard)

    def refs(self, names: Sequence[str]) -> tuple[JobRef, ...]:
        return tuple(JobRef(QUEUE, name) for name in sorted(names))
