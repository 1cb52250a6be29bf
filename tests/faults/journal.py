"""The journal of a trial: an append-only file in which everybody writes down what happened, one line each.

Producers write what they offer and what was accepted, handlers when they begin and end, the driver what it breaks.
Times are of the machine's monotonic clock, so that lines of different processes can be compared, whatever happens to
wall time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

OFFERED = "offered"
"""A producer is about to enqueue: number."""
ACCEPTED = "accepted"
"""The store has said that it has the job: number, id, and where that was measured how long it took, in µs."""
REFUSED = "refused"
"""The store has surely not got the job: number."""
DOUBTFUL = "doubtful"
"""The answer was lost for good: number."""
STARTED = "started"
"""A handler began: id, run, and the how-many-eth start of the job that is."""
FINISHED = "finished"
"""It is about to return: id, run."""
RAISED = "raised"
"""It is about to raise, as it was asked to: id, run."""
STOPPED = "stopped"
"""It was cancelled: id, run."""
KILLED = "killed"
FROZEN = "frozen"
THAWED = "thawed"
"""The driver did this to a process: pid."""
DOWN = "down"
"""The store cannot be used from now on: why. `crash` may lose what a server has not written to its disk yet."""
UP = "up"
"""It can be used again."""
JUMPED = "jumped"
"""Wall time was set: by how many ms."""
PAUSED = "paused"
"""Something else that holds everybody up for a while: what, for how many ms."""


class Event(NamedTuple):
    """One line: what happened, when (ns of the monotonic clock), in which process, and the words that belong to it."""

    kind: str
    at: int
    pid: int
    words: tuple[str, ...] = ()


class Journal:
    """One process's hand on the journal; `pid` when it writes on behalf of another. A line is one write, which the
    kernel appends whole.
    """

    def __init__(self, path: Path, pid: int | None = None) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._pid = os.getpid() if pid is None else pid

    def write(self, kind: str, *words: object) -> None:
        """Write one line."""
        self.write_many(kind, [words])

    def write_many(self, kind: str, lines: Iterable[Iterable[object]]) -> None:
        """Write lines of one kind and one moment."""
        head = f"{kind}\t{time.monotonic_ns()}\t{self._pid}"
        # A process that is killed within a long write leaves half a line: the next one must not be glued to it.
        text = "\n" + "".join("\t".join((head, *(str(word) for word in words))) + "\t.\n" for words in lines)
        os.write(self._file, text.encode())

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


def read(path: Path) -> Iterator[Event]:
    """What was written, in the order of writing. Half lines are left out."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if (event := _event(line)) is not None:
                yield event


class Tail:
    """Reads what has been added to a journal since the last look."""

    def __init__(self, path: Path) -> None:
        self._lines = path.open("rb")
        self._rest = b""

    def news(self) -> Iterator[Event]:
        """What is new."""
        *lines, self._rest = (self._rest + self._lines.read()).split(b"\n")
        for line in lines:
            if (event := _event(line.decode())) is not None:
                yield event

    def close(self) -> None:
        """Let go of the file."""
        self._lines.close()


def _event(line: str) -> Event | None:
    kind, *rest = line.rstrip("\n").split("\t")
    if len(rest) < 3 or rest[-1] != ".":
        return None
    return Event(kind, int(rest[0]), int(rest[1]), tuple(rest[2:-1]))
