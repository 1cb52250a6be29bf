"""The writer thread: groups, failures inside a group, closing."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from toril.engine.sqlite.connection import SqliteThread, connect
from toril.engine.sqlite.transaction import Transaction
from toril.errors import EngineClosed, EngineError


@asynccontextmanager
async def writer(path: Path, commits: list[set[str]] | None = None) -> AsyncIterator[SqliteThread]:
    on_commit = None if commits is None else commits.append
    thread = SqliteThread(connect(path), str(path), write=True, on_commit=on_commit)
    try:
        await thread.run(lambda tx: tx.run("CREATE TABLE IF NOT EXISTS t (n INTEGER UNIQUE)"))
        yield thread
    finally:
        await asyncio.to_thread(thread.close)


def insert(n: int) -> Callable[[Transaction], int]:
    def operation(tx: Transaction) -> int:
        tx.run("INSERT INTO t VALUES (:n)", n=n)
        tx.touched.add(f"w:{n}")
        return n

    return operation


async def numbers(thread: SqliteThread) -> list[int]:
    return [row[0] for row in await thread.run(lambda tx: tx.rows("SELECT n FROM t ORDER BY n"))]


async def test_concurrent_operations_share_transactions(tmp_path: Path) -> None:
    """A hundred awaited writes take far fewer commits than a hundred."""
    commits: list[set[str]] = []
    async with writer(tmp_path / "a.db", commits) as thread:
        assert await asyncio.gather(*(thread.run(insert(n)) for n in range(100))) == list(range(100))
        assert len(commits) < 50
        assert set().union(*commits) == {f"w:{n}" for n in range(100)}


async def test_what_is_urgent_goes_before_a_long_line(tmp_path: Path) -> None:  # A03
    order: list[int] = []
    go = threading.Event()

    def note(n: int) -> Callable[[Transaction], None]:
        return lambda _: order.append(n)

    async with writer(tmp_path / "a.db") as thread:
        held = asyncio.create_task(thread.run(lambda _: go.wait()))
        waiting = [asyncio.create_task(thread.run(note(n))) for n in range(1, 1001)]
        urgent = asyncio.create_task(thread.run(note(0), urgent=True))
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(held, urgent, *waiting)
        assert order == list(range(1001))


async def test_a_failing_operation_fails_alone(tmp_path: Path) -> None:
    """One of many operations in a group breaks: the others are stored all the same."""
    async with writer(tmp_path / "a.db") as thread:
        await thread.run(insert(7))
        answers = await asyncio.gather(*(thread.run(insert(n)) for n in range(20)), return_exceptions=True)
        failed = [number for number, answer in enumerate(answers) if isinstance(answer, BaseException)]
        assert failed == [7]
        assert isinstance(answers[7], EngineError)
        assert await numbers(thread) == list(range(20))


async def test_what_an_operation_raises_reaches_its_caller(tmp_path: Path) -> None:
    """An exception that is no driver's comes out as it is, and nothing of its operation is stored."""

    def operation(tx: Transaction) -> None:
        tx.run("INSERT INTO t VALUES (1)")
        raise KeyError("mine")

    async with writer(tmp_path / "a.db") as thread:
        with pytest.raises(KeyError, match="mine"):
            await thread.run(operation)
        assert await numbers(thread) == []


async def test_closing_finishes_what_was_asked_for(tmp_path: Path) -> None:
    """Operations that were handed in before close are committed; later ones are refused."""
    async with writer(tmp_path / "a.db") as thread:
        pending = [asyncio.ensure_future(thread.run(insert(n))) for n in range(50)]
        await asyncio.sleep(0)
        await asyncio.to_thread(thread.close)
        assert await asyncio.gather(*pending) == list(range(50))
        with pytest.raises(EngineClosed, match="closed"):
            await thread.run(insert(99))
    with sqlite3.connect(tmp_path / "a.db") as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (50,)
    connection.close()


async def test_a_cancelled_caller_shifts_nothing(tmp_path: Path) -> None:
    """Callers that give up do not change what the others get."""
    async with writer(tmp_path / "a.db") as thread:
        tasks = [asyncio.ensure_future(thread.run(insert(n))) for n in range(60)]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [a for a in answers if isinstance(a, int)] == [n for n in range(60) if n % 3]


def test_spread_covers_every_number_of_rows() -> None:
    """Many rows go in few statements, whatever their number, and none is lost."""
    connection = connect(None)
    connection.execute("CREATE TABLE t (a, b)")
    tx = Transaction(connection)
    for total in (0, 1, 2, 3, 127, 128, 129, 500, 1000):
        rows = [(n, str(n)) for n in range(total)]
        assert tx.spread("INSERT INTO t SELECT column1, column2 FROM (VALUES {rows})", rows) == total
        assert tx.rows("SELECT a, b FROM t ORDER BY a") == rows
        tx.run("DELETE FROM t")
    connection.close()


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    before = {thread.name for thread in threading.enumerate()}
    yield
    after = {thread.name for thread in threading.enumerate() if "toril" in thread.name}
    assert after <= before
