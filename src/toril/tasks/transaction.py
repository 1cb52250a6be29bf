"""Jobs that are stored with a transaction of the application's own database."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from toril.errors import ConfigError
from toril.jobs.model import NewJob

_LONGEST_KEY = 255


class Ordered(NamedTuple):
    """A transaction, and the key in whose order its jobs come to their queue. Made by `ordered`."""

    transaction: object
    key: str


def ordered(transaction: object, key: str) -> Ordered:
    """For `task.enqueue_in(ordered(session, "order:42"), …)`: jobs of one queue and key are handed on in the order in
    which they were enqueued, if their transactions were one after the other. Raises ConfigError.
    """
    if not isinstance(key, str) or not 0 < len(key) <= _LONGEST_KEY:
        raise ConfigError(f"ordered: expected a key of 1 to {_LONGEST_KEY} characters, got {key!r}.")
    return Ordered(transaction, key)


class TransactionWriter(Protocol):
    """Where jobs are put with a transaction. `transaction` may be Ordered. Raises ConfigError for one that is not
    known, and what its database raises.
    """

    async def put(self, transaction: object, queue: str, job: NewJob, now: int) -> None:
        """Store a job with a transaction."""
        ...

    def put_sync(self, transaction: object, queue: str, job: NewJob, now: int) -> None:
        """The same for transactions that are not async."""
        ...

    def on_commit(self, transaction: object, call: Callable[[], None]) -> None:
        """Call something when it has been committed."""
        ...
