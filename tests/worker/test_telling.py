"""Telemetry, the traced engine, and log lines."""

import asyncio
import logging
from typing import NamedTuple

import pytest

from tests.worker.workshop import EVENTS, Workshop
from toril.engine.sqlite.engine import SqliteEngine
from toril.engine.traced import TracedEngine
from toril.errors import ConfigError
from toril.jobs.states import State
from toril.kernel import telemetry as catalogue
from toril.kernel.telemetry import (
    EngineLost,
    JobDone,
    JobNotDone,
    JobStarted,
    LoopBlocked,
    PortCalled,
    ProcessEnded,
    Telemetry,
)
from toril.observability.logs import Logs


class Ping(NamedTuple):
    number: int


def test_subscribers_hear_what_they_asked_for_until_they_leave() -> None:
    telemetry, heard = Telemetry(), list[Ping]()
    telemetry.emit(Ping(0))
    assert not telemetry.wants(Ping)
    leave = telemetry.subscribe(heard.append, Ping)
    assert telemetry.wants(Ping)
    telemetry.emit(Ping(1))
    leave()
    telemetry.emit(Ping(2))
    assert heard == [Ping(1)]
    assert not telemetry.wants(Ping)


def test_a_broken_subscriber_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    telemetry, heard = Telemetry(), list[Ping]()

    def broken(event: Ping) -> None:
        raise ValueError("broken")

    telemetry.subscribe(broken, Ping)
    telemetry.subscribe(heard.append, Ping)
    telemetry.emit(Ping(1))
    assert heard == [Ping(1)]
    assert "failed on Ping" in caplog.text


def test_the_catalogue_lists_every_event() -> None:
    listed = catalogue.__doc__ or ""
    missing = [kind.__name__ for kind in [*EVENTS, PortCalled] if kind.__name__ not in listed]
    assert missing == []


async def test_every_port_call_is_told_once_with_its_error() -> None:
    telemetry, heard = Telemetry(), list[PortCalled]()
    engine = TracedEngine(SqliteEngine(None), telemetry)
    telemetry.subscribe(heard.append, PortCalled)
    await engine.start()
    await engine.inspect.counts("q")
    with pytest.raises(ConfigError):
        await engine.bus.read("q", after="none of ours")
    assert (await engine.health()).ok
    await engine.close()
    assert [(event.port, event.method, event.error) for event in heard] == [
        ("engine", "start", None),
        ("inspect", "counts", None),
        ("bus", "read", "config_error"),
        ("engine", "health", None),
        ("engine", "close", None),
    ]
    assert all(event.duration_s >= 0 for event in heard)


async def test_a_traced_engine_behaves_as_the_one_inside() -> None:
    inner = SqliteEngine(None)
    engine = TracedEngine(inner, Telemetry())
    await engine.start()
    assert (engine.name, engine.location, engine.capabilities) == (inner.name, inner.location, inner.capabilities)
    assert await engine.inspect.counts("q") == await inner.inspect.counts("q")
    assert engine.jobs is engine.jobs
    before = engine.jobs
    await engine.close()
    await engine.start()
    assert engine.jobs is not before
    await engine.close()


async def test_a_busy_worker_is_quiet(shop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    @shop.toril.task()
    async def work() -> None: ...

    handles = await shop.toril.enqueue_many(work.call() for _ in range(50))
    async with shop.worker():
        for handle in handles:
            await shop.finished(handle.id)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("toril.")]
    assert [line for line in lines if "work" in line and handles[0].id in line] == []
    assert len(lines) <= 4


async def test_a_failure_is_logged_with_its_stack_and_its_facts(
    shop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    @shop.toril.task(attempts=1)
    async def fail() -> None:
        raise ValueError("no luck")

    handle = await fail.enqueue()
    async with shop.worker():
        assert (await shop.finished(handle.id)).state is State.FAILED
    [record] = [record for record in caplog.records if record.name == "toril.jobs"]
    assert record.levelno == logging.ERROR
    assert f"fail {handle.id}: attempt 1: failed" in record.getMessage()
    assert "ValueError: no luck" in record.getMessage()
    assert 'raise ValueError("no luck")' in record.getMessage()
    facts = vars(record)
    assert (facts["job_id"], facts["task"], facts["queue"], facts["attempt"]) == (handle.id, "fail", "default", 1)


def test_at_debug_level_every_job_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "toril.jobs")
    telemetry = Telemetry()
    Logs().attach(telemetry)
    telemetry.emit(JobStarted("w", "q", "j1", "work", 1))
    telemetry.emit(JobDone("w", "q", "j1", "work", 1, 0.25))
    assert [record.getMessage() for record in caplog.records] == [
        "work j1: attempt 1 begins.",
        "work j1: done in 0.25 s.",
    ]


def test_a_storm_of_failures_is_cut_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    telemetry = Telemetry()
    Logs(lambda: now).attach(telemetry)
    failure = JobNotDone("w", "q", "j1", "work", 1, 0.1, "failed", "x", "", 0.0)
    for _ in range(500):
        telemetry.emit(failure)
    assert len(caplog.records) == 20
    now = 101.0
    telemetry.emit(failure)
    assert caplog.records[20].getMessage() == "480 more lines about jobs were left out."


def test_lines_about_the_worker_name_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    telemetry = Telemetry()
    Logs().attach(telemetry)
    telemetry.emit(LoopBlocked("w", "q", "j1", "work", 2.0, "stack"))
    telemetry.emit(EngineLost("w", "exchange", "the disk is gone"))
    telemetry.emit(ProcessEnded("worker", 17, -9, 0.5))
    blocked, lost, ended = (record.getMessage() for record in caplog.records)
    assert blocked.startswith("Event loop blocked for 2 s by job j1 (work)")
    assert lost == "The store cannot be reached, trying on: the disk is gone"
    assert ended == "Worker process 17 ended with code -9, a new one starts in 0.5 s."


async def test_without_subscribers_nothing_is_built(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = Telemetry()
    shop.toril.telemetry = quiet
    emitted: list[object] = []
    monkeypatch.setattr(quiet, "emit", emitted.append)

    @shop.toril.task()
    async def work() -> None:
        await asyncio.sleep(0)

    handle = await work.enqueue()
    async with shop.worker():
        await shop.finished(handle.id)
    assert not any(isinstance(event, JobStarted | JobDone) for event in emitted)
