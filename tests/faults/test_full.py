"""A disk that is full: whoever enqueues is told, workers keep what they have to hand in, and all goes on with space."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from toril import Toril
from toril.engine.sqlite.engine import SqliteEngine
from toril.engine.traced import TracedEngine
from toril.errors import StoreFull

PAGES_FOR_EVER = 1_000_000_000


async def limit_size(toril: Toril, pages: int) -> int:
    """Let the file have no more than so many pages, or what it has; answers how many that is."""
    engine = toril.engine
    inner = engine.inner if isinstance(engine, TracedEngine) else engine
    assert isinstance(inner, SqliteEngine)
    answer = await inner._opened().writer.run(lambda tx: tx.value(f"PRAGMA max_page_count = {pages}"))
    return int(answer)


@pytest.mark.timeout(60)
async def test_a_full_disk_loses_nothing_and_is_waited_for(tmp_path: Path) -> None:
    # A02, A17
    toril = Toril(f"sqlite:///{tmp_path}/jobs.db")
    running, go = asyncio.Event(), asyncio.Event()
    runs: list[int] = []

    @toril.task
    async def fill(number: int, text: str) -> str:
        runs.append(number)
        running.set()
        await go.wait()
        return "x" * 20_000

    async with toril, toril.worker(concurrency=4):
        first = [await fill.enqueue(number, text="") for number in range(4)]
        await running.wait()
        await limit_size(toril, 1)

        async def enqueue_for_ever() -> None:
            while True:
                await fill.enqueue(9, text="y" * 50_000)

        with pytest.raises(StoreFull, match="the disk is full"):
            await enqueue_for_ever()
        go.set()
        # What ended cannot be handed in. Nothing of it is lost, nothing is run again, and nobody hangs.
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(handle.result() for handle in first)), 1.0)
        await limit_size(toril, PAGES_FOR_EVER)
        assert [len(await handle.result(timeout=30)) for handle in first] == [20_000] * 4
        assert await (await fill.enqueue(5, text="")).result(timeout=30)
    assert sorted(set(runs)) == sorted(runs)
