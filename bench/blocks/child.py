"""One contestant, one measure, in a process and an environment of its own: prints µs (or ms) as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

Call = Callable[[], Awaitable[Any]]

_TRIES = 5
VALUE = {"id": 42, "name": "somebody", "numbers": list(range(100)), "text": "x" * 400}
TAGGED = 5_000


class Contestant:
    """What every library is asked for; those that lack something leave it out."""

    async def limit(self, url: str) -> Call:
        """A check of a limit that is never used up."""
        raise NotImplementedError

    async def memory_hit(self) -> Call:
        """A decorated function whose result is in memory."""
        raise NotImplementedError

    async def store_hit(self, url: str) -> Call:
        """A decorated function whose result is on the server."""
        raise NotImplementedError

    async def tagged(self, url: str) -> Call:
        """Giving up a tag that TAGGED values have."""
        raise NotImplementedError

    async def session(self, url: str) -> Call:
        """A request that looks at its session, which is on the server, and changes nothing."""
        raise NotImplementedError

    async def fan_out(self) -> float:
        """µs per server-sent event, to a hundred listeners."""
        raise NotImplementedError


async def microseconds(call: Call, number: int, tasks: int) -> float:
    """The best of some tries: µs per call, with so many tasks calling."""

    async def task() -> None:
        for _ in range(number // tasks):
            await call()

    await task()
    best = float("inf")
    for _ in range(_TRIES):
        begun = time.perf_counter()
        await asyncio.gather(*(task() for _ in range(tasks)))
        best = min(best, (time.perf_counter() - begun) / (number // tasks * tasks) * 1e6)
    return best


async def measure(contestant: Contestant, name: str, url: str) -> float:
    """The figure of one measure."""
    if name == "fan-out":
        return await contestant.fan_out()
    if name in ("session-1", "session-50"):
        return await microseconds(await contestant.session(url), 1_000, int(name.partition("-")[2]))
    if name == "limit-1":
        return await microseconds(await contestant.limit(url), 2_000, 1)
    if name == "limit-100":
        return await microseconds(await contestant.limit(url), 10_000, 100)
    if name == "memory-hit":
        return await microseconds(await contestant.memory_hit(), 20_000, 1)
    if name == "store-1":
        return await microseconds(await contestant.store_hit(url), 2_000, 1)
    if name == "store-50":
        return await microseconds(await contestant.store_hit(url), 10_000, 50)
    call = await contestant.tagged(url)
    begun = time.perf_counter()
    await call()
    return (time.perf_counter() - begun) * 1e3


def main() -> None:
    """`child <library> <measure> <url>`."""
    library, name, url = sys.argv[1:]
    contestant: Contestant = import_module(f"bench.blocks.{library}_block").CONTESTANT
    print(json.dumps(asyncio.run(measure(contestant, name, url))))


if __name__ == "__main__":
    main()
