"""Many calls, one job: by argument, within a time, or the last one only."""

import asyncio

from toril import Toril, Unique

toril = Toril("sqlite://")


@toril.task(unique=Unique("report:{user}"))
async def report(user: str) -> str:
    return f"report for {user}"


@toril.task(unique=Unique(window="1h"))
async def remind(user: str) -> str:
    return f"dear {user}"


@toril.task(delay="100ms", unique=Unique("save:{document}", window="100ms", extend=True, replace=True))
async def save(document: int, text: str) -> str:
    return f"saved {text}"


async def main() -> None:
    async with toril:
        first, again, other = [await report.enqueue(user) for user in ("ann", "ann", "bob")]
        print("one job for ann:", again.id == first.id, again.created, other.created)
        async with toril.worker():
            print(await again.result(timeout=10))
            await (await remind.enqueue("ann")).result(timeout=10)
            print("a second reminder within the hour:", (await remind.enqueue("ann")).created)
            typed = [await save.enqueue(1, text) for text in ("h", "he", "hello")]
            print(await typed[-1].result(timeout=10))
            print("the others are gone:", [await job.info() for job in typed[:-1]])
            print("free again:", (await report.enqueue("ann")).created)


asyncio.run(main())

# expect: one job for ann: True False True
# expect: report for ann
# expect: a second reminder within the hour: False
# expect: saved hello
# expect: the others are gone: [None, None]
# expect: free again: True
