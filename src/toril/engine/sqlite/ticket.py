"""A fair turn for writers of several processes.

SQLite lets whoever tries at the right instant write next, so that one of two busy processes can starve for seconds.
Here a writer first queues for the *turn*, then waits for the *pen*: while one process writes, the holder of the turn
is the only one who waits for the pen, and the process that just wrote has to queue behind it. The kernel drops both
when a process dies.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

_PATIENCE_S = 2.0
_WITHOUT_S = 10.0
_SHORTEST_WAIT_S = 0.00005
_LONGEST_WAIT_S = 0.002


class Ticket:
    """One process's place in the queue of writers. Not thread-safe: it belongs to the writer thread."""

    def __init__(self, folder: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._turn = os.open(folder / "turn", flags, 0o600)
        self._pen = os.open(folder / "pen", flags, 0o600)
        self._without_until = 0.0

    def take(self, timeout: float) -> bool:
        """Wait for the pen, at most `timeout` and 2 seconds. False when it did not come: write without, SQLite still
        excludes.
        """
        now = time.monotonic()
        # One that is stopped in the queue, or with the pen, would make everybody wait before every single write.
        deadline = now if now < self._without_until else now + min(timeout, _PATIENCE_S)
        if self._take(deadline):
            return True
        if deadline > now:
            self._without_until = time.monotonic() + _WITHOUT_S
        return False

    def _take(self, deadline: float) -> bool:
        if not _lock(self._turn, deadline):
            return False
        try:
            return _lock(self._pen, deadline)
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    def give_back(self) -> None:
        """Let the next writer have the pen. Without having taken it, nothing happens."""
        fcntl.flock(self._pen, fcntl.LOCK_UN)

    def close(self) -> None:
        """Leave the queue."""
        os.close(self._turn)
        os.close(self._pen)


def _lock(handle: int, deadline: float) -> bool:
    # Asked again and again instead of a blocking flock: a stopped process that holds the pen must not hang this one
    # for ever.
    wait = _SHORTEST_WAIT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT_S)
