"""Jobs on their way to a store that may be away: batches whose content and id are fixed before they are sent.

A batch is *sent* from the moment at which it is fixed: whether the store has it is not known until it answers. The
store remembers its id, so that it may be sent again until `until`. After that its fate is *unknown* and nobody sends it
by himself. A batch that the store does not want is *refused*, and surely not stored.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from toril.jobs.model import CancelRequest, Job, NewJob


class Batch(NamedTuple):
    """Jobs that are added to one queue in one step. `number` is its place among batches, `now` the time with which it
    is added each time, `until` when the store may have forgotten it (milliseconds).
    """

    number: int
    id: str
    queue: str
    jobs: tuple[NewJob, ...]
    now: int
    until: int


class Sent(NamedTuple):
    """A batch that the store has answered. `others` are jobs for which another one stands (unique keys): own id → the
    other's.
    """

    batch: Batch
    others: Mapping[str, str]


class Fate(StrEnum):
    """Why a batch was set aside."""

    UNKNOWN = "unknown"
    REFUSED = "refused"


class SetAside(NamedTuple):
    """A batch that nobody sends by himself. `since` is when that was decided (milliseconds)."""

    id: str
    queue: str
    job_ids: tuple[str, ...]
    fate: Fate
    reason: str
    since: int


class SpoolStats(NamedTuple):
    """How a spool is. `jobs` wait for the store, of which `sent` may be there already; `oldest` is the time at which
    the first of them came (milliseconds), None without any. `set_aside` jobs are in batches of unknown fate, or
    refused. `foreign` jobs wait for another store than this one.
    """

    location: str
    jobs: int
    sent: int
    set_aside: int
    foreign: int
    bytes: int
    limit: int
    oldest: int | None


class BatchSource(Protocol):
    """Where batches come from that are to be sent to a store. All methods raise EngineError."""

    async def claim(self, done: Sequence[Sent], *, now: int, skip: Collection[str]) -> tuple[Batch, ...]:
        """Forget what the store has, then answer what to send next, in order: first what was fixed and may have been
        sent, else new batches, which are durable when this returns. Of queues in `skip` nothing is answered.
        """
        ...

    async def settle(self, done: Sequence[Sent], *, now: int) -> None:
        """Forget what the store has."""
        ...

    async def split(self, batch: Batch, *, now: int) -> None:
        """Make each job of a batch that is surely not stored a batch of its own."""
        ...

    async def set_aside(self, batch: Batch, fate: Fate, reason: str, *, now: int) -> None:
        """Keep a batch for a person to decide about."""
        ...


class Spool(BatchSource, Protocol):
    """A durable file beside the application, for jobs of one store. Several processes may use it."""

    location: str

    async def put(self, queue: str, jobs: Sequence[NewJob], *, batch: str | None, until: int, now: int) -> None:
        """Keep jobs, all or none; they are durable when this returns. With `batch`, the id with which they may have
        been sent already, and until when that is remembered. Raises SpoolFull.
        """
        ...

    async def waits(self) -> bool:
        """Whether there is anything to send."""
        ...

    async def find(self, id: str) -> Job | str | None:
        """A job that waits here, or was cancelled here; the id of another that stands for it; None for neither."""
        ...

    async def cancel(self, id: str, request: CancelRequest) -> bool:
        """Cancel a job that waits here. False when it is not here, or may have been sent."""
        ...

    async def stats(self) -> SpoolStats:
        """How full it is."""
        ...

    async def listed(self) -> tuple[SetAside, ...]:
        """What was set aside, oldest first."""
        ...

    async def again(self, batch: str, *, now: int) -> bool:
        """Send a batch that was set aside once more, under a new id. False without such a batch."""
        ...

    async def drop(self, batch: str) -> bool:
        """Delete a batch that was set aside. False without such a batch."""
        ...

    def exists(self) -> bool:
        """Whether there is a file."""
        ...

    def problem(self) -> str | None:
        """Why it could not take jobs, if there is a reason; looks at its place only."""
        ...

    def try_lock(self) -> bool:
        """Be the only one, of all processes, who forwards. False while another one does."""
        ...

    def unlock(self) -> None:
        """Let another one forward. Without the lock, nothing happens."""
        ...

    async def close(self) -> None:
        """Let go of the file. Closing twice is once; the next use opens it again."""
        ...
