"""Parents and children as the model sees them. All jobs are of one queue."""

from collections.abc import Sequence
from typing import Protocol

from tests.properties.model_job import Link, ModelJob
from toril.engine.ports.jobs import Code
from toril.jobs.flow import OnFailure
from toril.jobs.model import NewJob
from toril.jobs.outcome import Done, Outcome, Parked
from toril.jobs.states import Cause, State


class HasJobs(Protocol):
    """What a family needs of the model."""

    now: int
    jobs: dict[str, ModelJob]

    def store(self, new: NewJob, *, waits: bool = False) -> bool: ...

    def move(self, job: ModelJob, cause: Cause, state: State) -> None: ...

    def in_line(self, job: ModelJob, cause: Cause) -> None: ...

    def foremost(self, job: ModelJob) -> None: ...

    def delay(self, job: ModelJob, cause: Cause, delay_ms: int) -> None: ...

    def delete(self, jobs: Sequence[ModelJob], *, free: bool = False, hard: bool = False) -> None: ...


Node = tuple[NewJob, int | str | None, OnFailure | None]
"""A job of a flow; its parent by index, or by the id of one that is stored; what its failure means."""


class Family:
    """Who waits for whom."""

    def __init__(self, model: HasJobs) -> None:
        self.model = model

    def grow(self, nodes: Sequence[Node]) -> list[bool]:
        parents = {parent for _, parent, _ in nodes if isinstance(parent, int)}
        created = [self.model.store(new, waits=number in parents) for number, (new, _, _) in enumerate(nodes)]
        for new, parent, policy in nodes:
            if parent is not None:
                above = self.model.jobs[parent if isinstance(parent, str) else nodes[parent][0].id]
                child = self.model.jobs[new.id]
                child.parent = above
                above.links[child.id] = Link(child, policy)
        for (new, _, _), made in reversed(list(zip(nodes, created, strict=True))):
            child = self.model.jobs[new.id]
            if not made and child.state.finished:
                self.ended(child, child.state is State.COMPLETED)
        return created

    def link_to(self, child: ModelJob) -> Link | None:
        """What the parent knows of it."""
        if child.parent is None:
            return None
        link = child.parent.links.get(child.id)
        return link if link is not None and link.child is child else None

    def pending(self, job: ModelJob) -> bool:
        return any(link.what == "pending" for link in job.links.values())

    def forbids(self, job: ModelJob, outcome: Outcome) -> Code | None:
        if isinstance(outcome, Done | Parked):
            if self.pending(job):
                return Code.PENDING_CHILDREN if isinstance(outcome, Done) else None
            if any(link.what == "unsuccessful" for link in job.links.values()):
                return Code.FAILED_CHILDREN
        return None

    def ended(self, child: ModelJob, well: bool) -> None:
        link, parent = self.link_to(child), child.parent
        if link is None or parent is None or link.what != "pending":
            return
        if well:
            link.what, link.text = "processed", child.result or ""
            self.release(parent)
        elif link.policy is OnFailure.FAIL:
            link.what = "unsuccessful"
            if parent.id in self.model.jobs and parent.state is not State.FAILED:
                parent.deferred = f"child {child.id} failed"
                self.hurry(parent)
        elif link.policy is OnFailure.CONTINUE:
            link.what, link.text = "failed", child.reason or ""
            self.hurry(parent)
        elif link.policy is OnFailure.IGNORE:
            link.what, link.text = "failed", child.reason or ""
            self.release(parent)
        elif link.policy is OnFailure.REMOVE:
            del parent.links[child.id]
            self.release(parent)

    def again(self, child: ModelJob) -> None:
        link = self.link_to(child)
        if link is not None:
            link.what, link.text = "pending", ""

    def release(self, parent: ModelJob) -> None:
        """The last child has ended: the parent runs, now or after its own delay."""
        if parent.state is not State.WAITING_CHILDREN or self.pending(parent):
            return
        if parent.delay:
            self.model.delay(parent, Cause.CHILDREN, parent.delay)
            parent.delay = 0
        else:
            self.to_front(parent)

    def hurry(self, parent: ModelJob) -> None:
        """The parent leaves its other children behind, or its delay."""
        if parent.state is State.DELAYED:
            parent.delay = 0
        if parent.state in (State.WAITING_CHILDREN, State.DELAYED):
            self.to_front(parent)

    def to_front(self, parent: ModelJob) -> None:
        """Before everybody; a prioritized one behind those of its priority."""
        self.model.in_line(parent, Cause.CHILDREN)
        if parent.state is State.WAITING:
            self.model.foremost(parent)

    def below(self, job: ModelJob) -> list[ModelJob]:
        """The stored children of a job, and theirs."""
        found: list[ModelJob] = []
        level = [job]
        while level:
            children = [link.child for each in level for link in each.links.values()]
            level = [child for child in children if child is not None and child not in found]
            found += level
        return found

    def deleted(self, jobs: Sequence[ModelJob], *, hard: bool) -> None:
        """Parents that waited for these alone run; with `hard` they are deleted."""
        parents: list[ModelJob] = []
        for job in jobs:
            link, parent = self.link_to(job), job.parent
            for below in job.links.values():
                if below.child is not None:
                    below.child.parent = None
            if link is None or parent is None:
                continue
            link.child = None
            if link.what == "pending":
                del parent.links[job.id]
                parents.append(parent)
        for parent in dict.fromkeys(parents):
            waits = self.model.jobs.get(parent.id) is parent and parent.state is State.WAITING_CHILDREN
            if waits and not self.pending(parent):
                if hard:
                    self.model.delete([parent], free=True, hard=True)
                else:
                    # Whatever its priority and its own delay: nobody has a reason left to wait.
                    parent.delay = 0
                    self.model.move(parent, Cause.CHILDREN, State.WAITING)
                    self.model.foremost(parent)
