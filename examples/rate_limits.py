"""Rate limits: so often in a time, by key, over all processes; for callers, and for calls to somebody else's API."""

import asyncio

from toril import LimitExceeded, Toril

toril = Toril("sqlite://")
per_user = toril.limit("per-user", "3/15m")
per_address = toril.limit("per-address", "100/m")
# What another service allows: evenly spread, a tenth of a second between two calls.
outgoing = toril.limit("weather-service", "10/s", algorithm="gcra", burst=1)


@toril.task
async def forecast(city: str) -> str:
    async with outgoing.slot("our-account"):
        return f"sunny in {city}"


async def main() -> None:
    async with toril, toril.worker():
        for _ in range(4):
            decision = await per_user.hit("ada")
            print(decision.allowed, decision.remaining)
        print(sorted(decision.headers()))

        # Several in one step: all are counted, or none is.
        decisions = await toril.limits.hit(per_user.on("bob"), per_address.on("10.0.0.1"))
        print([decision.remaining for decision in decisions])

        try:
            (await per_user.hit("ada")).require()
        except LimitExceeded as error:
            print(error.code)

        jobs = await toril.enqueue_many(forecast.call(city) for city in ("Paris", "Rome", "Oslo"))
        print([await job.result(timeout=10) for job in jobs])


asyncio.run(main())

# expect: True 2
# expect: True 1
# expect: True 0
# expect: False 0
# expect: ['RateLimit-Limit', 'RateLimit-Policy', 'RateLimit-Remaining', 'RateLimit-Reset', 'Retry-After']
# expect: [2, 99]
# expect: limit_exceeded
# expect: ['sunny in Paris', 'sunny in Rome', 'sunny in Oslo']
