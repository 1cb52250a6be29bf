"""Toril's Redis engine, step by step against recorded states of the real package."""

from __future__ import annotations

import pytest

from tests.interop import dump
from tests.interop.differences import GIVEN, NOTHING_LEFT, STEPS_GIVEN, compared, unlike
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
async def test_each_step_leaves_what_is_recorded(
    scenario: Scenario, wire: str, server: RedisServer, empty: dump.Client
) -> None:
    async with opened(server.url, wire=f"bullmq{scenario.major}" if wire == "forced" else "auto") as engine:
        await replay(scenario, engine, empty)


def test_every_scenario_is_replayed_or_named() -> None:
    left = {scenario.number for scenario in ALL} - {scenario.number for scenario in DONE}
    assert left == NOTHING_LEFT.keys()
    assert {scenario.number for scenario in ALL} == left | {scenario.number for scenario in DONE}
    assert len({scenario.number for scenario in ALL}) == 91


def test_a_difference_would_be_noticed() -> None:
    """The comparison is not so lenient that it would see nothing."""
    [scenario] = [one for one in ALL if one.id == "030-complete" and one.major == 6]
    for key in compared(scenario.final, scenario):
        value = scenario.final[key]
        changed = {
            "hash": {"name": "x"},
            "zset": [["x", "1"]],
            "list": ["x"],
            "set": ["x"],
            "stream": [],
            "string": "x",
        }
        for other in ({}, {key: value | {"value": changed[value["type"]]}}, {key: value | {"ttl": 60_000}}):
            rest = {name: kept for name, kept in scenario.final.items() if name != key}
            assert unlike(compared(scenario.final, scenario), compared(rest | other, scenario)) != []


def test_named_steps_exist_and_are_needed() -> None:
    steps = {
        (name, number)
        for one in ALL
        for name in (one.number, f"v{one.major}-{one.number}")
        for number in range(len(one.steps))
    }
    assert STEPS_GIVEN.keys() <= steps
    done = {step["op"] for one in ALL for step in one.steps}
    assert GIVEN.keys() <= done
