"""`Flow`: a call that runs after others, not yet stored; and `FlowHandle`, the stored tree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

from toril.errors import ConfigError
from toril.jobs.flow import FlowNode, OnFailure
from toril.kernel.durations import Duration
from toril.tasks.call import Call
from toril.tasks.enqueue import Enqueuer
from toril.tasks.handle import JobHandle

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Flow(Generic[R]):
    """A call and the calls, or flows, that it waits for; made by `toril.flow`, stored by `enqueue`."""

    __slots__ = ("_enqueuer", "children", "on_child_failure", "parent")

    def __init__(
        self, parent: Call[R], children: Sequence[Call[Any] | Flow[Any]], on_child_failure: str, enqueuer: Enqueuer
    ) -> None:
        if on_child_failure not in list(OnFailure):
            wanted = ", ".join(f'"{policy}"' for policy in OnFailure)
            raise ConfigError(f"flow: on_child_failure: expected {wanted}, got {on_child_failure!r}.")
        _check_call("a call, such as task.call(…)", parent)
        for child in children:
            if not isinstance(child, Flow):
                _check_call("calls, such as task.call(…), and flows", child)
        self.parent = parent
        self.children = tuple(children)
        self.on_child_failure = OnFailure(on_child_failure)
        self._enqueuer = enqueuer

    def __repr__(self) -> str:
        return f"<Flow {self.parent.name} after {len(self.children)} children>"

    async def enqueue(self) -> FlowHandle[R]:
        """Store the whole tree in one step, or nothing of it.

        Raises PayloadTooLarge, FlowConflict (a job of it, given its own id, is stored under another parent),
        CrossSlotFlow (Redis Cluster), and EngineUnavailable, which with `ambiguous` says that the flow may be stored.
        """
        nodes: list[FlowNode] = []
        calls = list(self._plan(nodes, None, None))
        added = await self._enqueuer.enqueue_flow(nodes)
        handles: list[FlowHandle[Any]] = []
        below: dict[int, list[FlowHandle[Any]]] = {}
        for number in reversed(range(len(nodes))):
            job = self._enqueuer.handle(calls[number], added.ids[number], added.created[number])
            handle = FlowHandle(job, tuple(reversed(below.pop(number, []))))
            parent = nodes[number].parent
            if isinstance(parent, int):
                below.setdefault(parent, []).append(handle)
            handles.append(handle)
        root: FlowHandle[R] = handles[-1]
        return root

    def enqueue_sync(self) -> FlowHandle[R]:
        """`enqueue` for synchronous code; blocks."""
        return self._enqueuer.blocking.run(self.enqueue)

    def _plan(self, nodes: list[FlowNode], parent: int | None, policy: OnFailure | None) -> Iterator[Call[Any]]:
        """The calls, parents first, each with a node."""
        at = len(nodes)
        nodes.append(FlowNode(self.parent.queue, self._enqueuer.prepare(self.parent), parent, policy))
        yield self.parent
        for child in self.children:
            if isinstance(child, Flow):
                yield from child._plan(nodes, at, self.on_child_failure)
            else:
                nodes.append(FlowNode(child.queue, self._enqueuer.prepare(child), at, self.on_child_failure))
                yield child


class FlowHandle(Generic[R_co]):
    """A stored flow: the handle of its parent job, and the flows below, which for a plain call have no children."""

    __slots__ = ("children", "job")

    job: JobHandle[R_co]
    children: tuple[FlowHandle[Any], ...]

    def __init__(self, job: JobHandle[R_co], children: tuple[FlowHandle[Any], ...]) -> None:
        self.job = job
        self.children = children

    def __repr__(self) -> str:
        return f"<FlowHandle {self.job.id} with {len(self.children)} children>"

    def __iter__(self) -> Iterator[JobHandle[Any]]:
        """Every job of the flow, parents before their children."""
        yield self.job
        for child in self.children:
            yield from child

    async def result(self, timeout: Duration | None = None) -> R_co:
        """The result of the parent job, when the whole flow has ended. See `JobHandle.result`."""
        return await self.job.result(timeout)

    def result_sync(self, timeout: Duration | None = None) -> R_co:
        """`result` for synchronous code; blocks."""
        return self.job.result_sync(timeout)

    async def cancel(self, reason: str = "", by: str = "") -> bool:
        """Cancel every job of the flow that has not finished, the parent first. True when there was one. See
        `JobHandle.cancel`.
        """
        answers = [await job.cancel(reason, by) for job in self]
        return any(answers)


def _check_call(wanted: str, call: object) -> None:
    if not isinstance(call, Call):
        raise ConfigError(f"flow: expected {wanted}, got {call!r}.")
    if call.plan.options.unique is not None:
        raise ConfigError(f"flow: expected calls without unique=…, got {call!r}: each job of a flow is its own.")
