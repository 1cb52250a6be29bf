"""Workers that say they are alive, as `Toril.stats` hands over what they say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class WorkerInfo:
    """One live worker. `started` and `beat` are wall times in milliseconds, `every` is how many milliseconds after that
    beat the next one comes, `running` are ids of jobs.
    """

    id: str
    host: str = ""
    pid: int = 0
    queues: tuple[str, ...] = ()
    concurrency: int = 0
    running: tuple[str, ...] = ()
    started: int = 0
    beat: int = 0
    stopping: bool = False
    every: int = 0

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        return asdict(self)


def live_workers(entries: Iterable[dict[str, Any]]) -> list[WorkerInfo]:
    """The workers of these entries, by host and process; leaves out what is no such entry (a newer version's, say)."""
    found = [_read(entry) for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    return sorted(found, key=lambda one: (one.host, one.pid, one.id))


def _read(entry: dict[str, Any]) -> WorkerInfo:
    return WorkerInfo(
        id=entry["id"],
        host=str(entry.get("host", "")),
        pid=_whole(entry.get("pid")),
        queues=_words(entry.get("queues")),
        concurrency=_whole(entry.get("concurrency")),
        running=_words(entry.get("running")),
        started=_whole(entry.get("started")),
        beat=_whole(entry.get("beat")),
        stopping=entry.get("stopping") is True,
        every=_whole(entry.get("every")),
    )


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0


def _words(value: object) -> tuple[str, ...]:
    return tuple(str(one) for one in value) if isinstance(value, list | tuple) else ()
