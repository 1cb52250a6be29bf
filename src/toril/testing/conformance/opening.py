"""Starting and closing engines."""

from __future__ import annotations

import asyncio

import pytest

from toril.errors import EngineClosed
from toril.testing.conformance.stage import QUEUE, Cases, Stage, ids_of


class OpeningCases(Cases):
    """`Engine.start`, `close` and `health`."""

    async def test_an_engine_says_what_it_is(self, stage: Stage) -> None:
        """Its name and its place are text for people."""
        assert stage.engine.name
        assert stage.engine.location

    async def test_starting_twice_is_once(self, stage: Stage) -> None:
        """A started engine goes on with the store that it has."""
        await stage.add("a")
        await stage.engine.start()
        assert await stage.line() == ["a"]

    async def test_closing_twice_is_once(self, stage: Stage) -> None:
        """Closing never raises, also at the same time."""
        await asyncio.gather(stage.engine.close(), stage.engine.close())
        await stage.engine.close()

    async def test_a_closed_engine_says_so(self, stage: Stage) -> None:
        """Every port raises EngineClosed after close, the ports that were held before included."""
        jobs, inspect, keyvalue, bus = stage.jobs, stage.inspect, stage.keyvalue, stage.bus
        await stage.engine.close()
        with pytest.raises(EngineClosed):
            await jobs.add(QUEUE, [], batch="one", now=stage.now)
        with pytest.raises(EngineClosed):
            await jobs.wait_for_work([QUEUE], timeout=5)
        with pytest.raises(EngineClosed):
            await inspect.counts(QUEUE)
        with pytest.raises(EngineClosed):
            await keyvalue.get(["k"], now=stage.now)
        with pytest.raises(EngineClosed):
            await bus.tail(QUEUE)

    async def test_closing_finishes_what_is_under_way(self, stage: Stage) -> None:
        """Calls that were made before close are answered: with what they did, or that the engine is closed."""
        calls = [asyncio.create_task(stage.add(f"j{number}")) for number in range(50)]
        await asyncio.sleep(0)
        await stage.engine.close()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert all(not isinstance(each, BaseException) or isinstance(each, EngineClosed) for each in answers)

    async def test_health_of_a_started_engine(self, stage: Stage) -> None:
        """It is well, and says how long a call takes."""
        health = await stage.engine.health()
        assert health.ok
        assert 0 <= health.round_trip_ms < 5_000

    async def test_health_of_a_closed_engine(self, stage: Stage) -> None:
        """It is not well, and says so without raising."""
        await stage.engine.close()
        assert not (await stage.engine.health()).ok

    async def test_two_engines_do_not_know_each_other(self, stage: Stage) -> None:
        """Two stores in one process are two."""
        other = await stage.factory.open(stage.clock)
        try:
            await stage.add("a")
            assert await other.inspect.get("a") is None
            assert await other.inspect.queues() == ()
            assert ids_of(await stage.worker().take()) == ["a"]
        finally:
            await other.close()
