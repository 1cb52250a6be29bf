"""Adding jobs: one transaction for a whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from toril.engine.ports.jobs import Added
from toril.engine.sqlite.rows import DELAYED, line_place, line_state
from toril.engine.sqlite.statements import load
from toril.engine.sqlite.transaction import Transaction
from toril.jobs.model import NewJob
from toril.kernel import codec

_SQL = load("jobs")
_MINUTE_MS = 60_000
# One more than the ten that are promised, because the minutes are counted whole.
BATCH_REMEMBERED_MINUTES = 11
_OURS = '"toril":{'


def add_jobs(tx: Transaction, *, queue: str, jobs: Sequence[NewJob], batch: str, now: int) -> Added:
    """Store jobs that are not there yet; a batch that was added before adds nothing."""
    ids = tuple(job.id for job in jobs)
    minute = now // _MINUTE_MS
    earlier = tx.value(_SQL["batch"], batch=batch, minutes=_minutes(minute))
    if earlier is not None:
        return Added(ids, tuple(flag == "1" for flag in earlier))
    queue_id = queue_number(tx, queue)
    newest = tx.value(_SQL["newest"])
    added = tx.spread(_SQL["insert"], _rows(tx, queue_id, jobs, now)) if jobs else 0
    created = tuple(True for _ in ids) if added == len(ids) else _created(tx, queue_id, ids, newest)
    flags = "".join("1" if each else "0" for each in created)
    tx.run(_SQL["remember_batch"], batch=batch, minute=minute + BATCH_REMEMBERED_MINUTES, created=flags)
    if added:
        tx.touched |= {f"w:{queue}", f"e:{queue}"}
    return Added(ids, created)


@lru_cache(maxsize=4)
def _minutes(minute: int) -> str:
    """The minutes in which the memory of a batch that is still remembered can end."""
    return codec.encode(list(range(minute, minute + BATCH_REMEMBERED_MINUTES + 1)))


def batches_minute(now: int) -> int:
    """The first minute in which the memory of a batch may end that is still remembered."""
    return now // _MINUTE_MS


def emit(tx: Transaction, queue_id: int, events: Sequence[tuple[int, str, int, int | None, str | None]]) -> None:
    """Write events that no change of state writes by itself, given as (kind, job, at, state before, data)."""
    first = tx.value(_SQL["number_events"], queue=queue_id, n=len(events)) - len(events) + 1
    tx.spread(_SQL["emit"], [(queue_id, first + offset, *event) for offset, event in enumerate(events)])


def queue_number(tx: Transaction, queue: str) -> int:
    """The number of a queue, which is made if it is new."""
    found: int | None = tx.value(_SQL["queue"], queue=queue)
    return int(tx.value(_SQL["make_queue"], queue=queue)) if found is None else found


def _rows(tx: Transaction, queue_id: int, jobs: Sequence[NewJob], now: int) -> list[tuple[Any, ...]]:
    # Among jobs of one priority there is no front: lifo concerns the jobs without one.
    ahead = sum(1 for job in jobs if job.lifo and not job.priority)
    behind = len(jobs) - ahead
    back = tx.value(_SQL["back_of_line"], queue=queue_id, n=behind) - behind if behind else 0
    # The last of several lifo jobs stands foremost, so their places are given from the old front downwards.
    front = tx.value(_SQL["front_of_line"], queue=queue_id, n=ahead) + ahead if ahead else 0
    rows = []
    for id_, name, data, opts, timestamp, delay_ms, priority, lifo in jobs:
        foremost = lifo and not priority
        if foremost:
            front -= 1
        else:
            back += 1
        if delay_ms > 0:
            state, place = DELAYED, now + delay_ms
        else:
            state, place = line_state(priority), line_place(priority, front if foremost else back)
        foreign = 0 if _OURS in opts else 1
        rows.append((id_, queue_id, state, place, name, data, opts, foreign, priority, timestamp, now))
    return rows


def _created(tx: Transaction, queue_id: int, ids: Sequence[str], newest: int) -> tuple[bool, ...]:
    """Which jobs were not there before: not the ones that are older than the batch, nor the second of two in it."""
    known = set(codec.decode(tx.value(_SQL["among_older"], queue=queue_id, newest=newest, ids=codec.encode(ids))))
    created = []
    for id_ in ids:
        created.append(id_ not in known)
        known.add(id_)
    return tuple(created)
