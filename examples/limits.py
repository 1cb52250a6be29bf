"""Queue-wide limits: so many at once, so many per time, and a pause when the other side asks for one."""

import asyncio

from toril import Context, RateLimited, Toril

toril = Toril("sqlite://")
# These hold over all workers on all machines, whatever their slots are.
hooks = toril.queue("hooks", concurrency=2, rate="100/s")
at_once: list[int] = []
running: set[str] = set()


@toril.task(queue="hooks")
async def deliver(ctx: Context, number: int) -> int:
    if number == 3 and ctx.starts == 1:
        raise RateLimited(in_="200ms")  # "429 Too Many Requests": nobody asks again for this long
    running.add(ctx.job_id)
    at_once.append(len(running))
    await asyncio.sleep(0.01)
    running.remove(ctx.job_id)
    return number


async def main() -> None:
    async with toril, toril.worker(concurrency=50):
        jobs = await toril.enqueue_many(deliver.call(number) for number in range(8))
        print(sum([await job.result(timeout=10) for job in jobs]), "in all,", max(at_once), "at once")
        third = await jobs[3].info()
        if third is not None:
            print("the third:", third.starts, "starts,", third.attempts_made, "attempt")
        await hooks.set_limits(concurrency=10)
        print(await hooks.limits())


asyncio.run(main())

# expect: 28 in all, 2 at once
# expect: the third: 2 starts, 1 attempt
# expect: QueueLimits(concurrency=10, rate=None)
