"""One job that waits for others and reads what they returned, whichever of them fail."""

import asyncio

from toril import Context, NeverRetry, Toril

toril = Toril("sqlite://")


@toril.task
async def count_words(page: str) -> int:
    if not page:
        raise NeverRetry("the page is empty")
    return len(page.split())


@toril.task
async def report(ctx: Context, title: str) -> str:
    children = await ctx.children()
    words = sum(children.results(count_words))
    return f"{title}: {words} words on {len(children.completed)} pages, {len(children.failed)} failed"


async def main() -> None:
    pages = ["the quick brown fox", "jumps over", ""]
    calls = [count_words.call(page) for page in pages]
    flow = toril.flow(report.call("foxes"), calls, on_child_failure="ignore")
    async with toril, toril.worker():
        handle = await flow.enqueue()
        print(await handle.result(timeout=10))
        print(await handle.children[0].result())


asyncio.run(main())

# expect: foxes: 6 words on 2 pages, 1 failed
# expect: 4
