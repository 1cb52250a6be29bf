"""Flows that Toril adds, with parents and children on both sides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.interop.peer import Peer
from tests.interop.tasks import QUEUE, Answer, application
from tests.redis.server import RedisServer
from toril import Context, JobFailed, State, Task, Toril

ELSEWHERE = "elsewhere"


@pytest.fixture
async def toril(node: Peer, server: RedisServer) -> AsyncIterator[Toril]:
    async with application(server.url) as app:
        yield app


@pytest.fixture
def far() -> Toril:
    """The tasks that only Node runs, in their queue; they are called, and never served."""
    app = Toril("sqlite://")

    @app.task(name="double", queue=ELSEWHERE)
    async def double(n: int) -> Answer:
        raise AssertionError("only Node runs it")

    @app.task(name="flaky", queue=ELSEWHERE, attempts=1)
    async def flaky(failures: int) -> int:
        raise AssertionError("only Node runs it")

    @app.task(name="collect", queue=ELSEWHERE)
    async def collect() -> dict[str, Answer]:
        raise AssertionError("only Node runs it")

    return app


def task(app: Toril, name: str) -> Task[Any, Any]:
    found = app.registry.get(name)
    assert found is not None
    return found


async def test_a_parent_in_python_reads_what_node_returned(node: Peer, toril: Toril, far: Toril) -> None:
    double = task(far, "double")

    @toril.task(name="sum_up")
    async def sum_up(ctx: Context) -> int:
        return sum(answer["doubled"] for answer in (await ctx.children()).results(double))

    handle = await toril.flow(sum_up.call(), [double.call(n=n) for n in (3, 4)]).enqueue()
    await node.ask("worker", queue=ELSEWHERE)
    async with toril.worker():
        assert await handle.result(timeout=8) == 14
    assert node.errors() == []


async def test_a_parent_in_node_reads_what_python_returned(node: Peer, toril: Toril, far: Toril) -> None:
    double = task(toril, "double")
    handle = await toril.flow(task(far, "collect").call(), [double.call(n=n) for n in (3, 4)]).enqueue()
    await node.ask("worker", queue=ELSEWHERE)
    async with toril.worker():
        values = await handle.result(timeout=8)
    assert values.keys() == {f"bull:{QUEUE}:{child.job.id}" for child in handle.children}
    assert sorted(value["doubled"] for value in values.values()) == [6, 8]
    assert node.errors() == []


@pytest.mark.parametrize("parents", ["node", "toril"])
async def test_a_child_that_fails_fails_its_parent_on_the_other_side(
    node: Peer, toril: Toril, far: Toril, parents: str
) -> None:
    above, below = (far, toril) if parents == "node" else (toril, far)
    child = task(below, "flaky").with_options(attempts=1).call(failures=9)
    handle = await toril.flow(task(above, "collect").call(), [child]).enqueue()
    await node.ask("worker", queue=ELSEWHERE)
    async with toril.worker():
        with pytest.raises(JobFailed, match=f"child bull:.*{handle.children[0].job.id} failed"):
            await handle.result(timeout=8)
    info = await handle.job.info()
    assert info is not None
    assert info.state is State.FAILED
