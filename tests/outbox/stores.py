"""A store and a network of our own, both as bad as a test wants them to be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from toril.engine.ports.jobs import Added
from toril.errors import EngineUnavailable
from toril.jobs.model import NewJob
from toril.outbox.destination import Destination

OPTS = '{"attempts":3}'


def job(id: str, **fields: Any) -> NewJob:
    return NewJob(id, "work", "{}", OPTS, 0)._replace(**fields)


class Store(Destination):
    """Remembers batches, and nothing of their jobs: what it gets twice under two ids it runs twice.

    `faults` are called in turn with what is sent, one per call: before it arrives, or after (`late`).
    """

    def __init__(self) -> None:
        self.added: list[tuple[str, str]] = []
        self.batches: dict[str, Added] = {}
        self.before: list[Callable[[], None]] = []
        self.after: list[Callable[[], None]] = []
        self.refuses: dict[str, Exception] = {}
        self.closed_queues: dict[str, Exception] = {}
        self.stands_for: dict[str, str] = {}
        self.known: set[str] = set()
        self.calls = 0

    async def is_away(self) -> bool:
        return False

    async def forward(self, queue: str, jobs: Sequence[NewJob], *, batch: str, now: int) -> Added:
        self.calls += 1
        if self.before:
            self.before.pop(0)()
        if queue in self.closed_queues:
            raise self.closed_queues[queue]
        answer = self.batches.get(batch)
        if answer is None:
            for each in jobs:
                if each.id in self.refuses:
                    raise self.refuses[each.id]
            ids = tuple(self.stands_for.get(each.id, each.id) for each in jobs)
            answer = Added(ids, tuple(id_ == each.id for id_, each in zip(ids, jobs, strict=True)))
            self.batches[batch] = answer
            self.added += [(queue, id_) for id_ in ids]
        if self.after:
            self.after.pop(0)()
        return answer

    async def has_any(self, queue: str, ids: Iterable[str]) -> bool:
        return bool(self.known & set(ids))

    def of(self, queue: str) -> list[str]:
        """The jobs of a queue, in the order in which they came."""
        return [id_ for where, id_ in self.added if where == queue]


def fine() -> None:
    """Nothing goes wrong."""


def partly_away() -> EngineUnavailable:
    """What a cluster says of queues whose node is away."""
    error = EngineUnavailable("one node is away", ambiguous=True)
    error.partial = True
    return error


def lost() -> None:
    """The connection breaks."""
    raise EngineUnavailable("gone", ambiguous=True)
