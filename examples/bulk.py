"""Many jobs at once: stored in chunks, tens of thousands per second."""

import asyncio

from toril import Toril

toril = Toril("sqlite://")


@toril.task
async def square(n: int) -> int:
    return n * n


async def main() -> None:
    async with toril:
        jobs = await toril.enqueue_many(square.call(n) for n in range(500))
        async with toril.worker(concurrency=50):
            print(sum([await job.result(timeout=10) for job in jobs]))


asyncio.run(main())

# expect: 41541750
