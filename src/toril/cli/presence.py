"""Workers that say they are alive, read from the entries that each keeps in the store while it runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from toril.engine.protocol import Engine
from toril.kernel import codec

_PREFIX = "worker:"


@dataclass(frozen=True, kw_only=True)
class WorkerInfo:
    """One live worker. `started` and `beat` are wall times in milliseconds, `running` ids of jobs."""

    id: str
    host: str = ""
    pid: int = 0
    queues: tuple[str, ...] = ()
    concurrency: int = 0
    running: tuple[str, ...] = ()
    started: int = 0
    beat: int = 0

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        return asdict(self)


async def live_workers(engine: Engine, now: int) -> list[WorkerInfo]:
    """Every worker whose entry has not run out, by host and process."""
    keys: list[str] = []
    cursor: str | None = None
    while True:
        page = await engine.keyvalue.scan(_PREFIX, now=now, cursor=cursor)
        keys.extend(page.keys)
        cursor = page.cursor
        if cursor is None:
            break
    # A key may be seen twice, and one may be gone by now.
    values = await engine.keyvalue.get(list(dict.fromkeys(keys)), now=now) if keys else ()
    found = [_read(value) for value in values if value is not None]
    return sorted((one for one in found if one is not None), key=lambda one: (one.host, one.pid, one.id))


def _read(value: bytes) -> WorkerInfo | None:
    """An entry, None when it is none that we understand (a newer version's, say)."""
    try:
        entry = codec.decode(value)
    except ValueError:
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        return None
    return WorkerInfo(
        id=entry["id"],
        host=str(entry.get("host", "")),
        pid=_whole(entry.get("pid")),
        queues=_words(entry.get("queues")),
        concurrency=_whole(entry.get("concurrency")),
        running=_words(entry.get("running")),
        started=_whole(entry.get("started")),
        beat=_whole(entry.get("beat")),
    )


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0


def _words(value: object) -> tuple[str, ...]:
    return tuple(str(one) for one in value) if isinstance(value, list | tuple) else ()
