"""Deleting what has been kept long enough, always a bounded part at a time."""

from __future__ import annotations

from toril.engine.sqlite.adding import batches_minute
from toril.engine.sqlite.channels import remove_expired
from toril.engine.sqlite.statements import load
from toril.engine.sqlite.transaction import Transaction
from toril.engine.sqlite.unique import forget_expired
from toril.jobs.options import Keep

_SQL = load("jobs")
_MOST_PER_FINISH = 1000
_CHANNELS_PER_PART = 50


def prune_finished(tx: Transaction, queue_id: int, state: int, keep: Keep, now: int, limit: int) -> int:
    """Delete Toril's own jobs of a finished state that are past their bounds. Answers how many."""
    deleted = _too_old(tx, queue_id, state, keep, now, foreign=False, limit=limit)
    if keep.count is not None and deleted < limit:
        ours = tx.value(_SQL["count"], queue=queue_id, state=state)
        if ours > keep.count:
            ours -= tx.value(_SQL["count_foreign"], queue=queue_id, state=state)
            deleted += _too_many(tx, queue_id, state, ours - keep.count, foreign=False, limit=limit - deleted)
    return deleted


def keep_finished(tx: Transaction, queue_id: int, state: int, keep: Keep, now: int) -> None:
    """Apply a retention that a job brought along to all finished jobs of its queue, whoever made them."""
    _too_old(tx, queue_id, state, keep, now, foreign=True, limit=_MOST_PER_FINISH)
    if keep.count is not None:
        excess = tx.value(_SQL["count"], queue=queue_id, state=state) - keep.count
        _too_many(tx, queue_id, state, excess, foreign=True, limit=_MOST_PER_FINISH)


def prune_events(tx: Transaction, queue_id: int, keep: int, limit: int) -> None:
    """Delete all but about the newest `keep` events of a queue, and note up to where."""
    # Events come several to a job, so more of them may go than jobs.
    last = tx.value(_SQL["note_pruned"], queue=queue_id, keep=keep, limit=limit * 5)
    if last is not None:
        tx.run(_SQL["prune_events"], queue=queue_id, last=last)


def forget_replies(tx: Transaction, now: int, limit: int) -> None:
    """Delete remembered batches and exchanges that nobody will repeat any more, unique keys that are free, and channels
    whose time is over.
    """
    tx.run(_SQL["forget_batches"], minute=batches_minute(now), limit=limit)
    tx.run(_SQL["forget_exchanges"], now=now, limit=limit)
    forget_expired(tx, now, limit)
    remove_expired(tx, now, channels=_CHANNELS_PER_PART, messages=limit)


def _too_old(tx: Transaction, queue_id: int, state: int, keep: Keep, now: int, *, foreign: bool, limit: int) -> int:
    if keep.age_s is None:
        return 0
    before = now - round(keep.age_s * 1000)
    return tx.run(_SQL["prune_old"], queue=queue_id, state=state, before=before, foreign=foreign, limit=limit)


def _too_many(tx: Transaction, queue_id: int, state: int, excess: int, *, foreign: bool, limit: int) -> int:
    if excess <= 0:
        return 0
    return tx.run(_SQL["prune_many"], queue=queue_id, state=state, foreign=foreign, limit=min(excess, limit))
