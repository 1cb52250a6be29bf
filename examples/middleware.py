"""Code of yours around every run: here it measures, it could as well open a database session."""

import asyncio
import time
from typing import Any

from toril import Context, Toril
from toril.tasks.middleware import RunNext

toril = Toril("sqlite://")


async def timed(ctx: Context, arguments: dict[str, Any], call_next: RunNext) -> Any:
    began = time.perf_counter()
    try:
        return await call_next(ctx, arguments)
    finally:
        print(f"{ctx.name} took {'no time' if time.perf_counter() - began < 1 else 'long'}")


toril.add_middleware(run=timed)


@toril.task
async def add(a: int, b: int) -> int:
    return a + b


async def main() -> None:
    async with toril, toril.worker():
        print(await (await add.enqueue(1, 2)).result(timeout=10))


asyncio.run(main())

# expect: add took no time
# expect: 3
