"""A job is cancelled, waiting or running; its handler may clean up."""

import asyncio

from toril import JobCancelled, Toril

toril = Toril("sqlite://")
begun = asyncio.Event()


@toril.task
async def render(pages: int) -> None:
    begun.set()
    try:
        await asyncio.sleep(3600)
    finally:
        print("cleaning up")


async def main() -> None:
    async with toril, toril.worker():
        job = await render.enqueue(500)
        await begun.wait()
        await job.cancel("nobody needs it any more", by="ada")
        try:
            await job.result(timeout=10)
        except JobCancelled as error:
            print(f"cancelled by {error.by}: {error.reason}")


asyncio.run(main())

# expect: cleaning up
# expect: cancelled by ada: nobody needs it any more
