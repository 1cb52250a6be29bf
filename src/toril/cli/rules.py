"""What holds for a queue over all workers, for people and scripts: its limits, what it tells, who maintains it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from toril.engine.protocol import Engine
from toril.jobs.limits import QueueLimits
from toril.jobs.telling import Told
from toril.kernel.durations import Rate

_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms"))


class QueueRules(NamedTuple):
    """The rules of one queue. `maintainer` is the id of the worker that looks after it; a quiet queue needs none."""

    limits: QueueLimits = QueueLimits()
    told: Told = Told.ALL
    maintainer: str | None = None

    def sentence(self) -> str:
        """What is not as by default, such as `5 at once, 3000/s, events off`; empty when nothing is."""
        concurrency, rate = self.limits
        parts = [
            "" if concurrency is None else f"{concurrency:,} at once",
            "" if rate is None else rate_text(rate),
            "" if self.told is Told.ALL else f"events {self.told}",
        ]
        return ", ".join(part for part in parts if part)

    def to_json(self) -> dict[str, object]:
        """For scripts."""
        concurrency, rate = self.limits
        return {
            "concurrency": concurrency,
            "rate": None if rate is None else rate_text(rate),
            "events": self.told.value,
            "maintainer": self.maintainer,
        }


async def rules_of(engine: Engine, queues: Iterable[str], now: int) -> dict[str, QueueRules]:
    """The rules of these queues. Raises EngineUnavailable."""
    names = list(queues)
    limits = await asyncio.gather(*(engine.inspect.limits(name) for name in names))
    told = await asyncio.gather(*(engine.inspect.told(name) for name in names))
    holders = await engine.leases.holders(names, now=now)
    return {
        name: QueueRules(*rules) for name, rules in zip(names, zip(limits, told, holders, strict=True), strict=True)
    }


def rate_text(rate: Rate) -> str:
    """As it is declared: `3000/s`, `1000/15m`."""
    length, unit = next((length, unit) for length, unit in _UNITS if rate.per_ms % length == 0)
    number = rate.per_ms // length
    return f"{rate.most}/{'' if number == 1 else number}{unit}"
