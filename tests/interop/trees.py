"""Recorded flows as nodes of Toril's port."""

from __future__ import annotations

import json
from typing import Any

from toril.jobs.flow import Children, FlowNode, JobRef, OnFailure
from toril.jobs.model import NewJob

# Names that the wire shortens (the same table is in the documentation of the layout).
SHORT = {
    "deduplication": "de",
    "keepLogs": "kl",
    "failParentOnFailure": "fpof",
    "continueParentOnFailure": "cpof",
    "ignoreDependencyOnFailure": "idof",
    "removeDependencyOnFailure": "rdof",
}
POLICIES = {
    "failParentOnFailure": OnFailure.FAIL,
    "continueParentOnFailure": OnFailure.CONTINUE,
    "ignoreDependencyOnFailure": OnFailure.IGNORE,
    "removeDependencyOnFailure": OnFailure.REMOVE,
}


def stored_options(opts: dict[str, Any]) -> str:
    """Options as the wire has them."""
    stored = {SHORT.get(name, name): value for name, value in ({"attempts": 0} | opts).items()}
    if isinstance(stored.get("backoff"), int):
        stored["backoff"] = {"type": "fixed", "delay": stored["backoff"]}
    if "telemetry" in stored:
        telemetry = stored.pop("telemetry")
        stored |= {"tm": telemetry["metadata"], "omc": telemetry["omitContext"]}
    return plain(stored)


def job_of(id: str, name: str, data: Any, opts: dict[str, Any], now: int) -> NewJob:
    """A job as an application would add it."""
    return NewJob(
        id, name, plain(data), stored_options(opts), opts.get("timestamp", now), opts.get("delay", 0),
        opts.get("priority", 0), opts.get("lifo", False),
    )  # fmt: skip


def node_of(queue: str, job: NewJob, opts: dict[str, Any], parent: int | JobRef | None) -> FlowNode:
    """A node, with what its failure means, and with the parent that its options name."""
    policy = next((POLICIES[name] for name in POLICIES if opts.get(name)), None)
    if parent is None and "parent" in opts:
        parent = JobRef(opts["parent"]["queue"].removeprefix("bull:"), opts["parent"]["id"])
    return FlowNode(queue, job, parent, policy)


def nodes_of(tree: dict[str, Any], now: int, *, first: int = 0) -> list[FlowNode]:
    """A recorded flow, parents first; `first` nodes stand before it."""
    nodes: list[FlowNode] = []

    def grow(part: dict[str, Any], parent: int | None) -> None:
        opts = part.get("opts", {})
        job = job_of(opts["jobId"], part["name"], part.get("data", {}), opts, now)
        at = first + len(nodes)
        nodes.append(node_of(part["queueName"], job, opts, parent))
        for child in part.get("children", ()):
            grow(child, at)

    grow(tree, None)
    return nodes


def dependencies_of(children: Children) -> dict[str, Any]:
    """What BullMQ answers when it is asked for a job's dependencies."""
    return {
        "processed": {f"bull:{child.queue}:{child.id}": json.loads(child.result) for child in children.processed},
        "unprocessed": [f"bull:{child.queue}:{child.id}" for child in children.pending],
        "failed": [f"bull:{child.queue}:{child.id}" for child in children.unsuccessful],
        "ignored": {f"bull:{child.queue}:{child.id}": child.reason for child in children.failed},
    }


def plain(value: Any) -> str:
    """A value as JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
