"""Queues that tell less: results arrive all the same, on both engines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.redis.conftest import shared_server
from tests.redis.server import RedisServer
from toril import ConfigError, Context, Toril
from toril.jobs.telling import Told

_ = shared_server


@pytest.fixture(params=["sqlite", "redis"])
async def app(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Toril]:
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("shared_server")
        url = f"{server.url}?prefix={tmp_path.name.replace('[', '').replace(']', '')}"
    else:
        url = f"sqlite:///{tmp_path}/toril.db"
    async with Toril(url) as toril:
        yield toril


@pytest.mark.timeout(60)
async def test_what_is_declared_reaches_the_store_when_a_worker_starts(app: Toril) -> None:
    @app.task(queue="calm")
    async def add(ctx: Context, a: int, b: int) -> int:
        await ctx.progress(50)
        return a + b

    app.queue("calm", events="finished")
    async with app.worker():
        handle = await add.enqueue(1, b=2)
        kinds = [event.kind async for event in handle.events()]
        assert await handle.result(timeout=30) == 3
    assert await app.engine.inspect.told("calm") is Told.FINISHED
    # A worker that was quicker than the subscription leaves a snapshot of the finished job alone.
    assert kinds in (["snapshot"], ["snapshot", "completed"], ["snapshot", "progress", "completed"])
    page = await app.engine.bus.read("calm", after="0")
    assert [event.kind for event in page.events if event.kind != "waiting"] == ["progress", "completed"]


@pytest.mark.timeout(60)
async def test_results_come_without_any_event(app: Toril, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toril.tasks.handle._LOOK_AGAIN_S", 0.1)

    @app.task(queue="silent")
    async def double(n: int) -> int:
        return 2 * n

    app.queue("silent", events="off")
    async with app.worker():
        while await app.engine.inspect.told("silent") is not Told.OFF:
            await app.engine.bus.wait("silent", after="0", timeout=0.01)
        first = await double.enqueue(1)
        assert await first.result(timeout=30) == 2
        # Nobody is told: who waits looks by itself.
        second = await double.enqueue(2)
        kinds = [event.kind async for event in second.events()]
        assert kinds in (["snapshot"], ["snapshot", "resync"])
        assert await second.result(timeout=30) == 4
    assert (await app.engine.bus.read("silent", after="0")).events == ()


def test_two_declarations_must_agree(tmp_path: Path) -> None:
    app = Toril(f"sqlite:///{tmp_path}/toril.db")
    app.queue("calm", events="finished")
    app.queue("calm", events="finished", concurrency=3)
    with pytest.raises(ConfigError, match="two kinds of events: finished and off"):
        app.queue("calm", events="off")
    with pytest.raises(ConfigError, match="'all', 'finished', 'off', got 'some'"):
        app.queue("calm", events="some")  # type: ignore[arg-type]
