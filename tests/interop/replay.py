"""Replays one scenario: each step is done by Toril or, where it cannot be, written as it is recorded; after each step
the whole of Redis is compared."""

from __future__ import annotations

from typing import NamedTuple

from tests.interop import dump
from tests.interop.differences import Step, compared, reason_to_give, unlike
from tests.interop.operations import Operations
from tests.interop.recorded import Dump, Scenario, advanced
from toril.engine.protocol import Engine

LOOKING = frozenset({"counts", "state", "jobIds", "jobJson"})


class Replayed(NamedTuple):
    """How many steps that change something were done by Toril, and why the others were written."""

    done: int
    given: dict[str, str]


def plan(scenario: Scenario) -> Replayed:
    """What a replay of a scenario will do."""
    done, given = 0, {}
    for number, step in enumerate(scenario.steps):
        if step["op"] == "advance" or step["op"] in LOOKING:
            continue
        reason = reason_to_give(scenario, number)
        if reason is None:
            done += 1
        else:
            given[step["op"]] = reason
    return Replayed(done, given)


async def replay(scenario: Scenario, engine: Engine, client: dump.Client) -> None:
    """Raises AssertionError at the first step whose answer or whose state is not the recorded one."""
    operations = Operations(engine, scenario)
    expected: Dump = {}
    for number, step in enumerate(scenario.steps):
        if step["op"] == "advance":
            operations.clock.advance_ms(step["ms"])
            continue
        before, expected = expected, advanced(expected, step)
        where = f"{scenario.id} (v{scenario.major}), step {number} {step['op']}"
        if reason_to_give(scenario, number) is None:
            _construct(client, step, before)
            try:
                await operations.do(step)
            except AssertionError as error:
                raise AssertionError(f"{where}: {error}") from error
        else:
            dump.write(client, before, expected)
            operations.given(step)
        differing = unlike(compared(expected, scenario), compared(dump.read(client), scenario))
        assert not differing, where + ":\n" + "\n".join(differing)
    assert compared(expected, scenario) == compared(scenario.final, scenario), f"{scenario.id}: the recording is broken"


def _construct(client: dump.Client, step: Step, before: Dump) -> None:
    """The recordings make a Queue at the first use of one, which writes its settings. Toril has no such."""
    for key, value in step.get("changed", {}).items():
        if key.endswith(":meta") and key not in before and "version" in value["value"]:
            client.hset(key, mapping={name: value["value"][name] for name in ("version", "opts.maxLenEvents")})
