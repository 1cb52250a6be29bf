"""`LimitStore`: how much of a limit has been used up, counted for all processes together.

A check is one key under one limit, in one of two ways, both in constant memory and time per key:

* a sliding window (`burst` 0): never more than `most` within any `per_ms`. It is counted in 16 parts, and what was
  counted comes free when its whole part has left the window: up to a sixteenth of the window late, never early.
* GCRA (`burst` from 1 on): one more becomes free every `per_ms / most`, and up to `burst` may come at once.

`now` is wall time in milliseconds. Keys are text of 1 to 512 characters. What is refused is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

NEVER = -1


class Check(NamedTuple):
    """One key under one limit. `cost` is how much to count; 0 only asks."""

    key: str
    most: int
    per_ms: int
    burst: int = 0
    cost: int = 1


class Verdict(NamedTuple):
    """What became of a check. `remaining` is how much is left after it; `retry_ms` 0 when there was room for it, else
    the wait until there is, NEVER when its cost is above the limit; `reset_ms` the wait until all is free again.
    """

    remaining: int
    retry_ms: int
    reset_ms: int


class LimitStore(Protocol):
    """Counting against limits."""

    async def take(
        self, checks: Sequence[Check], *, now: int, count: bool = True, timeout_s: float | None = None
    ) -> tuple[Verdict, ...]:
        """Check several limits in one step, each key at most once: either there is room in all and all are counted, or
        none is. With `count` false nothing is counted. In a Redis Cluster this holds for keys of one slot; those of
        others are asked one after the other, and what was counted before a refusal stays counted.

        `timeout_s`: after so many seconds EngineUnavailable is raised, if that is sooner than the store's own deadline.
        """
        ...

    async def reset(self, keys: Sequence[str]) -> int:
        """Forget what was counted for keys. Answers how many had something counted."""
        ...
