"""`FlowStore`: jobs that wait for others.

A job with children is `waiting-children` until the last one has ended. Then it comes to the very front of the line, or
behind its priority, or is delayed for its `delay_ms`, counted from that moment. What ends children is done by the other
ports (`exchange`, `cancel`, `remove`, …), in the same step. `now` is the caller's wall time in milliseconds. Every
method raises EngineUnavailable when the store is away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from toril.engine.ports.jobs import Added
from toril.jobs.flow import Children, FlowNode


class FlowStore(Protocol):
    """The flows of an engine."""

    async def add(self, nodes: Sequence[FlowNode], *, batch: str, now: int) -> Added:
        """Store whole trees of jobs, all or none, parents before their children.

        A job that is stored already is left as it is and answered with `created` false; its parent takes it as a child
        with what has become of it. A repeated `batch` is answered as by `JobStore.add`. Raises FlowConflict when such
        a job has another parent, when one stands twice in the flow, or before its parent; JobNotFound when the parent
        that a node names is not stored; CrossSlotFlow when the jobs cannot be stored in one step because their queues
        lie in different slots of a Redis Cluster; ValueError for text that cannot be stored.
        """
        ...

    async def children(self, queue: str, id: str) -> Children:
        """What has become of a job's children; nothing for a job without any, and for an unknown one.

        Results are kept with the parent: also of children that are not stored any more.
        """
        ...
