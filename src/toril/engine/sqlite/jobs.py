"""`JobStore` on SQLite: each method is one operation of the writer thread, and so one transaction or part of one."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from toril.engine.ports.jobs import (
    BATCH_MEMORY_MS,
    Added,
    CancelAnswer,
    Code,
    Exchanged,
    Finish,
    JobStore,
    Lock,
    LogLine,
    Outlook,
    Progress,
    Recovered,
    Renewed,
    Requested,
)
from toril.engine.sqlite import finishing
from toril.engine.sqlite import kin as kin_of
from toril.engine.sqlite.adding import add_jobs
from toril.engine.sqlite.connection import SqliteThread
from toril.engine.sqlite.inserting import emit
from toril.engine.sqlite.limiting import Gate
from toril.engine.sqlite.pruning import forget_replies, keep_finished, prune_events, prune_finished
from toril.engine.sqlite.reporting import store_reports
from toril.engine.sqlite.rows import (
    ACTIVE,
    COMPLETED,
    FAILED,
    PRIORITIZED,
    STALLED,
    WAITING,
    cancel_entry,
    cancel_of,
    history_entry,
    line_place,
    line_state,
    sayable,
)
from toril.engine.sqlite.statements import load
from toril.engine.sqlite.transaction import Transaction
from toril.engine.sqlite.unique import owner_ended
from toril.engine.sqlite.wakeups import Wakeups
from toril.jobs import outcome
from toril.jobs.model import AttemptRecord, CancelRequest, NewJob, TakenJob
from toril.jobs.options import Keep
from toril.jobs.outcome import failed_reason
from toril.jobs.states import Cause
from toril.kernel import codec

_SQL = load("jobs")
_MOST_PROMOTED = 1000
_LOCK_TIMES_REMEMBERED = 2
# A parked job whose children have all ended meanwhile is back in line at once.
_BACK_IN_LINE = (outcome.Retry, outcome.Snooze, outcome.Released, outcome.Limited, outcome.Parked)
STALLED_TOO_OFTEN = "job stalled more than allowable limit"


class SqliteJobStore:
    """The hot path on one SQLite store."""

    def __init__(self, writer: SqliteThread, reader: SqliteThread, wakeups: Wakeups) -> None:
        self._writer = writer
        self._reader = reader
        self._wakeups = wakeups
        # What had been touched when each queue was last exchanged: anything newer must not be slept over.
        self._seen: dict[str, int] = {}

    async def add(
        self, queue: str, jobs: Sequence[NewJob], *, batch: str, now: int, remember_ms: int = BATCH_MEMORY_MS
    ) -> Added:
        return await self._writer.run(
            functools.partial(add_jobs, queue=queue, jobs=jobs, batch=batch, now=now, remember_ms=remember_ms)
        )

    async def exchange(
        self,
        queue: str,
        *,
        worker: str,
        seq: int,
        token: str,
        finished: Sequence[Finish],
        want: int,
        lock_ms: int,
        now: int,
    ) -> Exchanged:
        seen = self._wakeups.count(f"w:{queue}")
        operation = functools.partial(
            _exchange,
            queue=queue,
            worker=worker,
            seq=seq,
            token=token,
            finished=finished,
            want=want,
            lock_ms=lock_ms,
            now=now,
        )
        exchanged = await self._writer.run(operation)
        self._seen[queue] = seen
        return exchanged

    async def renew(self, locks: Sequence[Lock], *, lock_ms: int, now: int) -> Renewed:
        # Before everything that waits: behind a long line of other writes locks would run out.
        return await self._writer.run(functools.partial(_renew, locks=locks, lock_ms=lock_ms, now=now), urgent=True)

    async def recover(self, queue: str, *, max_stalls: int, now: int, limit: int = 1000) -> Recovered:
        return await self._writer.run(
            functools.partial(_recover, queue=queue, max_stalls=max_stalls, now=now, limit=limit)
        )

    async def look(self, queue: str, *, due: bool = True) -> Outlook:
        row = await self._reader.run(lambda tx: tx.row(_SQL["look"], queue=queue, due=due))
        return Outlook(False, False, None) if row is None else Outlook(bool(row[0]), bool(row[1]), row[2])

    async def prune(
        self, queue: str, *, completed: Keep | None, failed: Keep | None, events: int, now: int, limit: int = 1000
    ) -> int:
        def operation(tx: Transaction) -> int:
            forget_replies(tx, now, limit)
            queue_id = tx.value(_SQL["queue"], queue=queue)
            if queue_id is None:
                return 0
            prune_events(tx, queue_id, events, limit)
            deleted = sum(
                prune_finished(tx, queue_id, state, keep, now, limit)
                for state, keep in ((COMPLETED, completed), (FAILED, failed))
                if keep is not None
            )
            kin_of.settle_deleted(tx, now)
            return deleted

        return await self._writer.run(operation)

    async def cancel(self, queue: str, id: str, *, by: str, reason: str, now: int) -> CancelAnswer:
        request = CancelRequest(sayable(by), sayable(reason), now)
        return await self._writer.run(functools.partial(_cancel, queue=queue, id=id, request=request))

    async def report(self, queue: str, progress: Sequence[Progress], lines: Sequence[LogLine]) -> None:
        if progress or lines:
            await self._writer.run(functools.partial(store_reports, queue=queue, progress=progress, lines=lines))

    async def attend(self, worker: str, queues: Sequence[str]) -> None:
        """Nobody counts connections to a file: the presence entries say all."""

    async def leave(self, worker: str) -> None:
        """Nothing was said."""

    async def wait_for_work(self, queues: Sequence[str], *, timeout: float) -> frozenset[str]:
        topics = {f"w:{queue}": queue for queue in queues}
        with self._wakeups.register(topics) as waiter:
            ready = self._touched_since_exchange(queues) or await self._reader.run(
                lambda tx: frozenset(queue for queue in queues if tx.value(_SQL["ready"], queue=queue))
            )
            if not ready and await waiter.wait(timeout):
                ready = self._touched_since_exchange(queues) or frozenset(queues)
        return ready

    def _touched_since_exchange(self, queues: Sequence[str]) -> frozenset[str]:
        touched = []
        for queue in queues:
            count = self._wakeups.count(f"w:{queue}")
            if self._seen.get(queue, count) != count:
                self._seen[queue] = count
                touched.append(queue)
        return frozenset(touched)


def _exchange(
    tx: Transaction,
    *,
    queue: str,
    worker: str,
    seq: int,
    token: str,
    finished: Sequence[Finish],
    want: int,
    lock_ms: int,
    now: int,
) -> Exchanged:
    row = tx.row(_SQL["exchanging"], queue=queue)
    if row is None:
        return Exchanged(tuple(Code.MISSING for _ in finished), (), None, ())
    queue_id, paused, *limits = row
    gate = Gate.of(now, *limits)
    earlier = tx.row(_SQL["exchange"], worker=worker, queue=queue_id, seq=seq, now=now)
    if earlier is None:
        codes, more, stop_ms = _finish(tx, queue_id, finished, worker, now) if finished else ((), False, 0)
        if stop_ms:
            gate = gate or Gate(now)
            gate.stop(tx, queue_id, stop_ms)
        due = promote_due(tx, queue_id, now)
        most = 0 if paused else want if gate is None else gate.room(tx, queue_id, want)
        seqs = "[]" if most <= 0 else _take(tx, queue_id, most, token, worker, lock_ms, now)
        if codes or seqs != "[]":
            expires = now + _LOCK_TIMES_REMEMBERED * lock_ms
            said = ",".join(codes)
            tx.run(
                _SQL["remember_exchange"],
                worker=worker,
                queue=queue_id,
                seq=seq,
                expires=expires,
                codes=said,
                taken=seqs,
            )
            tx.touched.add(f"e:{queue}")
        # Who only hands in, or put more in line than it takes, leaves work for others.
        if more or due > want or any(isinstance(finish.outcome, _BACK_IN_LINE) for finish in finished):
            tx.touched.add(f"w:{queue}")
    else:
        codes = tuple(Code(code) for code in earlier[0].split(",") if code)
        seqs = earlier[1]
    jobs: tuple[TakenJob, ...] = ()
    if seqs != "[]":
        jobs = tuple(TakenJob(*fields) for fields in codec.decode(tx.value(_SQL["taken"], seqs=seqs, token=token)))
    cancelled = tuple(
        Requested(id_, held, request)
        for id_, held, text in tx.rows(_SQL["cancels"], queue=queue_id, worker=worker)
        if (request := cancel_of(text)) is not None
    )
    due_ms = tx.value(_SQL["next_due"], queue=queue_id)
    if gate is None:
        return Exchanged(codes, jobs, due_ms, cancelled)
    if earlier is None and gate.took(tx, queue_id, sum(job.deferred_failure is None for job in jobs)) and codes:
        tx.touched.add(f"w:{queue}")
    return Exchanged(codes, jobs, due_ms, cancelled, gate.limited_ms, gate.full)


def _finish(
    tx: Transaction, queue_id: int, finished: Sequence[Finish], worker: str, now: int
) -> tuple[tuple[Code, ...], bool, int]:
    """Hand in ended runs. Answers what became of each, whether the end of one made another job, and for how long (ms)
    the queue is to stop.
    """
    more = False
    ids = codec.encode([finish.id for finish in finished])
    stored = codec.decode(tx.value(_SQL["finishing"], ids=ids, queue=queue_id))
    kin = [row[1] for row in stored if row[-1]]
    plan = (
        finishing.plan(finished, stored, now, kin_of.blocked(tx, kin)) if kin else finishing.plan(finished, stored, now)
    )
    if plan.endings:
        for job, finish in plan.endings:
            if job.unique_key is not None and isinstance(finish.outcome, finishing.ENDS):
                more |= owner_ended(tx, queue_id, job.id, job.unique_key, now)
        back, front = finishing.places_needed(plan.endings)
        rows = finishing.rows(
            plan.endings,
            worker=worker,
            now=now,
            back=tx.value(_SQL["back_of_line"], queue=queue_id, n=back) - back + 1 if back else 0,
            front=tx.value(_SQL["front_of_line"], queue=queue_id, n=front) if front else 0,
        )
        tx.spread(_SQL["finish"], rows)
        if kin:
            _tell_parents(tx, plan.endings, now)
        if plan.gone:
            tx.run(_SQL["delete"], seqs=codec.encode(plan.gone))
        for state, keep in plan.kept.items():
            keep_finished(tx, queue_id, state, keep, now)
        if plan.gone or plan.kept:
            kin_of.settle_deleted(tx, now)
    return plan.codes, more, plan.stop_ms


def _tell_parents(tx: Transaction, endings: Sequence[tuple[finishing.Stored, Finish]], now: int) -> None:
    for job, finish in endings:
        if not job.kin & kin_of.CHILD:
            continue
        if isinstance(finish.outcome, outcome.Done):
            kin_of.child_ended(tx, job.seq, True, finish.outcome.result, now)
        elif isinstance(finish.outcome, outcome.Failed):
            kin_of.child_ended(tx, job.seq, False, sayable(finish.outcome.reason), now)
        elif isinstance(finish.outcome, outcome.Cancelled):
            kin_of.child_ended(tx, job.seq, False, sayable(failed_reason(finish.outcome.reason)), now)


def promote_due(tx: Transaction, queue_id: int, now: int) -> int:
    """Put delayed jobs that are due in line, in the order of their due times, 1,000 at most. Answers how many."""
    due = codec.decode(tx.value(_SQL["due"], queue=queue_id, now=now, limit=_MOST_PROMOTED))
    return put_in_line(tx, queue_id, due, now) if due else 0


def put_in_line(tx: Transaction, queue_id: int, jobs: Sequence[Sequence[int]], now: int) -> int:
    """Move stored jobs, given as (seq, priority), to the back of the line."""
    first = tx.value(_SQL["back_of_line"], queue=queue_id, n=len(jobs)) - len(jobs) + 1
    rows = [
        (seq, line_state(priority), line_place(priority, first + offset), now)
        for offset, (seq, priority) in enumerate(jobs)
    ]
    return tx.spread(_SQL["move"], rows)


def _take(tx: Transaction, queue_id: int, want: int, token: str, worker: str, lock_ms: int, now: int) -> str:
    """Take the next jobs. Answers their numbers as a JSON array, in the order of the line."""
    seqs = codec.decode(tx.value(_SQL["next_in_line"], queue=queue_id, state=WAITING, limit=want))
    if len(seqs) < want:
        rest = want - len(seqs)
        seqs += codec.decode(tx.value(_SQL["next_in_line"], queue=queue_id, state=PRIORITIZED, limit=rest))
    if not seqs:
        return "[]"
    text = codec.encode(seqs)
    tx.run(_SQL["take"], seqs=text, until=now + lock_ms, now=now, token=token, worker=worker)
    return text


def _renew(tx: Transaction, *, locks: Sequence[Lock], lock_ms: int, now: int) -> Renewed:
    ids = {name: tx.value(_SQL["queue"], queue=name) for name in {lock.queue for lock in locks}}
    until = now + lock_ms
    rows = [(lock.id, ids[lock.queue], lock.token, now, until) for lock in locks if ids[lock.queue] is not None]
    if rows:
        tx.spread(_SQL["renew"], rows)
    asked = codec.encode([(lock.id, ids[lock.queue], lock.token) for lock in locks])
    held = {key: (place, text) for key, place, text in codec.decode(tx.value(_SQL["held"], locks=asked))}
    lost, cancelled = [], []
    for number, lock in enumerate(locks):
        place, text = held.get(number, (0, None))
        request = cancel_of(text)
        if place <= now:
            lost.append(lock)
        elif request is not None:
            cancelled.append(Requested(lock.id, lock.token, request))
    return Renewed(tuple(lost), tuple(cancelled))


def _recover(tx: Transaction, *, queue: str, max_stalls: int, now: int, limit: int) -> Recovered:
    queue_id = tx.value(_SQL["queue"], queue=queue)
    expired = [] if queue_id is None else tx.rows(_SQL["expired"], queue=queue_id, now=now, limit=limit)
    if not expired:
        return Recovered((), ())
    front = tx.value(_SQL["front_of_line"], queue=queue_id, n=len(expired))
    # The job whose lock ran out first comes to stand foremost.
    rows: list[tuple[Any, ...]] = []
    condemned = []
    for offset, (seq, id_, stalls, starts, worker, processed, cancel) in enumerate(expired):
        request = cancel_of(cancel)
        deferred = None
        if request is not None:
            deferred = failed_reason(request.reason)
        elif stalls + 1 > max_stalls:
            deferred = STALLED_TOO_OFTEN
            condemned.append(id_)
        record = AttemptRecord(starts, worker or "", processed or now, now, Cause.STALL, "the worker vanished")
        rows.append((seq, front + offset, now, deferred, history_entry(record)))
    tx.spread(_SQL["requeue"], rows)
    emit(tx, queue_id, [(STALLED, row[1], now, None, None) for row in expired])
    tx.touched |= {f"w:{queue}", f"e:{queue}"}
    return Recovered(tuple(row[1] for row in expired), tuple(condemned))


def _cancel(tx: Transaction, *, queue: str, id: str, request: CancelRequest) -> CancelAnswer:
    queue_id = tx.value(_SQL["queue"], queue=queue)
    row = None if queue_id is None else tx.row(_SQL["cancelling"], queue=queue_id, id=id)
    if row is None:
        return CancelAnswer.MISSING
    seq, state, key, kin, earlier = row
    if state in (COMPLETED, FAILED):
        return CancelAnswer.FINISHED
    tx.touched |= {f"w:{queue}", f"e:{queue}"}
    if state == ACTIVE:
        tx.run(_SQL["request_cancel"], seq=seq, cancel=cancel_entry(request))
        return CancelAnswer.REQUESTED
    # The first request stands, as when a worker had been asked that has vanished since.
    reason = failed_reason((cancel_of(earlier) or request).reason)
    if key is not None:
        owner_ended(tx, queue_id, id, key, request.at)
    tx.run(_SQL["cancel"], seq=seq, now=request.at, reason=reason, cancel=cancel_entry(request))
    if kin:
        kin_of.child_ended(tx, seq, False, reason, request.at)
    return CancelAnswer.CANCELLED


_: type[JobStore] = SqliteJobStore
