"""Options of one job: urgent ones overtake, delayed ones wait. They never mix with the arguments."""

import asyncio

from toril import Toril

toril = Toril("sqlite://")


@toril.task
async def send(to: str) -> None:
    print("to", to)


async def main() -> None:
    async with toril:
        await send.with_options(delay="50ms").enqueue("somebody later")
        await send.enqueue("everybody")
        await send.with_options(lifo=True).enqueue("the one at the door")
        counts = await toril.queue("default").counts()
        print(f"{counts.waiting} waiting, {counts.delayed} delayed")
        last = await send.with_options(delay="100ms").enqueue("the last")
        async with toril.worker(concurrency=1):
            await last.result(timeout=10)


asyncio.run(main())

# expect: 2 waiting, 1 delayed
# expect: to the one at the door
# expect: to everybody
# expect: to somebody later
# expect: to the last
