"""Flows as data: jobs that wait for others, what a child's failure means, and what became of children."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from toril.errors import FlowConflict
from toril.jobs.model import NewJob


class OnFailure(StrEnum):
    """What it means for a parent when a child has failed for good, was cancelled included."""

    FAIL = "fail"
    """The parent fails, without running."""
    CONTINUE = "continue"
    """The parent runs at once, whatever other children do; it sees the failure."""
    IGNORE = "ignore"
    """The parent goes on to wait for the others; it sees the failure."""
    REMOVE = "remove"
    """The parent goes on to wait for the others, as if the child had never been one."""


class JobRef(NamedTuple):
    """Which job."""

    queue: str
    id: str


class FlowNode(NamedTuple):
    """One job of a flow. `parent` is the index of its parent among the nodes, which stands before it, or a job that is
    stored already; None for a root. `on_failure` None makes the parent wait until a failed child is retried or removed.
    """

    queue: str
    job: NewJob
    parent: int | JobRef | None = None
    on_failure: OnFailure | None = OnFailure.FAIL


class ChildResult(NamedTuple):
    """A child that completed. `result` is JSON text; `name` is empty when the child is not stored any more."""

    queue: str
    id: str
    name: str
    result: str


class ChildFailure(NamedTuple):
    """A child that failed, and whose failure its parent survives."""

    queue: str
    id: str
    name: str
    reason: str


class Children(NamedTuple):
    """What is known of a job's direct children, each kind by queue and id.

    `pending` have not ended; `processed` completed; `failed` failed under `continue` or `ignore`; `unsuccessful` failed
    under `fail`. Children that failed under `remove`, or were removed, are not mentioned.
    """

    pending: tuple[JobRef, ...] = ()
    processed: tuple[ChildResult, ...] = ()
    failed: tuple[ChildFailure, ...] = ()
    unsuccessful: tuple[JobRef, ...] = ()


def check_nodes(nodes: Sequence[FlowNode]) -> None:
    """Raises FlowConflict for a job that stands twice in a flow, or before its parent."""
    seen: set[JobRef] = set()
    for number, node in enumerate(nodes):
        ref = JobRef(node.queue, node.job.id)
        if ref in seen or node.parent == ref:
            raise FlowConflict(
                f"Flow: expected each job once, found {ref.id!r} of queue {ref.queue!r} twice.", job_id=ref.id
            )
        seen.add(ref)
        if isinstance(node.parent, int) and not 0 <= node.parent < number:
            raise FlowConflict(
                f"Flow: expected parents before their children, found node {number} under {node.parent}.", job_id=ref.id
            )
