"""What type checkers must refuse: each line that ends in `# refused` is an error, and no other line is one."""

from toril import Context, Toril

toril = Toril("sqlite://")


@toril.task
async def generate(ctx: Context, url: str, depth: int = 2) -> int:
    return depth


@toril.task(attempts=3)
def add(a: int, b: int) -> int:
    return a + b


async def wrong_arguments() -> None:
    await generate.enqueue()  # refused
    await generate.enqueue(5)  # refused
    await generate.enqueue("u", depth="deep")  # refused
    await generate.enqueue("u", dept=3)  # refused
    await generate.enqueue("u", 3, 4)  # refused
    await generate.enqueue("u", delay=5)  # refused
    await generate.enqueue(ctx=None, url="u")  # refused
    generate.call("u", "deep")  # refused
    await generate(5)  # refused
    add(1)  # refused
    add.enqueue_sync(1, "2")  # refused
    add.enqueue_sync(1, 2, priority=1)  # refused


async def wrong_results() -> None:
    job = await generate.enqueue("u")
    text: str = await job.result()  # refused
    number: str = add(1, 2)  # refused
    assert text != number


def wrong_options() -> None:
    add.with_options(attempts="three")  # refused
    add.with_options(retries=3)  # refused
    toril.task(attemps=3)  # refused
    toril.task(pool="fibre")  # refused
    toril.task(5)  # refused


@toril.cached(ttl=60)
async def kept(user: str, limit: int = 10) -> int:
    return 1


class Desk:
    @toril.cached(ttl=60)
    async def report(self, n: int) -> int:
        return n


async def wrong_cached_calls() -> None:
    await kept(5)  # refused
    await kept("ada", limt=3)  # refused
    await kept.invalidate()  # refused
    await Desk().report("3")  # refused
    toril.cached()  # refused
