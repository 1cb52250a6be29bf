"""`FlowStore` on SQLite: storing trees of jobs, and reading what became of children."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from toril.engine.ports.flows import FlowStore
from toril.engine.ports.jobs import Added
from toril.engine.sqlite.adding import added_before, remember
from toril.engine.sqlite.connection import SqliteThread
from toril.engine.sqlite.inserting import job_rows, queue_number
from toril.engine.sqlite.kin import (
    CHILD,
    COMPLETED_CHILD,
    FAILED_CHILD,
    NUMBERS,
    PARENT,
    PENDING,
    UNSUCCESSFUL,
    child_ended,
)
from toril.engine.sqlite.rows import COMPLETED, FAILED, WAITING_CHILDREN
from toril.engine.sqlite.statements import load
from toril.engine.sqlite.transaction import Transaction
from toril.errors import FlowConflict, JobNotFound
from toril.jobs.flow import ChildFailure, Children, ChildResult, FlowNode, JobRef, check_nodes
from toril.kernel import codec

_SQL = load("flows")


class SqliteFlowStore:
    """The flows of one SQLite store."""

    def __init__(self, writer: SqliteThread, reader: SqliteThread) -> None:
        self._writer = writer
        self._reader = reader

    async def add(self, nodes: Sequence[FlowNode], *, batch: str, now: int) -> Added:
        check_nodes(nodes)
        return await self._writer.run(functools.partial(_add, nodes=nodes, batch=batch, now=now))

    async def children(self, queue: str, id: str) -> Children:
        rows = await self._reader.run(lambda tx: tx.rows(_SQL["children"], queue=queue, id=id))
        return Children(
            pending=tuple(JobRef(row[0], row[1]) for row in rows if row[3] == PENDING),
            processed=tuple(ChildResult(row[0], row[1], row[2], row[4]) for row in rows if row[3] == COMPLETED_CHILD),
            failed=tuple(ChildFailure(row[0], row[1], row[2], row[4]) for row in rows if row[3] == FAILED_CHILD),
            unsuccessful=tuple(JobRef(row[0], row[1]) for row in rows if row[3] == UNSUCCESSFUL),
        )


class _Stored(NamedTuple):
    """A job of the flow as it is stored."""

    seq: int
    state: int
    kin: int
    result: str | None
    reason: str | None


def _add(tx: Transaction, *, nodes: Sequence[FlowNode], batch: str, now: int) -> Added:
    ids = tuple(node.job.id for node in nodes)
    earlier = added_before(tx, ids, batch, now)
    if earlier is not None:
        return earlier
    queues = {name: queue_number(tx, name) for name in dict.fromkeys(node.queue for node in nodes)}
    before = _stored(tx, nodes, queues)
    _refuse_taken(tx, nodes, before)
    outside = {node.parent: _outside(tx, node.parent) for node in nodes if isinstance(node.parent, JobRef)}
    parents = {node.parent for node in nodes if isinstance(node.parent, int)}
    for name, queue_id in queues.items():
        _insert(tx, queue_id, [(n, node) for n, node in enumerate(nodes) if node.queue == name], parents, now)
    stored = _stored(tx, nodes, queues) if nodes else {}
    created = tuple(number not in before for number in range(len(nodes)))
    links: list[tuple[Any, ...]] = []
    # Jobs that this flow makes know their part already.
    kin = dict.fromkeys([*(job.seq for job in before.values()), *outside.values()], 0)
    for number, node in enumerate(nodes):
        if node.parent is None:
            continue
        parent = outside[node.parent] if isinstance(node.parent, JobRef) else stored[node.parent].seq
        child = stored[number].seq
        links.append((parent, child, node.queue, node.job.id, node.job.name, NUMBERS[node.on_failure]))
        for seq, part in ((child, CHILD), (parent, PARENT)):
            if seq in kin:
                kin[seq] |= part
    if links:
        tx.spread(_SQL["link"], links)
    if kin:
        tx.spread(_SQL["relate"], list(kin.items()))
    # From the leaves upwards, so that the whole tree has settled.
    for number in sorted(before, reverse=True):
        job = stored[number]
        if job.state in (COMPLETED, FAILED):
            text = job.result if job.state == COMPLETED else job.reason
            child_ended(tx, job.seq, job.state == COMPLETED, text or "", now)
    added = Added(ids, created)
    remember(tx, batch, added.remembered(ids), now)
    tx.touched.update(*({f"w:{name}", f"e:{name}"} for name in queues))
    return added


def _insert(tx: Transaction, queue_id: int, nodes: Sequence[tuple[int, FlowNode]], parents: set[int], now: int) -> None:
    rows: list[tuple[Any, ...]] = []
    plain = job_rows(tx, queue_id, [node.job for _, node in nodes], now)
    for (number, node), row in zip(nodes, plain, strict=True):
        kin = (CHILD if node.parent is not None else 0) | (PARENT if number in parents else 0)
        if number in parents:
            row = (*row[:2], WAITING_CHILDREN, node.job.timestamp, *row[4:])
        rows.append((*row, kin, node.job.delay_ms if number in parents else 0))
    tx.spread(_SQL["insert"], rows)


def _stored(tx: Transaction, nodes: Sequence[FlowNode], queues: dict[str, int]) -> dict[int, _Stored]:
    """The jobs of a flow that are stored, by their index."""
    asked = codec.encode([(queues[node.queue], node.job.id) for node in nodes])
    return {number: _Stored(*rest) for number, *rest in codec.decode(tx.value(_SQL["stored"], jobs=asked))}


def _refuse_taken(tx: Transaction, nodes: Sequence[FlowNode], before: dict[int, _Stored]) -> None:
    for number, job in before.items():
        node = nodes[number]
        if node.parent is None or not job.kin & CHILD:
            continue
        wanted = node.parent
        if isinstance(wanted, int):
            wanted = JobRef(nodes[wanted].queue, nodes[wanted].job.id)
        found = tx.row(_SQL["parent"], child=job.seq)
        if found is not None and found != wanted:
            raise FlowConflict(
                f"Flow: expected job {node.job.id!r} of queue {node.queue!r} to be free, found it a child of "
                f"{found[1]!r} of queue {found[0]!r}.",
                job_id=node.job.id,
            )


def _outside(tx: Transaction, parent: JobRef) -> int:
    seq: int | None = tx.value(_SQL["one"], id=parent.id, queue=parent.queue)
    if seq is None:
        raise JobNotFound(
            f"Flow: expected the parent {parent.id!r} to be stored in queue {parent.queue!r}, found none.",
            job_id=parent.id,
        )
    return seq


_: type[FlowStore] = SqliteFlowStore
