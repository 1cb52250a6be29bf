"""`ChildJobs`: what a handler sees of the jobs that its own job waited for."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from toril.jobs.flow import ChildFailure, Children, ChildResult, JobRef
from toril.kernel import codec

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class ResultOf(Protocol[R_co]):
    """A task, as far as results are concerned."""

    @property
    def name(self) -> str: ...

    @property
    def queue(self) -> str: ...

    def load_result(self, text: str) -> R_co: ...


class ChildReader(Protocol):
    """Reads the children of jobs; the worker has one."""

    async def read(self, queue: str, id: str) -> Children:
        """What has become of a job's children. Raises EngineUnavailable."""
        ...

    def read_sync(self, queue: str, id: str) -> Children:
        """`read`, from any thread but the worker's own."""
        ...


class ChildJobs:
    """The direct children of a job, each kind in the order in which they were enqueued.

    `completed` have a result. `failed` failed where the flow says `continue` or `ignore`, with their reasons.
    `pending` have not ended, which only a job sees that runs early because a child failed under `continue`.
    """

    __slots__ = ("completed", "failed", "pending")

    completed: tuple[ChildResult, ...]
    failed: tuple[ChildFailure, ...]
    pending: tuple[JobRef, ...]

    def __init__(self, children: Children) -> None:
        # Ids grow with time, whatever queue they are in.
        self.completed = tuple(sorted(children.processed, key=lambda child: child.id))
        self.failed = tuple(sorted(children.failed, key=lambda child: child.id))
        self.pending = tuple(sorted(children.pending, key=lambda child: child.id))

    def __repr__(self) -> str:
        return f"<ChildJobs {len(self.completed)} completed, {len(self.failed)} failed, {len(self.pending)} pending>"

    def results(self, task: ResultOf[R]) -> list[R]:
        """The results of the completed children that ran `task`, as it returns them. Raises InvalidResult.

        A child that is not stored any more has left its result, but no name: then its queue decides.
        """
        return [
            task.load_result(child.result)
            for child in self.completed
            if child.name == task.name or (not child.name and child.queue == task.queue)
        ]

    def values(self) -> list[Any]:
        """The results of all completed children as plain JSON values, whatever they ran."""
        return [codec.decode(child.result) for child in self.completed]
