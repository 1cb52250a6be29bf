"""A worker process of Toril on a shared queue: `python -m tests.interop.station <url> <concurrency>`."""

import asyncio
import sys

from tests.interop.tasks import application


async def main() -> None:
    async with application(sys.argv[1]) as toril, toril.worker(concurrency=int(sys.argv[2])):
        sys.stdout.write("up\n")
        sys.stdout.flush()
        # Until the test that started this process closes its end of the pipe, or kills it.
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
