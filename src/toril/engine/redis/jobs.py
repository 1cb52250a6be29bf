"""`JobStore` on Redis: each method is one call of one script, and so one step that nothing interrupts."""

from __future__ import annotations

import asyncio
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
from toril.engine.redis.clients import Clients
from toril.engine.redis.keys import Keys, QueueKeys
from toril.engine.redis.records import cancel_entry, cancel_of, due_of, history_entry
from toril.engine.redis.registry import QueueRegistry
from toril.engine.redis.scripts import Script, load
from toril.jobs import outcome as out
from toril.jobs.model import AttemptRecord, CancelRequest, NewJob, TakenJob
from toril.jobs.options import Keep
from toril.kernel import codec

_ADD = load("jobs/add")
_EXCHANGE = load("jobs/exchange")
_RENEW = load("jobs/renew")
_RECOVER = load("jobs/recover")
_PRUNE = load("jobs/prune")
_CANCEL = load("jobs/cancel")
_REPORT = load("jobs/report")

_LOCK_TIMES_REMEMBERED = 2


class RedisJobStore:
    """The hot path on one Redis. `wire` is `auto`, `bullmq5` or `bullmq6`."""

    def __init__(self, clients: Clients, keys: Keys, wire: str, registry: QueueRegistry) -> None:
        self._clients = clients
        self._keys = keys
        self._registry = registry
        self._wire = wire
        self._known: set[str] = set()

    async def add(
        self, queue: str, jobs: Sequence[NewJob], *, batch: str, now: int, remember_ms: int = BATCH_MEMORY_MS
    ) -> Added:
        await self._registry.note(queue)
        # The store learns once per process that there is a queue of that name.
        args: list[str | int] = [batch, remember_ms, self._registry.key, queue, int(queue in self._known)]
        args.append("")
        claims: dict[int, str] = {}
        for number, (id_, name, data, opts, timestamp, delay_ms, priority, lifo, unique) in enumerate(jobs):
            args += (id_, name, data, opts, timestamp, delay_ms, priority, 1 if lifo else 0)
            if unique is not None:
                claims[number] = unique.stored()
        if claims:
            args[5] = "{" + ",".join(f'"{number}":{stored}' for number, stored in claims.items()) + "}"
        answer = (await self._run(_ADD, queue, now, *args)).decode()
        self._known.add(queue)
        return Added.recalled([job.id for job in jobs], answer)

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
        args: list[str | int] = [worker, seq, token, lock_ms, max(0, want), _LOCK_TIMES_REMEMBERED * lock_ms]
        args.append(len(finished))
        broken = {number for number, finish in enumerate(finished) if not _storable(finish)}
        for number, finish in enumerate(finished):
            if number not in broken:
                args += _finish_args(finish, worker, now)
        args[6] = len(finished) - len(broken)
        codes, ids, jobs, due, cancelled, limited_ms, full = await self._run(_EXCHANGE, queue, now, *args)
        given = iter(Code(code) for code in codes.decode().split(",") if code)
        return Exchanged(
            tuple(Code.BROKEN if number in broken else next(given) for number in range(len(finished))),
            tuple(_taken(id_, fields) for id_, fields in zip(ids, jobs, strict=True)),
            None if due is None else int(due),
            tuple(
                Requested(id_.decode(), held.decode(), request)
                for id_, held, text in cancelled
                if (request := cancel_of(text.decode())) is not None
            ),
            int(limited_ms),
            bool(full),
        )

    async def renew(self, locks: Sequence[Lock], *, lock_ms: int, now: int) -> Renewed:
        by_queue: dict[str, list[Lock]] = {}
        for lock in locks:
            by_queue.setdefault(lock.queue, []).append(lock)
        lost: list[Lock] = []
        cancelled: list[Requested] = []
        # All are asked before one that is away is complained of: each lock that can be kept is kept.
        answers = await asyncio.gather(
            *(self._renew(queue, group, lock_ms, now) for queue, group in by_queue.items()), return_exceptions=True
        )
        for group, answer in zip(by_queue.values(), answers, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            missing, asked = answer
            lost += (group[index] for index in missing)
            for index, text in asked:
                request = cancel_of(text.decode())
                if request is not None:
                    cancelled.append(Requested(group[index].id, group[index].token, request))
        return Renewed(tuple(lost), tuple(cancelled))

    async def _renew(self, queue: str, locks: Sequence[Lock], lock_ms: int, now: int) -> Any:
        return await self._run(_RENEW, queue, now, lock_ms, *(text for lock in locks for text in (lock.id, lock.token)))

    async def recover(self, queue: str, *, max_stalls: int, now: int, limit: int = 1000) -> Recovered:
        back, condemned = await self._run(_RECOVER, queue, now, max_stalls, limit, "the worker vanished")
        return Recovered(tuple(id_.decode() for id_ in back), tuple(id_.decode() for id_ in condemned))

    async def look(self, queue: str, *, due: bool = True) -> Outlook:
        keys, call = self._keys.queue(queue), self._clients.call
        looked_at = ("active", "wait", "prioritized", *(("delayed",) if due else ()))
        there = await call("EXISTS", *(keys.of(name) for name in looked_at), repeatable=True)
        if not there:
            return Outlook(False, False, None)
        first = await call("ZRANGE", keys.of("delayed"), 0, 0, "WITHSCORES", repeatable=True) if due else ()
        if there == bool(first):
            return Outlook(False, False, due_of(first))
        active, waiting, (paused, concurrency) = await asyncio.gather(
            call("LLEN", keys.of("active"), repeatable=True),
            call("EXISTS", keys.of("wait"), keys.of("prioritized"), repeatable=True),
            call("HMGET", keys.of("meta"), "paused", "concurrency", repeatable=True),
        )
        has_room = concurrency is None or active < _number(concurrency)
        return Outlook(active > 0, waiting > 0 and paused is None and has_room, due_of(first))

    async def prune(
        self, queue: str, *, completed: Keep | None, failed: Keep | None, events: int, now: int, limit: int = 1000
    ) -> int:
        deleted = await self._run(_PRUNE, queue, now, *_bounds(completed), *_bounds(failed), limit, events)
        return int(deleted)

    async def cancel(self, queue: str, id: str, *, by: str, reason: str, now: int) -> CancelAnswer:
        request = CancelRequest(_sayable(by), _sayable(reason), now)
        answer = await self._run(_CANCEL, queue, now, id, out.failed_reason(request.reason), cancel_entry(request))
        return CancelAnswer(answer.decode())

    async def report(self, queue: str, progress: Sequence[Progress], lines: Sequence[LogLine]) -> None:
        args: list[str | int] = []
        now = 0
        for item in progress:
            args += ("progress", item.id, item.token, item.value, 0)
            now = item.at
        for line in lines:
            args += ("log", line.id, line.token, _sayable(line.line), line.keep)
            now = line.at
        if args:
            await self._run(_REPORT, queue, now, *args)

    async def attend(self, worker: str, queues: Sequence[str]) -> None:
        names = [(self._keys.queue(queue), self._keys.worker_name(queue, worker)) for queue in queues]
        await self._clients.attend(worker, names)

    async def leave(self, worker: str) -> None:
        await self._clients.leave(worker)

    async def wait_for_work(self, queues: Sequence[str], *, timeout: float) -> frozenset[str]:
        return await self._clients.wait_for_work({queue: self._keys.queue(queue) for queue in queues}, timeout)

    async def _run(self, script: Script, queue: str, now: int, *args: str | int) -> Any:
        keys: QueueKeys = self._keys.queue(queue)
        return await self._clients.run(script, keys.of("meta"), keys.base, keys.own, self._wire, now, *args)


def _finish_args(finish: Finish, worker: str, now: int) -> tuple[str | int, ...]:
    """The eleven arguments of exchange.lua for one run."""
    outcome = finish.outcome
    text = stack = cancel = ""
    delay = 0
    error: str | None = None
    if isinstance(outcome, out.Done):
        text = outcome.result
    elif isinstance(outcome, out.Retry | out.Failed):
        text, stack = _sayable(outcome.reason), _sayable(outcome.stack)
        error = text
    elif isinstance(outcome, out.Cancelled):
        text = error = _sayable(out.failed_reason(outcome.reason))
        cancel = cancel_entry(CancelRequest(_sayable(outcome.by), _sayable(outcome.reason), now))
    if isinstance(outcome, out.Retry | out.Snooze | out.Limited):
        delay = max(0, outcome.delay_ms)
    # The script knows the number of the run: the field that this lies under carries it.
    history = history_entry(AttemptRecord(0, worker, finish.started, finish.ended, outcome.cause, error))
    age, count = _bounds(finish.keep)
    return (finish.id, finish.token, outcome.cause.value, text, stack, delay, finish.ended, cancel, history, age, count)


def _bounds(keep: Keep | None) -> tuple[str | int, str | int]:
    """Age in seconds and count as the scripts read them; an empty text is no bound."""
    if keep is None:
        return "", ""
    return "" if keep.age_s is None else str(keep.age_s), "" if keep.count is None else keep.count


def _storable(finish: Finish) -> bool:
    if not isinstance(finish.outcome, out.Done):
        return True
    try:
        codec.decode(finish.outcome.result)
    except (ValueError, TypeError):
        return False
    return True


def _taken(id_: bytes, fields: Sequence[bytes | None]) -> TakenJob:
    """A job as a worker gets it, whoever made it: what is missing or odd is given a value that can be worked with."""
    name, data, opts, timestamp, attempts, starts, stalls, deferred = fields[:8]
    return TakenJob(
        id_.decode(),
        _text(name),
        "{}" if data is None else _text(data),
        _text(opts) or "{}",
        _number(timestamp),
        _number(attempts),
        _number(starts),
        _number(stalls),
        None if deferred is None else _text(deferred),
        _text(fields[8]) or None,
    )


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", "replace")


def _number(value: bytes | int | None) -> int:
    try:
        return int(value or 0)
    except ValueError:
        return 0


def _sayable(text: str) -> str:
    """Text without lone surrogates, which no reader of the store could decode."""
    return text.encode("utf-8", "replace").decode("utf-8")


_: type[JobStore] = RedisJobStore
