"""Time limits of many calls of one length, at the price of one timer: they end in the order in which they began."""

from __future__ import annotations

import asyncio
from collections import deque

_SMALL = 1_000


class Entry:
    """One call under a limit. `task` is None when it has ended; `asked` is set when it is told to stop: how many others
    had asked its task to.
    """

    __slots__ = ("asked", "began", "task")

    def __init__(self, task: asyncio.Task[object], began: float) -> None:
        self.task: asyncio.Task[object] | None = task
        self.began = began
        self.asked: int | None = None


class Deadlines:
    """The limits of one breaker in one event loop: `begin` before a call, `was_stopped` after one that raised."""

    __slots__ = ("_entries", "_full", "_timer", "loop", "timeout_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.loop = loop
        self._entries: deque[Entry] = deque()
        self._full = _SMALL
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, task: asyncio.Task[object], now: float) -> Entry:
        """`now` is the time of the monotonic clock, which is the loop's."""
        entries = self._entries
        # What has ended goes with who comes next, so that nothing gathers.
        while entries and entries[0].task is None:
            entries.popleft()
        entry = Entry(task, now)
        entries.append(entry)
        if len(entries) > self._full:
            self._entries = deque(each for each in entries if each.task is not None)
            self._full = max(_SMALL, 2 * len(self._entries))
        if self._timer is None:
            self._timer = self.loop.call_at(now + self.timeout_s, self._look)
        return entry

    def _look(self) -> None:
        self._timer = None
        before = self.loop.time() - self.timeout_s
        entries = self._entries
        while entries:
            entry = entries[0]
            if entry.task is not None and entry.began > before:
                self._timer = self.loop.call_at(entry.began + self.timeout_s, self._look)
                return
            entries.popleft()
            if entry.task is not None:
                entry.asked = entry.task.cancelling()
                entry.task.cancel()


def was_stopped(entry: Entry) -> bool:
    """End a call under a limit, and say whether it was that limit, and nobody else, that stopped it."""
    task, entry.task = entry.task, None
    return entry.asked is not None and task is not None and task.uncancel() <= entry.asked
