"""A job in ten lines: declare a task, enqueue it, run it, read its result. Nothing to install or start."""

import asyncio

from toril import Toril

toril = Toril("sqlite://")  # in memory; Toril() keeps jobs in the file toril.db


@toril.task
async def greet(name: str) -> str:
    return f"Hello, {name}!"


async def main() -> None:
    async with toril, toril.worker():
        job = await greet.enqueue("Ada")
        print(await job.result(timeout=10))


asyncio.run(main())

# expect: Hello, Ada!
