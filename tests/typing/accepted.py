"""What type checkers must accept, with the types that they must see. Read by `test_typing.py`, never run."""

from collections.abc import Coroutine
from typing import Any, assert_type

from pydantic import BaseModel

from toril import Call, Context, Exponential, JobHandle, Retention, Task, Toril, WebUrl
from toril.tasks.task import AsyncTask, PlainTask

toril = Toril("sqlite://")


class Report(BaseModel):
    pages: int


@toril.task(queue="docs", attempts=3, backoff=Exponential(1.0, jitter=0.2), timeout="5m", retention=Retention())
async def generate(ctx: Context, url: WebUrl, depth: int = 2) -> Report:
    return Report(pages=depth)


@toril.task
async def fetch(url: str, *, retries: int = 0) -> bytes:
    return b""


@toril.task
def resize(ctx: Context, path: str, width: int) -> str:
    return path


@toril.task(pool="process", name="summe")
def add(a: int, b: int = 0) -> int:
    return a + b


@toril.task()
async def nothing() -> None: ...


async def with_context() -> None:
    job = await generate.enqueue("https://example.com", depth=3)
    assert_type(job, JobHandle[Report])
    assert_type(await job.result(timeout=60), Report)
    assert_type(job.result_sync("5s"), Report)
    assert_type(await generate("https://example.com"), Report)
    coroutine = generate("https://example.com")
    await assert_type(coroutine, Coroutine[Any, Any, Report])
    urgent = generate.with_options(delay="10m", priority=1, id="mine")
    assert_type(await urgent.enqueue(url="https://example.com"), JobHandle[Report])


async def without_context() -> None:
    assert_type(await (await fetch.enqueue("https://example.com", retries=1)).result(), bytes)
    assert_type(fetch.call("x"), Call[bytes])
    assert_type(await nothing.enqueue(), JobHandle[None])


def plain() -> None:
    assert_type(resize("a.png", 5), str)
    assert_type(resize.enqueue_sync("a.png", width=5), JobHandle[str])
    assert_type(add(1), int)
    assert_type(add.enqueue_sync(a=1, b=2).result_sync(), int)


async def bulk() -> None:
    assert_type(await toril.enqueue_many(add.call(n) for n in range(3)), list[JobHandle[int]])
    mixed: list[Call[object]] = [add.call(1), resize.call("a", 1)]
    assert_type(await toril.enqueue_many(mixed), list[JobHandle[object]])
    await toril.enqueue_many([add.call(1), resize.call("a", 1)])
    assert_type(toril.job("j1"), JobHandle[Any])


def kinds(a: AsyncTask[[str], bytes], b: PlainTask[[str, int], str]) -> list[Task[..., Any]]:
    return [a, b, generate, add]


@toril.cached(ttl="5m", tags=["user:{user}"])
async def kept(user: str, limit: int = 10) -> list[Report]:
    return []


@toril.cached(ttl=60)
def kept_plain(n: int) -> str:
    return ""


class Desk:
    @toril.cached(ttl=60)
    async def report(self, n: int) -> Report:
        return Report(pages=n)

    @toril.cached(ttl=60)
    def title(self, n: int) -> str:
        return ""


async def cached_functions() -> None:
    assert_type(await kept("ada", limit=3), list[Report])
    assert_type(kept_plain(1), str)
    assert_type(await Desk().report(3), Report)
    assert_type(Desk().title(n=3), str)
    await kept.invalidate("ada")
    kept_plain.invalidate_sync(1)
    await Desk().report.invalidate(3)
    assert_type(kept.key("ada"), str)
