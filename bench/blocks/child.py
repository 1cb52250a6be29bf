"""One contestant, one measure, in a process and an environment of its own: prints µs (or ms) as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, Protocol

Call = Callable[..., Awaitable[Any]]

_TRIES = 5
VALUE = {"id": 42, "name": "somebody", "numbers": list(range(100)), "text": "x" * 400}
TAGGED = 5_000


CALLERS = 50
RESET_S = 0.3


async def nothing() -> int:
    """What breakers stand before while all is well."""
    return 1


async def failing() -> int:
    """What opens them."""
    raise ConnectionError("no")


class Contestant(Protocol):
    """What a library may be asked for. It has what `run.MEASURES` names it for, and need not have the rest."""

    async def limit(self, url: str) -> Call:
        """A check of a limit that is never used up."""
        ...

    async def memory_hit(self) -> Call:
        """A decorated function whose result is in memory."""
        ...

    async def store_hit(self, url: str) -> Call:
        """A decorated function whose result is on the server."""
        ...

    async def tagged(self, url: str) -> Call:
        """Giving up a tag that TAGGED values have."""
        ...

    async def session(self, url: str) -> Call:
        """A request that looks at its session, which is on the server, and changes nothing."""
        ...

    async def fan_out(self) -> float:
        """µs per server-sent event, to a hundred listeners."""
        ...

    async def breaker(self, reset_s: float) -> Call:
        """Calls a function, `nothing` if none is given, through a breaker that opens after five failures."""
        ...


async def over_a_bare_call(call: Call) -> float:
    """µs that a breaker which is closed adds to a call."""
    return await microseconds(call, 50_000, 1) - await microseconds(nothing, 50_000, 1)


async def let_through(call: Call) -> float:
    """How many of CALLERS at once a breaker lets through to something that failed, to see whether it works again."""
    for _ in range(10):
        with suppress(Exception):
            await call(failing)
    await asyncio.sleep(2 * RESET_S)
    inside, may_end = 0, asyncio.Event()

    async def probe() -> int:
        nonlocal inside
        inside += 1
        await may_end.wait()
        return 1

    tasks = [asyncio.ensure_future(call(probe)) for _ in range(CALLERS)]
    await asyncio.wait(tasks, timeout=2)
    may_end.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    return inside


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
    if name == "breaker-closed":
        return await over_a_bare_call(await contestant.breaker(30))
    if name == "breaker-probes":
        return await let_through(await contestant.breaker(RESET_S))
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
