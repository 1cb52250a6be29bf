"""`Unique` on a task and on a call: who gets which job."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.redis.server import RedisServer
from toril import Context, Toril, Unique

# Each process enqueues many times at once, and prints what it got.
CALLER = """
import asyncio, json, sys
from toril import Toril, Unique

toril = Toril(sys.argv[1])

@toril.task(unique=Unique("report:{user}"))
async def report(user: str) -> None: ...

async def main() -> None:
    async with toril:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        handles = await asyncio.gather(*(report.enqueue("ann") for _ in range(334)))
        print(json.dumps([[handle.id, handle.created] for handle in handles]), flush=True)

asyncio.run(main())
"""


async def test_one_key_one_job(toril: Toril) -> None:
    @toril.task(unique=Unique())
    async def render(url: str, depth: int = 2) -> str:
        return f"{url} {depth}"

    first = await render.enqueue("a")
    again, deeper, explicit = await asyncio.gather(
        render.enqueue("a"), render.enqueue("a", depth=3), render.enqueue(url="a", depth=2)
    )
    assert (first.created, again.created, deeper.created, explicit.created) == (True, False, True, False)
    assert again.id == explicit.id == first.id != deeper.id
    many = await toril.enqueue_many([render.call("a"), render.call("b"), render.call("b")])
    assert [handle.created for handle in many] == [False, True, False]
    assert [handle.id for handle in many] == [first.id, many[1].id, many[1].id]
    async with toril.worker():
        assert await again.result(timeout=5) == "a 2"
    assert (await render.enqueue("a")).created
    assert toril.job(first.id).created


async def test_a_call_may_have_its_own_rule(toril: Toril) -> None:
    @toril.task
    async def render(url: str) -> str:
        return url

    hourly = render.with_options(unique=Unique("page:{url}", window="1h"))
    first = await hourly.enqueue("a")
    async with toril.worker():
        await first.result(timeout=5)
    assert (await hourly.enqueue("a")).id == first.id
    assert (await render.enqueue("a")).created
    info = await first.info()
    assert info is not None
    assert json.loads(info.opts)["de"] == {"id": "page:a", "ttl": 3_600_000}


async def test_tasks_may_share_a_key(toril: Toril) -> None:
    @toril.task(unique=Unique("user:{id}"))
    async def export(id: int) -> None: ...

    @toril.task(unique=Unique("user:{id}"))
    async def delete(id: int) -> None: ...

    first = await export.enqueue(7)
    assert (await delete.enqueue(7)).id == first.id
    assert (await delete.enqueue(8)).created


async def test_debounced_calls_run_once_with_the_last_arguments(toril: Toril) -> None:
    ran: list[str] = []

    @toril.task(delay="150ms", unique=Unique("save:{document}", window="150ms", extend=True, replace=True))
    async def save(document: int, text: str) -> None:
        ran.append(text)

    async with toril.worker():
        handles = [await save.enqueue(1, text) for text in ("a", "ab", "abc")]
        assert [handle.created for handle in handles] == [True, True, True]
        await handles[-1].result(timeout=5)
    assert ran == ["abc"]
    assert await handles[0].info() is None


async def test_the_last_call_during_a_run_follows_it(toril: Toril) -> None:
    started, go = asyncio.Event(), asyncio.Event()
    ran: list[int] = []
    done = asyncio.Event()

    @toril.task(unique=Unique("index", keep_last=True))
    async def index(ctx: Context, version: int) -> None:
        ran.append(version)
        started.set()
        await go.wait()
        if version == 3:
            done.set()

    async with toril.worker():
        first = await index.enqueue(1)
        await asyncio.wait_for(started.wait(), 5)
        for version in (2, 3):
            assert (await index.enqueue(version)).id == first.id
        go.set()
        await asyncio.wait_for(done.wait(), 5)
    assert ran == [1, 3]


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_a_thousand_calls_from_several_processes_make_one_job(store: str, tmp_path: Path) -> None:
    # A10
    server = RedisServer(tmp_path / "redis") if store == "redis" else None
    if server is not None:
        server.start()
    url = f"sqlite:///{tmp_path}/toril.db" if server is None else server.url
    script = tmp_path / "caller.py"
    script.write_text(CALLER, encoding="utf-8")
    callers = [
        subprocess.Popen(
            [sys.executable, script, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path
        )
        for _ in range(3)
    ]
    try:
        for caller in callers:
            assert caller.stdout is not None
            assert caller.stdout.readline() == "ready\n"
        for caller in callers:
            assert caller.stdin is not None
            caller.stdin.write("go\n")
            caller.stdin.flush()
        answers = [answer for caller in callers for answer in json.loads(caller.communicate(timeout=9)[0])]
    finally:
        for caller in callers:
            caller.kill()
            caller.communicate()
        if server is not None:
            server.stop()
    assert Counter(created for _, created in answers) == {True: 1, False: 1001}
    assert len({id_ for id_, _ in answers}) == 1
