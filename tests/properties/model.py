"""What an engine should do, in plain Python: a line, two orders, and the table of transitions."""

from dataclasses import dataclass, field

from toril.engine.ports.inspect import Changed
from toril.engine.ports.jobs import CancelAnswer, Code
from toril.jobs.outcome import Cancelled, Outcome, Released, Retry, Snooze
from toril.jobs.states import Cause, State, allowed

MAX_STALLS = 2
COUNTED = {Cause.DONE, Cause.RETRY, Cause.FAILED}


@dataclass
class ModelJob:
    """A job as the model sees it. `born` counts up over all jobs; `arrived` over all entries into the line."""

    born: int
    priority: int
    state: State = State.WAITING
    arrived: int = 0
    due: int = 0
    attempts: int = 0
    starts: int = 0
    stalls: int = 0
    token: str = ""
    until: int = 0
    finished: int = 0
    asked: bool = False
    deferred: bool = False

    def place(self) -> tuple[int, int]:
        """Where it stands among the jobs of its state."""
        match self.state:
            case State.WAITING:
                return self.arrived, 0
            case State.PRIORITIZED:
                return self.priority, self.arrived
            case State.DELAYED:
                return self.due, self.born
            case State.ACTIVE:
                return self.until, self.born
            case _:
                return self.finished, self.born

    def shown(self) -> tuple[object, ...]:
        """What inspection should show of it."""
        due = self.due if self.state is State.DELAYED else None
        return (self.state, self.attempts, self.starts, self.stalls, due, self.asked, self.deferred)


@dataclass
class Model:
    """One queue."""

    now: int
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    paused: bool = False
    born: int = 0
    back: int = 0
    front: int = 0

    def ordered(self, state: State) -> list[str]:
        """The ids of a state as a listing should show them."""
        found = [(job.place(), name) for name, job in self.jobs.items() if job.state is state]
        return [name for _, name in sorted(found)]

    def move(self, job: ModelJob, cause: Cause, state: State) -> None:
        """Change a state, as the table of transitions allows it."""
        assert state in allowed(job.state, cause), f"the model itself goes {job.state} -{cause}-> {state}"
        job.state = state

    def in_line(self, job: ModelJob, cause: Cause) -> None:
        """Behind those that are there."""
        self.back += 1
        job.arrived = self.back
        self.move(job, cause, State.PRIORITIZED if job.priority else State.WAITING)

    def foremost(self, job: ModelJob) -> None:
        """Before everybody."""
        self.front -= 1
        job.arrived = self.front

    def add(self, name: str, priority: int, delay_ms: int, lifo: bool) -> bool:
        if name in self.jobs:
            return False
        self.born += 1
        job = self.jobs[name] = ModelJob(self.born, priority)
        if delay_ms:
            job.state, job.due = State.DELAYED, self.now + delay_ms
        elif lifo and not priority:
            self.front -= 1
            job.arrived = self.front
        else:
            self.back += 1
            job.arrived = self.back
            job.state = State.PRIORITIZED if priority else State.WAITING
        return True

    def finish_all(self, ends: list[tuple[str, str, Outcome]]) -> list[Code]:
        """Each by itself; those that are given back stand at the front in the given order."""
        released: list[ModelJob] = []
        codes = [self.finish(*each, released) for each in ends]
        for job in reversed(released):
            self.foremost(job)
        return codes

    def finish(self, name: str, token: str, outcome: Outcome, released: list[ModelJob]) -> Code:
        job = self.jobs.get(name)
        if job is None:
            return Code.MISSING
        if job.state is not State.ACTIVE or job.token != token or job.until <= self.now:
            return Code.LOCK_LOST
        if job.asked and isinstance(outcome, Retry | Snooze | Released):
            outcome = Cancelled("", "")
        job.attempts += outcome.cause in COUNTED
        job.deferred = False
        if isinstance(outcome, Released):
            self.move(job, outcome.cause, State.WAITING)
            released.append(job)
        elif isinstance(outcome, Retry | Snooze):
            if outcome.delay_ms:
                self.move(job, outcome.cause, State.DELAYED)
                job.due = self.now + outcome.delay_ms
            else:
                self.in_line(job, outcome.cause)
        else:
            [state] = allowed(State.ACTIVE, outcome.cause)
            self.move(job, outcome.cause, state)
            job.finished = self.now
            job.asked |= isinstance(outcome, Cancelled)
        return Code.OK

    def promote_due(self) -> None:
        for name in self.ordered(State.DELAYED):
            if self.jobs[name].due <= self.now:
                self.in_line(self.jobs[name], Cause.DUE)

    def take(self, want: int, token: str, lock_ms: int) -> list[str]:
        self.promote_due()
        if self.paused:
            return []
        names = (self.ordered(State.WAITING) + self.ordered(State.PRIORITIZED))[:want]
        for name in names:
            job = self.jobs[name]
            self.move(job, Cause.TAKE, State.ACTIVE)
            job.starts += 1
            job.token, job.until = token, self.now + lock_ms
        return names

    def renew(self, name: str, token: str, lock_ms: int) -> bool:
        job = self.jobs.get(name)
        if job is None or job.state is not State.ACTIVE or job.token != token or job.until <= self.now:
            return False
        job.until = self.now + lock_ms
        return True

    def recover(self) -> list[str]:
        expired = [name for name in self.ordered(State.ACTIVE) if self.jobs[name].until <= self.now]
        for name in reversed(expired):
            job = self.jobs[name]
            job.stalls += 1
            job.deferred = job.asked or job.stalls > MAX_STALLS
            self.move(job, Cause.STALL, State.WAITING)
            self.foremost(job)
        return expired

    def cancel(self, name: str) -> CancelAnswer:
        job = self.jobs.get(name)
        if job is None:
            return CancelAnswer.MISSING
        if job.state.finished:
            return CancelAnswer.FINISHED
        job.asked = True
        if job.state is State.ACTIVE:
            return CancelAnswer.REQUESTED
        self.move(job, Cause.CANCEL, State.FAILED)
        job.finished, job.deferred = self.now, False
        return CancelAnswer.CANCELLED

    def replay(self, name: str) -> Changed:
        job = self.jobs.get(name)
        if job is None:
            return Changed.MISSING
        if not allowed(job.state, Cause.REPLAY):
            return Changed.LOCKED if job.state is State.ACTIVE else Changed.REFUSED
        self.in_line(job, Cause.REPLAY)
        job.attempts = job.stalls = 0
        job.asked = job.deferred = False
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
        if job.state is State.ACTIVE and job.until > self.now:
            return Changed.LOCKED
        del self.jobs[name]
        return Changed.OK
