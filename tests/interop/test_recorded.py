"""Toril's Redis engine, step by step against recorded states of the real package."""

from __future__ import annotations

import pytest

from tests.interop import dump
from tests.interop.differences import NOTHING_LEFT
from tests.interop.engines import opened
from tests.interop.recorded import Scenario, scenarios
from tests.interop.replay import plan, replay
from tests.redis.server import RedisServer

ALL = list(scenarios())
DONE = [scenario for scenario in ALL if plan(scenario).done]


def named(scenario: Scenario) -> str:
    return f"v{scenario.major}-{scenario.id}"


@pytest.mark.parametrize("wire", ["forced", "auto"])
@pytest.mark.parametrize("scenario", DONE, ids=named)
async def test_each_step_leaves_what_is_recorded(scenario: Scenario, wire: str, shared_server: RedisServer) -> None:
    with dump.connected(shared_server.port) as client:
        client.flushdb()
        async with opened(shared_server.url, wire=f"bullmq{scenario.major}" if wire == "forced" else "auto") as engine:
            await replay(scenario, engine, client)


def test_every_scenario_is_replayed_or_named() -> None:
    left = {scenario.number for scenario in ALL} - {scenario.number for scenario in DONE}
    assert left == NOTHING_LEFT.keys()
    assert len({scenario.id for scenario in ALL}) == 92 - 1
