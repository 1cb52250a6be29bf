"""An application for the worker's tests. Its store is the one that TORIL_URL names."""

import asyncio
import os
from pathlib import Path

from toril import Context, Toril

toril = Toril()


@toril.task(queue="sums")
async def add(left: int, right: int = 1) -> int:
    return left + right


@toril.task(queue="sums", attempts=1)
async def divide(left: int, right: int) -> float:
    return left / right


@toril.task(queue="pids")
async def hold(ctx: Context, folder: str) -> str:
    """Say that it runs, then wait until it is let go."""
    (Path(folder) / f"started-{ctx.starts}").write_text(str(os.getpid()), encoding="utf-8")
    while not (Path(folder) / "go").exists():
        await asyncio.sleep(0.02)
    return "held"
