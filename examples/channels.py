"""A worker tells everybody who listens how far it is; who was away gets what it missed."""

import asyncio

from pydantic import BaseModel

from toril import ChannelMessage, ChannelResync, Context, Toril

toril = Toril("sqlite://")


class Progress(BaseModel):
    progress: int
    status: str


generation = toril.channel("code-gen:{job_id}", Progress, event="generation-progress")


@toril.task
async def generate(ctx: Context) -> str:
    for number, status in enumerate(("plan", "draw", "check"), start=1):
        await generation.of(job_id=ctx.job_id).publish(Progress(progress=33 * number, status=status))
    return "done"


async def main() -> None:
    async with toril:
        job = await generate.enqueue()
        channel = generation.of(job_id=job.id)
        async with channel.subscribe() as messages, toril.worker():
            seen: list[ChannelMessage[Progress]] = []
            async for message in messages:
                if isinstance(message, ChannelResync):
                    print("too slow: look at the job itself")
                    continue
                print(message.data.progress, message.data.status)
                seen.append(message)
                if message.data.progress == 99:
                    break
        async with channel.subscribe(after=seen[0].id) as again:
            async for message in again:
                if isinstance(message, ChannelMessage):
                    print("again from the second on:", message.data.status)
                break


asyncio.run(main())

# expect: 33 plan
# expect: 66 draw
# expect: 99 check
# expect: again from the second on: draw
