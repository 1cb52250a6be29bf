"""What an application says of its queues, each thing once."""

from __future__ import annotations

from typing import Any, TypeVar

from toril.errors import ConfigError
from toril.jobs.limits import QueueLimits, limits_of
from toril.jobs.options import Retention
from toril.jobs.telling import Told, told_of

V = TypeVar("V")


class DeclaredQueues:
    """The declarations of one application, by the name of the queue."""

    def __init__(self) -> None:
        self.retentions: dict[str, Retention] = {}
        self.limits: dict[str, QueueLimits] = {}
        self.told: dict[str, Told] = {}

    def declare(
        self, name: str, *, retention: Retention | None, concurrency: int | None, rate: str | None, events: Any
    ) -> None:
        """What is None is not said. Raises ConfigError for bad values, and when two declarations differ."""
        if concurrency is not None or rate is not None:
            _agree(self.limits, name, limits_of(concurrency, rate), "limits")
        if retention is not None:
            _agree(self.retentions, name, retention, "retentions")
        if events is not None:
            _agree(self.told, name, told_of(events), "kinds of events")


def _agree(table: dict[str, V], name: str, value: V, what: str) -> None:
    if table.setdefault(name, value) != value:
        raise ConfigError(f"Queue {name!r} is declared with two {what}: {table[name]} and {value}.")
