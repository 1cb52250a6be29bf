"""One side of one library in a process of its own: `python -m bench.redis.child LIBRARY ROLE URL COUNT [TASK]`.

Roles: `single` and `bulk` enqueue COUNT jobs, `send` enqueues COUNT jobs that measure their wait, and `work` runs a
worker with COUNT slots until it is killed. The last line on stdout is a JSON object of figures. `bullmq.mjs` is the
same for Node.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Coroutine
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.redis.adapters.protocol import WAITS, Adapter

_PAUSE_S = 0.02
_SETTLE_S = 0.3
_PATIENCE_S = 20.0


async def single(adapter: Adapter, count: int, task: str) -> dict[str, float]:
    """One job after the other, each awaited."""
    await adapter.open()
    await adapter.enqueue(task, 0)
    begun = time.perf_counter()
    for number in range(count):
        await adapter.enqueue(task, number)
    took = time.perf_counter() - begun
    await adapter.close()
    return {"single_per_s": count / took}


async def bulk(adapter: Adapter, count: int, task: str) -> dict[str, float]:
    """Many jobs at once."""
    await adapter.open()
    begun = time.perf_counter()
    await adapter.enqueue_all(task, range(count))
    took = time.perf_counter() - begun
    await adapter.close()
    return {"bulk_per_s": count / took}


async def send(adapter: Adapter, count: int, task: str) -> dict[str, float]:
    """Jobs at an uneven pace of about 50 a second, once the worker has run a first one."""
    await adapter.open()
    await adapter.enqueue(task, time.monotonic_ns())
    waits = Path(os.environ[WAITS])
    until = time.monotonic() + _PATIENCE_S
    while not waits.exists():  # noqa: ASYNC240 - the worker is another process
        if time.monotonic() > until:
            raise TimeoutError(f"expected a worker that runs a first job within {_PATIENCE_S:g} s, found none")
        await asyncio.sleep(0.01)
    await asyncio.sleep(_SETTLE_S)
    for _ in range(count):
        await adapter.enqueue(task, time.monotonic_ns())
        await asyncio.sleep(_PAUSE_S * random.uniform(0.5, 1.5))
    await adapter.close()
    return {}


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


ROLES = {"single": single, "bulk": bulk, "send": send}


def main(library: str, role: str, url: str, count: str, task: str = "noop") -> None:
    """Do it."""
    make = import_module(f"bench.redis.adapters.{library}_adapter").make
    slots = int(count) if role == "work" else 1
    adapter: Adapter = make(url, slots)
    if role == "work":
        adapter.work()
        return
    print(json.dumps(run(ROLES[role](adapter, int(count), task))))


if __name__ == "__main__":
    main(*sys.argv[1:])
