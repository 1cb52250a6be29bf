"""The lifecycle that every loop stands on."""

import asyncio
import random
from dataclasses import replace

import pytest

from toril.kernel.service import RestartBudget, Service
from toril.kernel.telemetry import LoopFailed, Telemetry

QUICK = RestartBudget(restarts=3, window_s=60, base_s=0.001, cap_s=0.001)


class Counting(Service):
    """Counts what happens to it; its loop fails as often as it is told."""

    def __init__(self, *, failures: int = 0, refuse: bool = False) -> None:
        self.told: list[LoopFailed] = []
        telemetry = Telemetry()
        telemetry.subscribe(self.told.append, LoopFailed)
        super().__init__("counting", telemetry, budget=QUICK)
        self.failures = failures
        self.refuse = refuse
        self.starts = self.stops = self.turns = self.alive = 0

    async def on_start(self) -> None:
        self.starts += 1
        self.supervise("loop", self.loop)
        await asyncio.sleep(0)
        if self.refuse:
            raise OSError("refused")

    async def on_stop(self) -> None:
        await asyncio.sleep(0)
        self.stops += 1

    async def loop(self) -> None:
        self.turns += 1
        if self.turns <= self.failures:
            raise ValueError(f"turn {self.turns}")
        self.alive += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.alive -= 1


async def test_starting_and_stopping_twice_is_once() -> None:
    service = Counting()
    await asyncio.gather(service.start(), service.start(), service.started())
    assert (service.is_running, service.starts) == (True, 1)
    await asyncio.gather(service.stop(), service.stop())
    assert (service.is_running, service.stops, service.alive) == (False, 1, 0)
    await service.finished()


async def test_any_order_of_calls_leaves_nothing_behind() -> None:
    service = Counting()
    draw = random.Random(7)
    await asyncio.gather(*(service.start() if draw.random() < 0.5 else service.stop() for _ in range(200)))
    await service.stop()
    assert service.starts == service.stops
    assert (service.alive, service.is_running) == (0, False)


async def test_a_start_that_fails_leaves_nothing_running() -> None:
    service = Counting(refuse=True)
    with pytest.raises(OSError, match="refused"):
        await service.start()
    assert (service.is_running, service.alive, service.stops) == (False, 0, 0)
    service.refuse = False
    async with service:
        assert service.is_running


async def test_a_loop_that_fails_is_started_again() -> None:
    service = Counting(failures=3)
    async with service:
        while not service.alive:
            await asyncio.sleep(0)
        assert service.turns == 4
    assert [str(event.error) for event in service.told] == ["turn 1", "turn 2", "turn 3"]
    assert all(event.restart_s is not None for event in service.told)


async def test_a_loop_that_fails_too_often_ends_the_service_with_its_error() -> None:
    service = Counting(failures=99)
    async with service:
        with pytest.raises(ValueError, match="turn 4"):
            await service.finished()
    assert service.told[-1].restart_s is None
    assert isinstance(service.failure, ValueError)


async def test_a_failed_service_that_nobody_stops_goes_on_when_it_can() -> None:
    service = Counting(failures=8)
    service._budget = replace(QUICK, rest_s=0.01)
    async with service:
        with pytest.raises(ValueError, match="turn 4"):
            await service.finished()
        while not service.alive:
            await asyncio.sleep(0)
        assert service.turns == 9


async def test_a_failed_service_stops_at_once() -> None:
    service = Counting(failures=99)
    service._budget = replace(QUICK, rest_s=1_000)
    async with service:
        with pytest.raises(ValueError, match="turn 4"):
            await service.finished()
        loop = asyncio.get_running_loop()
        began = loop.time()
    assert loop.time() - began < 5


async def test_a_failed_service_may_be_started_again() -> None:
    service = Counting(failures=4)
    async with service:
        with pytest.raises(ValueError, match="turn 4"):
            await service.finished()
    async with service:
        while not service.alive:
            await asyncio.sleep(0)
    assert service.failure is None
    await service.finished()
