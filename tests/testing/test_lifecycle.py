"""Every service survives the stress, and the stress finds services that do not."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import toril
from toril.engine.sqlite.engine import SqliteEngine
from toril.kernel.clock import SystemClock
from toril.kernel.service import Service
from toril.kernel.telemetry import Telemetry
from toril.tasks.registry import Registry
from toril.testing.lifecycle import stress
from toril.worker.worker import Worker


class Ticker(Service):
    """A service with two loops that never end."""

    async def on_start(self) -> None:
        self.supervise("one", self.forever)
        await asyncio.sleep(0)
        self.supervise("two", self.forever)

    async def forever(self) -> None:
        await asyncio.Event().wait()


class Leaky(Ticker):
    """Forgets a task."""

    async def on_start(self) -> None:
        await super().on_start()
        self.forgotten = asyncio.create_task(self.forever(), name="forgotten")


class Stuck(Ticker):
    """Never gets ready."""

    async def on_start(self) -> None:
        await asyncio.Event().wait()


class Unlocked(Ticker):
    """Starts its loops anew at each start."""

    async def start(self) -> None:
        await super().start()
        await self.on_start()

    async def stop(self) -> None:
        """Leaves what was started."""
        self._running.clear()


def ticker(kind: type[Ticker]) -> Callable[[], Service]:
    return lambda: kind("ticker", Telemetry())


async def test_a_simple_service() -> None:
    await stress(ticker(Ticker))


async def test_a_worker() -> None:
    engine = SqliteEngine()
    await engine.start()
    try:
        await stress(lambda: Worker(engine=engine, registry=Registry(), queues=["line"], clock=SystemClock()), rounds=2)
    finally:
        await engine.close()


@pytest.mark.parametrize("kind", [Leaky, Stuck, Unlocked])
async def test_what_is_wrong_is_found(kind: type[Ticker]) -> None:
    before = asyncio.all_tasks()
    with pytest.raises(AssertionError, match=kind.__name__):
        await stress(ticker(kind), rounds=1, deadline_s=0.1)
    left = asyncio.all_tasks() - before
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def test_every_service_is_stressed() -> None:
    sources = (path.read_text(encoding="utf-8") for path in Path(toril.__file__).parent.rglob("*.py"))
    kinds = {
        name for source in sources for name in re.findall(r"^class (\w+)\(.*\bService\b.*\):", source, re.MULTILINE)
    }
    assert kinds == {"Worker"}, "a service without a stress test: add one above and its name here"
