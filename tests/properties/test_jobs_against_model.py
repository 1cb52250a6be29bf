"""Random sequences of operations: after each one the engine and a model in plain Python tell the same."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.properties.machine import JobsMachine
from tests.properties.stores import MemoryStore, RedisStore
from tests.redis.conftest import shared_server
from tests.redis.server import RedisServer

__all__ = ["shared_server"]


def on_sqlite() -> JobsMachine:
    return JobsMachine(MemoryStore())


def run(machine: Callable[[], JobsMachine], examples: int, steps: int) -> None:
    # On a machine that is busy otherwise making examples is slow, and no fault.
    patience = settings(max_examples=examples, stateful_step_count=steps, suppress_health_check=list(HealthCheck))
    # Any maker of machines will do, which the types of the library do not know.
    run_state_machine_as_test(machine, settings=patience)  # type: ignore[arg-type]


# A02
@pytest.mark.timeout(300)
def test_sqlite_does_what_the_table_says() -> None:
    run(on_sqlite, 25, 40)


# A02
@pytest.mark.timeout(300)
@pytest.mark.parametrize("wire", ["auto", "bullmq5"])
def test_redis_does_what_the_table_says(shared_server: RedisServer, wire: str) -> None:
    run(lambda: JobsMachine(RedisStore(shared_server.url, wire)), 12, 30)


@pytest.mark.soak
def test_sqlite_does_it_for_long() -> None:
    run(on_sqlite, 1_000, 60)


@pytest.mark.soak
@pytest.mark.parametrize("wire", ["auto", "bullmq5"])
def test_redis_does_it_for_long(shared_server: RedisServer, wire: str) -> None:
    run(lambda: JobsMachine(RedisStore(shared_server.url, wire)), 300, 60)
