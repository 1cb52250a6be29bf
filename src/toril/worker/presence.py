"""What each worker says of itself: an entry that runs out when the worker has been silent for too long."""

from __future__ import annotations

from typing import Any

from toril.engine.protocol import Engine
from toril.kernel import codec

PRESENCE_PREFIX = "worker:"


async def live_workers(engine: Engine, now: int) -> tuple[dict[str, Any], ...]:
    """The entries of all live workers (id, host, pid, queues, concurrency, running, started, beat). Raises
    EngineUnavailable.
    """
    keys: list[str] = []
    cursor: str | None = None
    while True:
        page = await engine.keyvalue.scan(PRESENCE_PREFIX, now=now, cursor=cursor)
        keys += page.keys
        cursor = page.cursor
        if cursor is None:
            break
    values = await engine.keyvalue.get(list(dict.fromkeys(keys)), now=now) if keys else ()
    return tuple(codec.decode(value) for value in values if value is not None)
