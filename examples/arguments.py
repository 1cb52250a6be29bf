"""Arguments are checked when a job is enqueued, by the annotations of the function, not at midnight."""

import asyncio
from typing import Any

from pydantic import BaseModel

from toril import InvalidArguments, Toril, WebUrl

toril = Toril("sqlite://")


class Options(BaseModel):
    depth: int = 2
    language: str = "en"


@toril.task
async def crawl(url: WebUrl, options: Options) -> str:
    return f"{url} in {options.language}, {options.depth} levels"


async def main() -> None:
    async with toril, toril.worker():
        job = await crawl.enqueue("https://example.com", Options(language="de"))
        print(await job.result(timeout=10))
        wrong: Any = {"depth": "deep"}
        try:
            await crawl.enqueue("example.com", wrong)
        except InvalidArguments as error:
            for field in error.fields:
                print(field["message"])


asyncio.run(main())

# expect: https://example.com in de, 2 levels
# expect: url: a web address was expected that begins with http:// or https://, got 'example.com'
# expect: options.depth: Input should be a valid integer, unable to parse string as an integer, got 'deep'
