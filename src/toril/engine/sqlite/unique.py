"""Unique keys: which job has one, and what becomes of it when that job ends."""

from __future__ import annotations

from collections.abc import Iterable

from toril.engine.sqlite.inserting import emit, insert_jobs
from toril.engine.sqlite.rows import ACTIVE, DELAYED, REMOVED
from toril.engine.sqlite.statements import load
from toril.engine.sqlite.transaction import Transaction
from toril.jobs.model import NewJob
from toril.jobs.unique import UniqueKey
from toril.kernel import codec

_SQL = load("unique")


def claim(tx: Transaction, queue_id: int, job: NewJob, now: int) -> str | None:
    """Take a new job's key for it, and answer None; or answer the id of the job that has the key."""
    key = job.unique
    if key is None:
        return None
    held_until = None if key.held_ms is None else now + key.held_ms
    row = tx.row(_SQL["owner"], queue=queue_id, key=key.id, now=now)
    if row is None:
        tx.run(_SQL["hold"], queue=queue_id, key=key.id, job=job.id, expires=held_until)
        return None
    owner, expires, seq, state = row
    if key.replace and state == DELAYED:
        tx.run(_SQL["delete_owner"], seq=seq)
        emit(tx, queue_id, [(REMOVED, owner, now, DELAYED, None)])
        until = expires if key.held_ms is not None and not key.extend else held_until
        tx.run(_SQL["hold"], queue=queue_id, key=key.id, job=job.id, expires=until)
        return None
    if key.keep_last and state == ACTIVE:
        kept = codec.encode([job.id, job.name, job.data, job.opts, job.delay_ms, job.priority, job.lifo])
        tx.run(_SQL["keep_last"], queue=queue_id, key=key.id, kept=kept)
    elif key.extend and held_until is not None and not key.replace:
        tx.run(_SQL["prolong"], queue=queue_id, key=key.id, expires=held_until)
    return str(owner)


def own(tx: Transaction, queue_id: int, job: NewJob) -> None:
    """Note in a stored job which key it has."""
    if job.unique is not None:
        tx.run(_SQL["own"], queue=queue_id, id=job.id, key=job.unique.id)


def owner_ended(tx: Transaction, queue_id: int, id: str, key: str, now: int) -> bool:
    """Free the key of a job that has ended, unless a window holds it. The last of the calls that came while the job
    was running, if they are kept, becomes a job. Answers whether it did.
    """
    row = tx.row(_SQL["held"], queue=queue_id, key=key, job=id)
    if row is None:
        return False
    if row[0] is None:
        tx.run(_SQL["free"], queue=queue_id, key=key, job=id)
        return False
    next_id, name, data, opts, delay_ms, priority, lifo = codec.decode(row[0])
    unique = UniqueKey(key, keep_last=True)
    job = NewJob(next_id, name, data, opts, now, delay_ms, priority, lifo, unique)
    tx.run(_SQL["hold"], queue=queue_id, key=key, job=next_id, expires=None)
    insert_jobs(tx, queue_id, [job], now)
    own(tx, queue_id, job)
    return True


def free_removed(tx: Transaction, queue_id: int, removed: Iterable[tuple[str, str | None]]) -> None:
    """Free the keys of jobs, given as (id, key), that were deleted on somebody's order, whatever held them."""
    for id_, key in removed:
        if key is not None:
            tx.run(_SQL["free"], queue=queue_id, key=key, job=id_)


def forget_expired(tx: Transaction, now: int, limit: int) -> None:
    """Delete keys whose window is over."""
    tx.run(_SQL["forget_expired"], now=now, limit=limit)
