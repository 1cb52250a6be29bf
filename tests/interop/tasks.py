"""The tasks of a Toril application whose queue is shared with Node; `node/handlers.mjs` does the same."""

from __future__ import annotations

import asyncio

from toril import Context, Fixed, Toril
from toril.settings import JobSettings, Settings, WorkerSettings

QUEUE = "shared"

Answer = dict[str, int]


def application(url: str) -> Toril:
    """An application whose workers notice a dead one within a second."""
    worker = WorkerSettings(lock=1.0, heartbeat=0.3, recover_every=0.3, poll=1.0, unknown="fail")
    toril = Toril(url, settings=Settings(url=None, worker=worker, jobs=JobSettings(queue=QUEUE)))

    @toril.task(name="double")
    async def double(n: int) -> Answer:
        return {"doubled": n * 2}

    @toril.task(name="nap")
    async def nap(ms: int) -> str:
        await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=ms / 1000)
        return "rested"

    @toril.task(name="flaky", attempts=3, backoff=Fixed(0.05))
    async def flaky(ctx: Context, failures: int) -> int:
        if ctx.attempt <= failures:
            raise RuntimeError(f"attempt {ctx.attempt} failed")
        return ctx.attempt

    @toril.task(name="talkative")
    async def talkative(ctx: Context) -> None:
        await ctx.progress(10)
        await ctx.log("first line")
        await ctx.progress(60, "more than half")
        await ctx.log("second line")

    @toril.task(name="collect")
    async def collect() -> str:
        return "collected"

    return toril
