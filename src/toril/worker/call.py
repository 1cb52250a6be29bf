"""One exchange as it is sent, and sent again until it is answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from toril.engine.ports.jobs import Finish
from toril.jobs.outcome import Done, Failed, Outcome, Retry
from toril.worker.options import MOST_BYTES_PER_CALL, MOST_JOBS_PER_CALL


class Call(NamedTuple):
    """An exchange that has not been answered: repeated as it is until it is."""

    seq: int
    token: str
    finished: tuple[Finish, ...]
    want: int
    began: float


def batch_of(gathered: Sequence[Finish]) -> tuple[Finish, ...]:
    """As many ends of runs, the oldest first, as one exchange carries."""
    size = 0
    batch = gathered[:MOST_JOBS_PER_CALL]
    for number, finish in enumerate(batch):
        size += _size(finish.outcome)
        if size > MOST_BYTES_PER_CALL and number:
            return tuple(batch[:number])
    return tuple(batch)


def _size(outcome: Outcome) -> int:
    """About how many bytes an outcome has."""
    if isinstance(outcome, Done):
        text = outcome.result
        return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return len(outcome.reason) + len(outcome.stack) if isinstance(outcome, Retry | Failed) else 0
