"""A job tells how far it is; whoever is interested follows it live."""

import asyncio

from toril import Context, Event, Toril

toril = Toril("sqlite://")


@toril.task
async def bake(ctx: Context, cakes: int) -> int:
    for number in range(1, cakes + 1):
        await ctx.log(f"cake {number} is ready")
    await ctx.progress(100, "all done")
    return cakes


async def main() -> None:
    async with toril:
        job = await bake.enqueue(2)
        events = job.events()
        print("now:", (await anext(events)).kind)
        async with toril.worker():
            async for event in events:
                if isinstance(event, Event) and event.kind != "active":
                    print(event.kind, event.data)


asyncio.run(main())

# expect: now: snapshot
# expect: progress {'value': {'progress': 100, 'message': 'all done'}}
# expect: log {'line': 'cake 1 is ready'}
# expect: log {'line': 'cake 2 is ready'}
# expect: completed {}
