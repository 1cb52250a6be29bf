"""A job as the model of an engine sees it."""

from dataclasses import dataclass, field

from toril.jobs.flow import OnFailure
from toril.jobs.states import State


@dataclass
class Link:
    """What a parent knows of one child. `child` is None when it was deleted."""

    child: "ModelJob | None"
    policy: OnFailure | None
    what: str = "pending"
    text: str = ""


@dataclass(eq=False)
class ModelJob:
    """`born` counts up over all jobs; `arrived` over all entries into the line."""

    id: str
    born: int
    created: int
    priority: int
    lifo: bool
    ours: bool
    state: State = State.WAITING
    arrived: int = 0
    due: int = 0
    delay: int = 0
    attempts: int = 0
    starts: int = 0
    stalls: int = 0
    token: str = ""
    until: int = 0
    finished: int = 0
    asked: str | None = None
    deferred: str | None = None
    reason: str | None = None
    result: str | None = None
    key: str | None = None
    parent: "ModelJob | None" = None
    links: dict[str, Link] = field(default_factory=dict)

    def held_by(self, token: str, now: int) -> bool:
        """Whether that token may still finish it."""
        return self.state is State.ACTIVE and self.token == token and self.until > now

    def place(self) -> tuple[int, int]:
        """Where it stands among the jobs of its state."""
        match self.state:
            case State.WAITING:
                return self.arrived, 0
            case State.PRIORITIZED:
                return self.priority, self.arrived
            case State.DELAYED:
                return self.due, self.born
            case State.ACTIVE | State.WAITING_CHILDREN:
                return 0, self.born
            case _:
                return self.finished, self.born

    def shown(self) -> tuple[object, ...]:
        """What inspection should show of it."""
        due = self.due if self.state is State.DELAYED else None
        finished = self.finished if self.state.finished else None
        ended = (self.attempts, self.starts, self.stalls, due, finished)
        return (self.state, *ended, self.asked, self.deferred is not None, self.result, self.reason)
