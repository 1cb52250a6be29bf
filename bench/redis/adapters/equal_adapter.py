"""Toril with the very options of the BullMQ peers, and ids that are given, as long as its own."""

from __future__ import annotations

from collections.abc import Sequence

from bench.redis.adapters.toril_adapter import TorilAdapter
from toril.jobs.retry import Exponential


class EqualAdapter(TorilAdapter):
    """`bullmq.mjs` gives the same ids."""

    backoff = Exponential(1.0)

    async def enqueue_all(self, task: str, numbers: Sequence[int]) -> None:
        chosen = self._tasks[task]
        await self._toril.enqueue_many(chosen.with_options(id=f"job-{number:016}").call(number) for number in numbers)


make = EqualAdapter
