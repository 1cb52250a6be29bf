"""`LeaseStore`: who of several processes does what only one needs to do for a queue.

A lease belongs to one holder until it runs out or is given back; who holds it renews it. Its holder may have stopped
without knowing, so what is done under a lease must do no harm when two do it. `now` is wall time in milliseconds. Every
method raises EngineUnavailable when the store is away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Lease(NamedTuple):
    """The answer to `hold`: whether the asker has the lease, and in how many milliseconds it runs out."""

    mine: bool
    left_ms: int


class LeaseStore(Protocol):
    """One lease per queue."""

    async def hold(self, queue: str, holder: str, *, ttl_ms: int, now: int) -> Lease:
        """Take the lease of a queue if nobody has it, or renew it if `holder` has it: until `now + ttl_ms`."""
        ...

    async def release(self, queue: str, holder: str, *, now: int) -> bool:
        """Give the lease back, so that the next who asks has it. False when `holder` did not have it."""
        ...

    async def holders(self, queues: Sequence[str], *, now: int) -> tuple[str | None, ...]:
        """Who has the lease of each queue; None where nobody has."""
        ...
