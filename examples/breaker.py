"""A circuit breaker: what fails is left alone for a while, by every process that calls it."""

import asyncio

from toril import BreakerOpen, Toril

toril = Toril("sqlite://")
openai = toril.breaker(
    "AI-openai", group="aiProviders", timeout="30s", error_threshold=0.5, volume=4, reset_after="30s"
)


async def ask_model(prompt: str) -> str:
    raise ConnectionError("no route to the model")


async def cached_answer(prompt: str) -> str:
    return f"what was said last time about {prompt}"


# While the breaker is open jobs of this task are put off, and no attempt is burned.
@toril.task(breaker=openai)
async def summarize(prompt: str) -> str:
    return await ask_model(prompt)


async def main() -> None:
    async with toril:
        for _ in range(4):
            print(await openai.call(ask_model, "owls", fallback=cached_answer))
        try:
            async with openai:
                print("not reached")
        except BreakerOpen as refused:
            print(refused.code, round(refused.retry_after))

        stats = (await toril.breakers.grouped())["aiProviders"]["AI-openai"]
        print(stats.state, stats.failures, stats.rejected, stats.last_error)

        await openai.reset()
        print(openai.state)


asyncio.run(main())

# expect: what was said last time about owls
# expect: what was said last time about owls
# expect: what was said last time about owls
# expect: what was said last time about owls
# expect: breaker_open 30
# expect: open 4 1 ConnectionError: no route to the model
# expect: closed
