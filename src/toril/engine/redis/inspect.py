"""`JobInspector` on Redis: each step that must not be interrupted is one script; long work is done a part per call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from toril.engine.ports.inspect import Changed, JobInspector, JobPage, LogPage, QueueInfo
from toril.engine.redis.clients import Clients
from toril.engine.redis.cursors import Cursor, read_cursor
from toril.engine.redis.keys import Keys
from toril.engine.redis.records import job_of, text, whole
from toril.engine.redis.registry import QueueRegistry
from toril.engine.redis.scripts import Script, load
from toril.errors import JobLocked
from toril.jobs.limits import QueueLimits
from toril.jobs.model import Counts, Job
from toril.jobs.states import State
from toril.jobs.telling import Told
from toril.kernel.durations import Rate

_READ = load("inspect/read")
_PAGE = load("inspect/page")
_COUNTS = load("inspect/counts")
_PAUSE = load("inspect/pause")
_RESUME = load("inspect/resume")
_LIMITS = load("inspect/limits")
_TOLD = load("inspect/told")
_RETRY = load("inspect/retry")
_PROMOTE = load("inspect/promote")
_REMOVE = load("inspect/remove")
_DRAIN = load("inspect/drain")
_CLEAN = load("inspect/clean")
_OBLITERATE = load("inspect/obliterate")

# What one script call looks at or moves at most, so that no other caller waits long for it.
_LOOKED_AT = 5_000
_MOVED = 5_000
# A page with filters ends after so many jobs, full or not.
_LOOKED_AT_PER_PAGE = 5_000
_CHANGED = 200


class RedisJobInspector:
    """The cold path on one Redis. `wire` is `auto`, `bullmq5` or `bullmq6`.

    A job that is in no set of finished, delayed or prioritized jobs and is not active is shown as waiting: looking for
    it in the line would cost as much as there is waiting. `clean` takes unfinished jobs in the order of the line.
    """

    def __init__(self, clients: Clients, keys: Keys, wire: str, registry: QueueRegistry) -> None:
        self._clients = clients
        self._keys = keys
        self._registry = registry
        self._wire = wire

    async def get(self, id: str, queue: str | None = None) -> Job | None:
        names = [queue] if queue is not None else await self._registry.names()
        found = await asyncio.gather(*(self._get(name, id) for name in names))
        return next((job for job in found if job is not None), None)

    async def list(
        self,
        queue: str,
        states: Sequence[State],
        *,
        limit: int = 50,
        cursor: str | None = None,
        newest_first: bool = False,
        name: str | None = None,
        owner: str | None = None,
    ) -> JobPage:
        at = read_cursor(cursor, states, newest_first)
        jobs: list[Job] = []
        filters = (0 if name is None else 1, name or "", 0 if owner is None else 1, owner or "")
        while at.index < len(states) and len(jobs) < limit:
            state = states[at.index]
            found, words = await self._run(
                _PAGE,
                queue,
                0,
                state.value,
                int(newest_first),
                limit - len(jobs),
                _LOOKED_AT_PER_PAGE,
                *filters,
                len(at.words),
                *at.words,
            )
            place = "wait" if state is State.WAITING else state.value
            jobs += (job_of(text(id_), queue, place, text(score), flat) for id_, score, flat in found)
            if not words:
                at = Cursor(at.index + 1, ())
                continue
            at = Cursor(at.index, tuple(text(word) for word in words))
            if len(found) < limit:
                # Filters have used up what one page may look at.
                break
        if not jobs and limit < 1:
            return JobPage((), None)
        if not at.words:
            at = await self._next_state(queue, states, at)
        return JobPage(tuple(jobs), at.encode(states, newest_first) if at.index < len(states) else None)

    async def logs(self, queue: str, id: str, *, start: int = 0, limit: int = 1000) -> LogPage:
        key = f"{self._keys.queue(queue).of(id)}:logs"
        lines, total = await asyncio.gather(
            self._clients.call("LRANGE", key, start, start + limit - 1, repeatable=True) if limit > 0 else _nothing(),
            self._clients.call("LLEN", key, repeatable=True),
        )
        return LogPage(tuple(text(line) for line in lines), total)

    async def counts(self, queue: str) -> Counts:
        return (await self._info(queue)).counts

    async def queues(self) -> tuple[QueueInfo, ...]:
        return tuple(await asyncio.gather(*(self._info(name) for name in await self._registry.names())))

    async def pause(self, queue: str, *, now: int) -> None:
        await self._registry.note(queue)
        await self._run(_PAUSE, queue, now, self._registry.key, queue)

    async def resume(self, queue: str, *, now: int) -> None:
        while not await self._run(_RESUME, queue, now, _MOVED):
            pass

    async def is_paused(self, queue: str) -> bool:
        return (await self._info(queue)).paused

    async def limits(self, queue: str) -> QueueLimits:
        meta = self._keys.queue(queue).of("meta")
        fields = await self._clients.call("HMGET", meta, "concurrency", "max", "duration", repeatable=True)
        concurrency, most, per_ms = (None if field is None else whole(text(field)) for field in fields)
        return QueueLimits(concurrency, None if most is None or per_ms is None else Rate(most, per_ms))

    async def set_limits(self, queue: str, limits: QueueLimits, *, now: int, declared: bool = False) -> bool:
        given = (limits.concurrency, *(limits.rate or (None, None)))
        args = ["" if number is None else number for number in given]
        declaration = limits.stored() if declared else ""
        await self._registry.note(queue)
        return bool(await self._run(_LIMITS, queue, now, *args, declaration, self._registry.key, queue))

    async def told(self, queue: str) -> Told:
        found = await self._clients.call("HGET", self._keys.queue(queue).of("meta"), "toril:told", repeatable=True)
        return Told.ALL if found is None or text(found) not in set(Told) else Told(text(found))

    async def set_told(self, queue: str, told: Told, *, now: int, declared: bool = False) -> bool:
        await self._registry.note(queue)
        return bool(await self._run(_TOLD, queue, now, told.value, int(declared), self._registry.key, queue))

    async def retry(self, queue: str, ids: Sequence[str], *, now: int) -> tuple[Changed, ...]:
        return await self._change(_RETRY, queue, ids, now)

    async def promote(self, queue: str, ids: Sequence[str], *, now: int) -> tuple[Changed, ...]:
        return await self._change(_PROMOTE, queue, ids, now)

    async def remove(self, queue: str, ids: Sequence[str], *, now: int) -> tuple[Changed, ...]:
        return await self._change(_REMOVE, queue, ids, now)

    async def drain(self, queue: str, *, delayed: bool, now: int, limit: int = 1000) -> int:
        deleted = 0
        while deleted < limit:
            part = min(limit - deleted, _MOVED)
            done = int(await self._run(_DRAIN, queue, now, int(delayed), part))
            deleted += done
            if done < part:
                break
        return deleted

    async def clean(self, queue: str, state: State, *, before: int, now: int, limit: int = 1000) -> int:
        deleted, kept, done = 0, 0, 0
        while not done and deleted < limit:
            part, kept, done = await self._run(
                _CLEAN, queue, now, state.value, before, limit - deleted, _LOOKED_AT, kept
            )
            deleted += part
        return deleted

    async def obliterate(self, queue: str, *, force: bool, now: int, limit: int = 1000) -> bool:
        done, running = await self._run(_OBLITERATE, queue, now, int(force), limit, self._registry.key, queue)
        if running:
            raise JobLocked(
                f"Queue {queue!r} is paused but not obliterated: {running} of its jobs are running. "
                "Wait for them, or use force to delete them under their workers."
            )
        if done:
            await self._registry.forget(queue)
        return bool(done)

    async def _get(self, queue: str, id: str) -> Job | None:
        [found] = await self._run(_READ, queue, 0, id)
        return None if found is None else job_of(id, queue, text(found[0]), text(found[1]), found[2])

    async def _info(self, queue: str) -> QueueInfo:
        paused, *counts = await self._run(_COUNTS, queue, 0)
        return QueueInfo(queue, bool(paused), Counts(*counts))

    async def _next_state(self, queue: str, states: Sequence[State], at: Cursor) -> Cursor:
        """The place before the next state that has jobs; behind the last state when there is none."""
        if at.index < len(states):
            counts = await self.counts(queue)
            while at.index < len(states) and not counts.of(states[at.index]):
                at = Cursor(at.index + 1, ())
        return at

    async def _change(self, script: Script, queue: str, ids: Sequence[str], now: int) -> tuple[Changed, ...]:
        answers: list[Changed] = []
        for first in range(0, len(ids), _CHANGED):
            part = ids[first : first + _CHANGED]
            answers += (Changed(text(each)) for each in await self._run(script, queue, now, *part))
        return tuple(answers)

    async def _run(self, script: Script, queue: str, now: int, *args: str | int) -> Any:
        keys = self._keys.queue(queue)
        return await self._clients.run(script, keys.of("meta"), keys.base, keys.own, self._wire, now, *args)


async def _nothing() -> list[bytes]:
    return []


_: type[JobInspector] = RedisJobInspector
