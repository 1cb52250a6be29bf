"""A file that somebody else keeps locked: nobody waits longer than the time-out, and nobody hangs."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from toril.engine.sqlite import connection
from toril.engine.sqlite.engine import SqliteEngine
from toril.engine.sqlite.filesystem import private_folder
from toril.errors import EngineClosed, EngineUnavailable
from toril.jobs.model import NewJob

NOW = 1_700_000_000_000


@contextmanager
def held(path: Path) -> Iterator[sqlite3.Connection]:
    """A transaction of somebody else's."""
    other = sqlite3.connect(path, isolation_level=None, timeout=5)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield other
    finally:
        other.close()


async def add(engine: SqliteEngine, number: int) -> None:
    await engine.jobs.add("q", [NewJob(f"j{number}", "noop", "{}", "{}", NOW)], batch=f"b{number}", now=NOW)


@pytest.mark.timeout(60)
async def test_calls_on_a_locked_file_fail_together_and_not_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A17
    monkeypatch.setattr(connection, "_BUSY_TIMEOUT_S", 0.5)
    engine = SqliteEngine(tmp_path / "a.db")
    await engine.start()
    with held(tmp_path / "a.db") as other:
        began = time.monotonic()
        answers = await asyncio.gather(*(add(engine, n) for n in range(100)), return_exceptions=True)
        assert {type(answer) for answer in answers} == {EngineUnavailable}
        # One after the other they would take 50 s.
        assert time.monotonic() - began < 20
        other.execute("COMMIT")
        await add(engine, 101)
    await engine.close()


@pytest.mark.timeout(60)
async def test_a_locked_file_does_not_keep_the_engine_from_closing(tmp_path: Path) -> None:
    # A01
    engine = SqliteEngine(tmp_path / "a.db")
    await engine.start()
    with held(tmp_path / "a.db"):
        waiting = [asyncio.ensure_future(add(engine, n)) for n in range(10)]
        await asyncio.sleep(0)
        began = time.monotonic()
        await engine.close()
        assert time.monotonic() - began < 8
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(answer) for answer in answers} <= {EngineUnavailable, EngineClosed}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["turn", "pen"])
async def test_a_process_that_is_stopped_in_the_queue_of_writers_holds_up_nobody_for_long(
    tmp_path: Path, name: str
) -> None:
    # A17
    engine = SqliteEngine(tmp_path / "a.db")
    await engine.start()
    stopped = os.open(private_folder(tmp_path / "a.db") / name, os.O_RDWR)
    fcntl.flock(stopped, fcntl.LOCK_EX)
    try:
        began = time.monotonic()
        for n in range(20):
            await add(engine, n)
        assert time.monotonic() - began < 15
    finally:
        os.close(stopped)
    await engine.close()
