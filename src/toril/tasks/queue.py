"""`Queue`: a named line of jobs, for looking at it and for operating it.

Engines do a bounded part per call; the loops are here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from toril.engine.ports.inspect import Changed
from toril.engine.protocol import Engine
from toril.errors import ConfigError
from toril.jobs.limits import QueueLimits, limits_of
from toril.jobs.model import Counts, Job
from toril.jobs.states import State
from toril.kernel.clock import Clock
from toril.kernel.durations import Duration, milliseconds

_PART = 1000
_PAGE = 500


class Queue:
    """A named line of jobs; made by `toril.queue(name)`. Every method raises EngineUnavailable when the store is
    away.
    """

    def __init__(self, name: str, open_store: Callable[[], Awaitable[Engine]], clock: Clock) -> None:
        self.name = name
        self._open = open_store
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Queue {self.name}>"

    async def counts(self) -> Counts:
        """How many jobs are in each state."""
        engine = await self._open()
        return await engine.inspect.counts(self.name)

    async def jobs(
        self,
        *states: State | str,
        newest_first: bool = False,
        task: str | None = None,
        owner: str | None = None,
    ) -> AsyncIterator[Job]:
        """Jobs of the given states (all states when none is given), state after state, each in the order of its line.

        A job that stays in its state is given exactly once, whatever happens meanwhile. Raises ConfigError for an
        unknown state.
        """
        wanted = [_state(state) for state in states] or list(State)
        engine = await self._open()
        cursor: str | None = None
        while True:
            page = await engine.inspect.list(
                self.name, wanted, limit=_PAGE, cursor=cursor, newest_first=newest_first, name=task, owner=owner
            )
            for job in page.jobs:
                yield job
            cursor = page.cursor
            if cursor is None:
                return

    async def pause(self) -> None:
        """Start no more jobs of this queue, on any worker; running ones go on."""
        engine = await self._open()
        await engine.inspect.pause(self.name, now=self._clock.now_ms())

    async def resume(self) -> None:
        """End a pause."""
        engine = await self._open()
        await engine.inspect.resume(self.name, now=self._clock.now_ms())

    async def is_paused(self) -> bool:
        """True while the queue is paused."""
        engine = await self._open()
        return await engine.inspect.is_paused(self.name)

    async def limits(self) -> QueueLimits:
        """The queue-wide limits as they are now: `concurrency`, and `rate` as a number per milliseconds."""
        engine = await self._open()
        return await engine.inspect.limits(self.name)

    async def set_limits(self, *, concurrency: int | None = None, rate: str | None = None) -> None:
        """Set the queue-wide limits, for all workers and at once; None is no limit. Running jobs go on.

        They hold until they are set again, or until an application starts that declares other limits than before.
        Raises ConfigError for bad limits.
        """
        limits = limits_of(concurrency, rate)
        engine = await self._open()
        await engine.inspect.set_limits(self.name, limits, now=self._clock.now_ms())

    async def retry(self, ids: Sequence[str]) -> tuple[Changed, ...]:
        """Put finished jobs back in line, their attempts counted from zero. Answers what became of each."""
        return await self._each(ids, lambda engine: engine.inspect.retry)

    async def promote(self, ids: Sequence[str]) -> tuple[Changed, ...]:
        """Put delayed jobs in line now. Answers what became of each."""
        return await self._each(ids, lambda engine: engine.inspect.promote)

    async def remove(self, ids: Sequence[str]) -> tuple[Changed, ...]:
        """Delete jobs that no worker is running. Answers what became of each."""
        return await self._each(ids, lambda engine: engine.inspect.remove)

    async def retry_failed(self) -> int:
        """Put every job that has failed by now back in line. Answers how many."""
        engine = await self._open()
        begun, retried = self._clock.now_ms(), 0
        cursor: str | None = None
        while True:
            page = await engine.inspect.list(self.name, [State.FAILED], limit=_PAGE, cursor=cursor)
            # Jobs that fail again meanwhile come at the end: they had their turn.
            ids = [job.id for job in page.jobs if (job.finished or 0) <= begun]
            changed = await engine.inspect.retry(self.name, ids, now=self._clock.now_ms()) if ids else ()
            retried += sum(one is Changed.OK for one in changed)
            cursor = page.cursor
            if cursor is None or len(ids) < len(page.jobs):
                return retried

    async def drain(self, *, delayed: bool = False) -> int:
        """Delete every job that waits in line, and with `delayed` those that wait for their time. Answers how many."""
        engine = await self._open()
        return await _all_parts(
            lambda: engine.inspect.drain(self.name, delayed=delayed, now=self._clock.now_ms(), limit=_PART)
        )

    async def clean(self, state: State | str, *, older_than: Duration = 0) -> int:
        """Delete the jobs of a state that finished (unfinished ones: were created) at least `older_than` ago.

        Active jobs are deleted only when their lock has run out. Answers how many. Raises ConfigError for an unknown
        state.
        """
        wanted = _state(state)
        before = self._clock.now_ms() - milliseconds(older_than, "older_than")
        engine = await self._open()
        return await _all_parts(
            lambda: engine.inspect.clean(self.name, wanted, before=before, now=self._clock.now_ms(), limit=_PART)
        )

    async def obliterate(self, *, force: bool = False) -> None:
        """Pause the queue and delete it with all its jobs. Raises JobLocked when jobs are active, unless `force`; the
        queue stays paused then.
        """
        engine = await self._open()
        while not await engine.inspect.obliterate(self.name, force=force, now=self._clock.now_ms(), limit=_PART):
            pass

    async def _each(
        self,
        ids: Sequence[str],
        method: Callable[[Engine], Callable[..., Awaitable[tuple[Changed, ...]]]],
    ) -> tuple[Changed, ...]:
        change = method(await self._open())
        changed: list[Changed] = []
        for start in range(0, len(ids), _PART):
            changed += await change(self.name, ids[start : start + _PART], now=self._clock.now_ms())
        return tuple(changed)


async def _all_parts(part: Callable[[], Awaitable[int]]) -> int:
    total = 0
    while True:
        done = await part()
        total += done
        if done < _PART:
            return total


def _state(value: State | str) -> State:
    try:
        return State(value)
    except ValueError:
        raise ConfigError(f"state: expected one of {', '.join(State)}, got {value!r}.") from None
