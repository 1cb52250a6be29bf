"""What the end of a job means for its parent, and what children mean for the end of a job.

Called with jobs that are kin (`jobs.kin`) only; all others never come here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from toril.engine.ports.jobs import Code
from toril.engine.sqlite.inserting import emit
from toril.engine.sqlite.rows import ACTIVE, DELAYED, FAILED, REMOVED, WAITING_CHILDREN, line_place, line_state
from toril.engine.sqlite.statements import load
from toril.engine.sqlite.transaction import Transaction
from toril.engine.sqlite.unique import free_removed
from toril.jobs.flow import OnFailure
from toril.kernel import codec

CHILD, PARENT = 1, 2
PENDING, COMPLETED_CHILD, FAILED_CHILD, UNSUCCESSFUL = range(4)
NUMBERS = {
    None: 0,
    OnFailure.FAIL: 1,
    OnFailure.CONTINUE: 2,
    OnFailure.IGNORE: 3,
    OnFailure.REMOVE: 4,
}

_SQL = load("flows")


def blocked(tx: Transaction, parents: Sequence[int]) -> dict[int, Code]:
    """Why jobs cannot be completed, of those whose children forbid it."""
    codes = {}
    for seq, pending, unsuccessful in codec.decode(tx.value(_SQL["blocked"], seqs=codec.encode(parents))):
        if pending:
            codes[seq] = Code.PENDING_CHILDREN
        elif unsuccessful:
            codes[seq] = Code.FAILED_CHILDREN
    return codes


def child_ended(tx: Transaction, child: int, well: bool, text: str, now: int) -> None:
    """A job is completed with the result `text`, or failed for the reason `text`: tell the parent that waits for it."""
    row = tx.row(_SQL["pending"], child=child)
    if row is None:
        return
    parent, policy, queue, id_ = row
    if well:
        tx.run(_SQL["settle"], parent=parent, child=child, state=COMPLETED_CHILD, value=text)
        release(tx, parent, now)
    elif policy == NUMBERS[OnFailure.FAIL]:
        tx.run(_SQL["settle"], parent=parent, child=child, state=UNSUCCESSFUL, value=None)
        _condemn(tx, parent, f"child {queue}:{id_} failed", now)
    elif policy == NUMBERS[OnFailure.CONTINUE]:
        tx.run(_SQL["settle"], parent=parent, child=child, state=FAILED_CHILD, value=text)
        _hurry(tx, parent, now)
    elif policy == NUMBERS[OnFailure.IGNORE]:
        tx.run(_SQL["settle"], parent=parent, child=child, state=FAILED_CHILD, value=text)
        release(tx, parent, now)
    elif policy == NUMBERS[OnFailure.REMOVE]:
        tx.run(_SQL["forget"], parent=parent, child=child)
        release(tx, parent, now)


def children_again(tx: Transaction, seqs: Iterable[int]) -> None:
    """Finished children go back in line: their parents wait for them again."""
    tx.run(_SQL["again"], seqs=codec.encode(list(seqs)))


def release(tx: Transaction, parent: int, now: int) -> None:
    """When nothing is pending any more, a parent that waits for its children runs, now or after its own delay."""
    row = tx.row(_SQL["waits"], parent=parent)
    if row is None or row[2] != WAITING_CHILDREN or row[5]:
        return
    queue_id, queue, _, priority, delay, _ = row
    if delay > 0:
        tx.run(_SQL["move"], seq=parent, state=DELAYED, place=now + delay, now=now, delay=0)
        tx.touched |= {f"w:{queue}", f"e:{queue}"}
    else:
        _to_front(tx, parent, queue_id, queue, priority, now)


def settle_deleted(tx: Transaction, now: int, *, hard: bool = False) -> None:
    """Jobs have been deleted: parents that waited for the last of them alone run. With `hard` those of the same queue
    are deleted instead.
    """
    while rows := tx.rows(_SQL["deleted"]):
        tx.run(_SQL["forget_deleted"])
        for parent, child_queue in rows:
            row = tx.row(_SQL["waits"], parent=parent)
            if row is None or row[2] != WAITING_CHILDREN or row[5]:
                continue
            if hard and row[1] == child_queue:
                free_removed(tx, row[0], tx.rows(_SQL["delete"], seq=parent))
            else:
                _to_front(tx, parent, row[0], row[1], 0, now)


class Descendant(NamedTuple):
    """A stored child, or child of a child."""

    seq: int
    id: str
    queue: int
    queue_name: str
    state: int
    place: int


def offspring(tx: Transaction, seqs: Iterable[int]) -> list[Descendant]:
    """The stored children of jobs, and theirs."""
    found: dict[int, Descendant] = {}
    level = list(seqs)
    while level:
        rows = [Descendant(*row) for row in tx.rows(_SQL["offspring"], seqs=codec.encode(level))]
        level = [row.seq for row in rows if row.seq not in found]
        found.update((row.seq, row) for row in rows)
    return list(found.values())


def is_locked(family: Sequence[Descendant], now: int) -> bool:
    """Whether a worker is running one of them."""
    return any(child.state == ACTIVE and child.place > now for child in family)


def tell_removed(tx: Transaction, family: Sequence[Descendant], now: int) -> None:
    """Write the events of descendants that were deleted."""
    for child in family:
        emit(tx, child.queue, [(REMOVED, child.id, now, child.state, None)])
        tx.touched.add(f"e:{child.queue_name}")


def _condemn(tx: Transaction, parent: int, reason: str, now: int) -> None:
    row = tx.row(_SQL["waits"], parent=parent)
    if row is not None and row[2] != FAILED:
        tx.run(_SQL["condemn"], seq=parent, reason=reason)
        _hurry(tx, parent, now)


def _hurry(tx: Transaction, parent: int, now: int) -> None:
    """The parent leaves its other children behind, if it still waits for them, or for its own delay."""
    row = tx.row(_SQL["waits"], parent=parent)
    if row is not None and row[2] in (WAITING_CHILDREN, DELAYED):
        _to_front(tx, parent, row[0], row[1], row[3], now, delay=row[4] if row[2] == WAITING_CHILDREN else 0)


def _to_front(tx: Transaction, seq: int, queue_id: int, queue: str, priority: int, now: int, *, delay: int = 0) -> None:
    position = tx.value(_SQL["back_of_line" if priority else "front_of_line"], queue=queue_id)
    state, place = line_state(priority), line_place(priority, position)
    tx.run(_SQL["move"], seq=seq, state=state, place=place, now=now, delay=delay)
    tx.touched |= {f"w:{queue}", f"e:{queue}"}
