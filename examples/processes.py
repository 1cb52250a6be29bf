"""Work that keeps a core busy runs in processes, so that nothing else waits for it."""

import asyncio
import os

from toril import Toril

toril = Toril("sqlite://")


@toril.task(pool="process")
def count_primes(below: int) -> tuple[int, int]:
    primes = sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, below))
    return primes, os.getpid()


async def main() -> None:
    async with toril, toril.worker():
        primes, process = await (await count_primes.enqueue(10_000)).result(timeout=30)
        print(primes, "primes, counted", "elsewhere" if process != os.getpid() else "here")


# The processes import this file too, and must not start at its end again.
if __name__ == "__main__":
    asyncio.run(main())

# expect: 1229 primes, counted elsewhere
