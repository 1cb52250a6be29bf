"""Rows of new jobs, queues and events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toril.engine.sqlite.rows import DELAYED, LOG, PROGRESS, line_place, line_state
from toril.engine.sqlite.statements import load
from toril.engine.sqlite.transaction import Transaction
from toril.jobs.model import NewJob

_SQL = load("jobs")
# What a queue tells that is to tell how jobs end.
_REPORTED = (PROGRESS, LOG)
_OURS = '"toril":{'


def insert_jobs(tx: Transaction, queue_id: int, jobs: Sequence[NewJob], now: int) -> int:
    """Store jobs that are not there yet. Answers how many."""
    return tx.spread(_SQL["insert"], job_rows(tx, queue_id, jobs, now)) if jobs else 0


def emit(tx: Transaction, queue_id: int, events: Sequence[tuple[int, str, int, int | None, str | None]]) -> None:
    """Write events that no change of state writes by itself, given as (kind, job, at, state before, data)."""
    last, told = tx.row(_SQL["number_events"], queue=queue_id, n=len(events)) or (0, 0)
    first = last - len(events) + 1
    rows = [
        (queue_id, first + at, *event)
        for at, event in enumerate(events)
        if not told or (told == 1 and event[0] in _REPORTED)
    ]
    if rows:
        tx.spread(_SQL["emit"], rows)


def queue_number(tx: Transaction, queue: str) -> int:
    """The number of a queue, which is made if it is new."""
    found: int | None = tx.value(_SQL["queue"], queue=queue)
    return int(tx.value(_SQL["make_queue"], queue=queue)) if found is None else found


def job_rows(tx: Transaction, queue_id: int, jobs: Sequence[NewJob], now: int) -> list[tuple[Any, ...]]:
    """Parameters for the statement `insert`, with their places in line taken."""
    # Among jobs of one priority there is no front: lifo concerns the jobs without one.
    ahead = sum(1 for job in jobs if job.lifo and not job.priority)
    behind = len(jobs) - ahead
    back = tx.value(_SQL["back_of_line"], queue=queue_id, n=behind) - behind if behind else 0
    # The last of several lifo jobs stands foremost, so their places are given from the old front downwards.
    front = tx.value(_SQL["front_of_line"], queue=queue_id, n=ahead) + ahead if ahead else 0
    rows = []
    for id_, name, data, opts, timestamp, delay_ms, priority, lifo, _ in jobs:
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
