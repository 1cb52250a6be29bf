"""A job that fails runs again with growing waits, until it is told not to."""

import asyncio

from toril import Context, Exponential, JobFailed, NeverRetry, Toril

toril = Toril("sqlite://")


@toril.task(attempts=4, backoff=Exponential("10ms", jitter=0.2, cap="1s"))
async def call_model(ctx: Context, prompt: str) -> str:
    if not prompt:
        raise NeverRetry("an empty prompt will not get better")
    if ctx.attempt < 3:
        raise ConnectionError("the model is busy")
    return f"answer in attempt {ctx.attempt}"


async def main() -> None:
    async with toril, toril.worker():
        print(await (await call_model.enqueue("Why?")).result(timeout=10))
        try:
            await (await call_model.enqueue("")).result(timeout=10)
        except JobFailed as error:
            print("failed:", error.reason)


asyncio.run(main())

# expect: answer in attempt 3
# expect: failed: an empty prompt will not get better
