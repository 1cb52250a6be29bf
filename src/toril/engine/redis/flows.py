"""`FlowStore` on Redis: trees of jobs in BullMQ's layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toril.engine.ports.flows import FlowStore
from toril.engine.ports.jobs import BATCH_MEMORY_MS, Added
from toril.engine.redis.clients import Clients
from toril.engine.redis.keys import Keys
from toril.engine.redis.records import text
from toril.engine.redis.registry import QueueRegistry
from toril.engine.redis.scripts import Script, load
from toril.errors import CrossSlotFlow, FlowConflict, JobNotFound
from toril.jobs.flow import ChildFailure, Children, ChildResult, FlowNode, JobRef, OnFailure, check_nodes
from toril.kernel import codec

_ADD = load("flows/add")
_CHILDREN = load("flows/children")

# BullMQ's short names, in a child's options and in what it says of its parent.
_POLICIES = {
    OnFailure.FAIL: "fpof",
    OnFailure.CONTINUE: "cpof",
    OnFailure.IGNORE: "idof",
    OnFailure.REMOVE: "rdof",
}


class RedisFlowStore:
    """The flows of one Redis. `wire` is `auto`, `bullmq5` or `bullmq6`."""

    def __init__(self, clients: Clients, keys: Keys, wire: str, registry: QueueRegistry) -> None:
        self._clients = clients
        self._keys = keys
        self._registry = registry
        self._wire = wire

    async def add(self, nodes: Sequence[FlowNode], *, batch: str, now: int) -> Added:
        check_nodes(nodes)
        if not nodes:
            return Added((), ())
        parents = [_parent(nodes, node) for node in nodes]
        queues = list(dict.fromkeys([node.queue for node in nodes] + [ref.queue for ref in parents if ref]))
        self._refuse_slots(queues)
        known = list(dict.fromkeys(node.queue for node in nodes))
        await self._registry.note(*known)
        args: list[str | int] = [batch, BATCH_MEMORY_MS, self._registry.key, len(known), *known]
        inner = {node.parent for node in nodes if isinstance(node.parent, int)}
        for number, (node, parent) in enumerate(zip(nodes, parents, strict=True)):
            args += self._node_args(node, parent, number in inner)
        answer = await self._run(_ADD, nodes[0].queue, now, *args)
        if isinstance(answer, list):
            raise self._refusal(answer, nodes, parents)
        return Added(tuple(node.job.id for node in nodes), tuple(flag == "1" for flag in text(answer)))

    async def children(self, queue: str, id: str) -> Children:
        pending, processed, failed, unsuccessful = await self._run(_CHILDREN, queue, 0, id)
        return Children(
            pending=self._refs(pending),
            processed=tuple(
                sorted(ChildResult(*self._ref(key), text(name), text(value)) for key, value, name in processed)
            ),
            failed=tuple(sorted(ChildFailure(*self._ref(key), text(name), text(why)) for key, why, name in failed)),
            unsuccessful=self._refs(unsuccessful),
        )

    def _refuse_slots(self, queues: Sequence[str]) -> None:
        tags = {self._keys.slot_tag(queue): queue for queue in queues} if self._keys.cluster else {}
        if len(tags) > 1:
            (one, first), (other, second), *_ = tags.items()
            raise CrossSlotFlow(
                f"Flow: expected all its queues in one slot of the Cluster, found {first!r} under {{{one}}} and "
                f"{second!r} under {{{other}}}. For queues of one flow use a prefix without <queue>, "
                "such as '{bull}'."
            )

    def _node_args(self, node: FlowNode, parent: JobRef | None, has_children: bool) -> tuple[str | int, ...]:
        """The thirteen arguments of add.lua for one job."""
        job, keys = node.job, self._keys.queue(node.queue)
        opts, key, field = job.opts, "", ""
        if parent is not None:
            above = self._keys.queue(parent.queue)
            policy: dict[str, Any] = {} if node.on_failure is None else {_POLICIES[node.on_failure]: True}
            stored = codec.decode(opts)
            stored["parent"] = {"id": parent.id, "queue": above.base[:-1]}
            opts, key = codec.encode(stored | policy), above.of(parent.id)
            field = codec.encode({"id": parent.id, "queueKey": above.base[:-1]} | policy)
        return (
            keys.base,
            job.id,
            job.name,
            job.data,
            opts,
            job.timestamp,
            job.delay_ms,
            job.priority,
            int(job.lifo),
            int(has_children),
            key,
            field,
            int(isinstance(node.parent, JobRef)),
        )

    def _refusal(
        self, answer: Sequence[Any], nodes: Sequence[FlowNode], parents: Sequence[JobRef | None]
    ) -> JobNotFound | FlowConflict:
        node, parent = nodes[answer[1]], parents[answer[1]]
        if answer[0] == b"missing" and parent is not None:
            return JobNotFound(
                f"Flow: expected the parent {parent.id!r} to be stored in queue {parent.queue!r}, found none.",
                job_id=parent.id,
            )
        other = self._ref(answer[2])
        return FlowConflict(
            f"Flow: expected job {node.job.id!r} of queue {node.queue!r} to be free, found it a child of "
            f"{other.id!r} of queue {other.queue!r}.",
            job_id=node.job.id,
        )

    def _refs(self, keys: Sequence[bytes]) -> tuple[JobRef, ...]:
        return tuple(sorted(self._ref(key) for key in keys))

    def _ref(self, key: bytes) -> JobRef:
        return JobRef(*self._keys.split(text(key)))

    async def _run(self, script: Script, queue: str, now: int, *args: str | int) -> Any:
        keys = self._keys.queue(queue)
        return await self._clients.run(script, keys.of("meta"), keys.base, keys.own, self._wire, now, *args)


def _parent(nodes: Sequence[FlowNode], node: FlowNode) -> JobRef | None:
    """The parent of a job of a flow, wherever it is."""
    if isinstance(node.parent, int):
        above = nodes[node.parent]
        return JobRef(above.queue, above.job.id)
    return node.parent


_: type[FlowStore] = RedisFlowStore
