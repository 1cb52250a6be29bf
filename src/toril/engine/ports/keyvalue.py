"""`KeyValueStore`: values with an expiry, shared by all processes. Every key expires.

Keys are text of 1 to 512 characters, values bytes. `now` is wall time in milliseconds. `timeout_s`: after so many
seconds EngineUnavailable is raised, if that is sooner than the store's own deadline; an embedded store has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class KeyPage(NamedTuple):
    """A page of keys. `cursor` goes into the next call; None on the last page."""

    keys: tuple[str, ...]
    cursor: str | None


class KeyValueStore(Protocol):
    """Small values with a time to live."""

    async def get(self, keys: Sequence[str], *, now: int, timeout_s: float | None = None) -> tuple[bytes | None, ...]:
        """The values of `keys`, None where there is none or it has expired."""
        ...

    async def set(
        self, items: Sequence[tuple[str, bytes]], *, ttl_ms: int, now: int, timeout_s: float | None = None
    ) -> None:
        """Store values, all or none, each until `now + ttl_ms`."""
        ...

    async def replace(
        self,
        key: str,
        value: bytes | None,
        *,
        expected: bytes | None,
        ttl_ms: int,
        now: int,
        timeout_s: float | None = None,
    ) -> bool:
        """Compare and set: store `value` (None deletes) only if the present value is `expected` (None: only if there
        is none).
        """
        ...

    async def delete(self, keys: Sequence[str], *, timeout_s: float | None = None) -> int:
        """Delete keys. Answers how many there were."""
        ...

    async def scan(self, prefix: str, *, now: int, limit: int = 1000, cursor: str | None = None) -> KeyPage:
        """Keys that begin with `prefix`, page by page, each at least once if it lives throughout."""
        ...
