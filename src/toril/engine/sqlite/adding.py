"""Adding jobs: one transaction for a whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from toril.engine.ports.jobs import BATCH_MEMORY_MS, LONG_MEMORY_MS, Added
from toril.engine.sqlite.inserting import insert_jobs, queue_number
from toril.engine.sqlite.kin import settle_deleted
from toril.engine.sqlite.statements import load
from toril.engine.sqlite.transaction import Transaction
from toril.engine.sqlite.unique import claim, own
from toril.jobs.model import NewJob
from toril.kernel import codec

_SQL = load("jobs")
_MINUTE_MS = 60_000
_HOUR = 60
# One more than what is promised, because the minutes are counted whole.
_SHORT_MINUTES = BATCH_MEMORY_MS // _MINUTE_MS + 1
_LONG_MINUTES = LONG_MEMORY_MS // _MINUTE_MS + _HOUR


def add_jobs(
    tx: Transaction, *, queue: str, jobs: Sequence[NewJob], batch: str, now: int, remember_ms: int = BATCH_MEMORY_MS
) -> Added:
    """Store jobs that are not there yet; a batch that was added before adds nothing."""
    ids = tuple(job.id for job in jobs)
    earlier = added_before(tx, ids, batch, now, remember_ms)
    if earlier is not None:
        return earlier
    queue_id = queue_number(tx, queue)
    if any(job.unique is not None for job in jobs):
        added = _one_by_one(tx, queue_id, jobs, now)
    else:
        newest = tx.value(_SQL["newest"])
        full = insert_jobs(tx, queue_id, jobs, now) == len(ids)
        added = Added(ids, tuple(True for _ in ids) if full else _created(tx, queue_id, ids, newest))
    remember(tx, batch, added.remembered(ids), now, remember_ms)
    if any(added.created):
        tx.touched |= {f"w:{queue}", f"e:{queue}"}
    return added


def added_before(
    tx: Transaction, ids: tuple[str, ...], batch: str, now: int, remember_ms: int = BATCH_MEMORY_MS
) -> Added | None:
    """What was answered to a batch that was added before; None for a new one."""
    minutes = _minutes(now // _MINUTE_MS, remember_ms > BATCH_MEMORY_MS)
    earlier = tx.value(_SQL["batch"], batch=batch, minutes=minutes)
    return None if earlier is None else Added.recalled(ids, earlier)


def remember(tx: Transaction, batch: str, answer: str, now: int, remember_ms: int = BATCH_MEMORY_MS) -> None:
    """Keep what is answered to a batch."""
    minute = now // _MINUTE_MS
    if remember_ms > BATCH_MEMORY_MS:
        # In whole hours, so that there are few places to look at.
        minute = (minute + _LONG_MINUTES) // _HOUR * _HOUR
    else:
        minute += _SHORT_MINUTES
    tx.run(_SQL["remember_batch"], batch=batch, minute=minute, created=answer)


@lru_cache(maxsize=8)
def _minutes(minute: int, long: bool) -> str:
    """The minutes in which the memory of a batch that is still remembered can end."""
    minutes = list(range(minute, minute + _SHORT_MINUTES + 1))
    if long:
        minutes += range((minute + _SHORT_MINUTES) // _HOUR * _HOUR + _HOUR, minute + _LONG_MINUTES + 1, _HOUR)
    return codec.encode(minutes)


def batches_minute(now: int) -> int:
    """The first minute in which the memory of a batch may end that is still remembered."""
    return now // _MINUTE_MS


def _one_by_one(tx: Transaction, queue_id: int, jobs: Sequence[NewJob], now: int) -> Added:
    """Jobs with unique keys: each may meet one that stands before it in the same batch."""
    ids: list[str] = []
    created: list[bool] = []
    for job in jobs:
        known = tx.value(_SQL["cancelling"], queue=queue_id, id=job.id) is not None
        owner = None if known else claim(tx, queue_id, job, now)
        if job.unique is not None and job.unique.replace:
            settle_deleted(tx, now)
        ids.append(job.id if owner is None else owner)
        created.append(not known and owner is None)
        if created[-1]:
            insert_jobs(tx, queue_id, [job], now)
            own(tx, queue_id, job)
    return Added(tuple(ids), tuple(created))


def _created(tx: Transaction, queue_id: int, ids: Sequence[str], newest: int) -> tuple[bool, ...]:
    """Which jobs were not there before: not the ones that are older than the batch, nor the second of two in it."""
    known = set(codec.decode(tx.value(_SQL["among_older"], queue=queue_id, newest=newest, ids=codec.encode(ids))))
    created = []
    for id_ in ids:
        created.append(id_ not in known)
        known.add(id_)
    return tuple(created)
