"""The threads that talk to SQLite: one writer that commits operations in groups, one reader beside it.

An operation is a function of a `Transaction`. It may be run twice (a group that fails is repeated one by one), so it
changes nothing but the database. Callers await it from any thread's event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from toril.engine.sqlite.faults import is_busy, translated
from toril.engine.sqlite.ticket import Ticket
from toril.engine.sqlite.transaction import Transaction
from toril.errors import EngineClosed

T = TypeVar("T")

_MOST_OPERATIONS = 200
_LONGEST_GROUP_S = 0.005
_BUSY_TIMEOUT_S = 10.0
_CLOSING_TIMEOUT_S = 1.0
_LOOK_EVERY_MS = 100
_CACHE_KIB = 64 * 1024
_CHECKPOINT_PAGES = 4000
_WAL_LIMIT_BYTES = 64 * 1024 * 1024


class _Request(NamedTuple):
    operation: Callable[[Transaction], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    asked: float


class _Look:
    """In the line: there is, or was, something urgent."""


_LOOK = _Look()
_Answer = tuple[_Request, Any, Exception | None]


def connect(
    path: Path | None, *, full: bool = False, read_only: bool = False, shrinking: bool = False
) -> sqlite3.Connection:
    """A connection with the settings that every connection of this engine has. A file that is made by it can give
    room back if it is `shrinking`. Raises sqlite3.Error.
    """
    target = ":memory:" if path is None else str(path)
    connection = sqlite3.connect(
        target, isolation_level=None, cached_statements=512, check_same_thread=False, timeout=_BUSY_TIMEOUT_S
    )
    try:
        if read_only:
            connection.execute("PRAGMA query_only = 1")
        elif path is not None:
            if shrinking:
                # Before anything else: it is settled with the file's first page.
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
        connection.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute("PRAGMA temp_store = MEMORY")
    except BaseException:
        connection.close()
        raise
    return connection


class SqliteThread:
    """A thread that owns one connection and runs operations on it.

    `write` says whether operations are grouped into `BEGIN IMMEDIATE` transactions; a reader runs each by itself.
    `on_commit` is called in the thread, after each commit, with the topics that the group touched.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        location: str,
        *,
        write: bool,
        ticket: Ticket | None = None,
        on_commit: Callable[[set[str]], None] | None = None,
    ) -> None:
        self._connection = connection
        self._location = location
        self._write = write
        self._ticket = ticket
        self._on_commit = on_commit
        self._requests: queue.SimpleQueue[_Request | _Look | None] = queue.SimpleQueue()
        self._urgent: deque[_Request] = deque()
        self._put_off: deque[_Request | None] = deque()
        self._closing = threading.Lock()
        self._closed = False
        self._closed_at = math.inf
        if write:
            # Looked at again and again instead of waited for in one piece: it may be told to close meanwhile.
            connection.execute(f"PRAGMA busy_timeout = {_LOOK_EVERY_MS}")
        name = "toril-sqlite-writer" if write else "toril-sqlite-reader"
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, operation: Callable[[Transaction], T], *, urgent: bool = False) -> T:
        """Run an operation, an urgent one before all that are not. When this returns, its changes are committed. Raises
        EngineError, or what the operation raises.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._closing:
            if self._closed:
                raise EngineClosed(f"{self._location}: the engine is closed. Start it again, or call before closing.")
            request = _Request(operation, loop, future, time.monotonic())
            if urgent:
                self._urgent.append(request)
                self._requests.put(_LOOK)
            else:
                self._requests.put(request)
        return await future

    def close(self) -> None:
        """Finish what was asked for, then close the connection. Blocks until then, but not for a database that somebody
        else keeps locked: what waits for that fails.
        """
        with self._closing:
            first = not self._closed
            self._closed = True
            if first:
                self._closed_at = time.monotonic()
                self._requests.put(None)
        self._thread.join()

    def _work(self) -> None:
        more = True
        while more:
            request = self._next(wait=True)
            if request is None:
                break
            if self._write:
                more = self._group(request)
            else:
                _answer([self._alone(request)])
        self._connection.close()
        if self._ticket is not None:
            self._ticket.close()

    def _next(self, *, wait: bool) -> _Request | None:
        """The next request, None when the thread is to end. Raises queue.Empty."""
        while True:
            if self._urgent:
                return self._urgent.popleft()
            if self._put_off:
                return self._put_off.popleft()
            request = self._requests.get(wait)
            if not isinstance(request, _Look):
                return request

    def _group(self, first: _Request) -> bool:
        """Run `first` and what has gathered behind it in one transaction. False when the thread is to end."""
        begun, more = False, True
        answers: list[_Answer] = []
        requests = [first]
        transaction = Transaction(self._connection)
        try:
            self._begin(first)
            begun = True
            deadline = time.monotonic() + _LONGEST_GROUP_S
            answers.append((first, first.operation(transaction), None))
            while len(requests) < _MOST_OPERATIONS and time.monotonic() < deadline:
                try:
                    request = self._next(wait=False)
                except queue.Empty:
                    break
                if request is None:
                    more = False
                    break
                requests.append(request)
                answers.append((request, request.operation(transaction), None))
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whatever an operation raises belongs to its caller
            self._roll_back(begun)
            if not begun:
                requests += self._overdue()
            answers = [(request, None, error) for request in requests] if not begun or len(requests) == 1 else []
        finally:
            if self._ticket is not None:
                self._ticket.give_back()
        if answers:
            self._tell(transaction)
            _answer([self._clean(answer) for answer in answers])
        else:
            # One of several failed: each again by itself, so that only the guilty one is told.
            _answer([self._alone(request) for request in requests])
        return more

    def _alone(self, request: _Request) -> _Answer:
        """Run one operation by itself."""
        transaction = Transaction(self._connection)
        begun = False
        try:
            if self._write:
                self._begin(request)
                begun = True
            value = request.operation(transaction)
            if self._write:
                self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - as above
            self._roll_back(begun)
            return self._clean((request, None, error))
        finally:
            if self._ticket is not None:
                self._ticket.give_back()
        self._tell(transaction)
        return (request, value, None)

    def _begin(self, request: _Request) -> None:
        """Begin to write. Raises sqlite3.OperationalError when somebody else keeps the database locked for too long."""
        if self._ticket is not None:
            self._ticket.take(max(0.0, self._deadline(request) - time.monotonic()))
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() >= self._deadline(request):
                    raise

    def _deadline(self, request: _Request) -> float:
        return min(request.asked + _BUSY_TIMEOUT_S, self._closed_at + _CLOSING_TIMEOUT_S)

    def _overdue(self) -> list[_Request]:
        """What else has waited for long enough: it must not wait as long again, one after the other."""
        with contextlib.suppress(queue.Empty):
            while True:
                request = self._requests.get_nowait()
                if not isinstance(request, _Look):
                    self._put_off.append(request)
        now = time.monotonic()
        overdue = [one for one in self._put_off if one is not None and self._deadline(one) <= now]
        self._put_off = deque(one for one in self._put_off if one is None or self._deadline(one) > now)
        while self._urgent and self._deadline(self._urgent[0]) <= now:
            overdue.append(self._urgent.popleft())
        return overdue

    def _roll_back(self, begun: bool) -> None:
        if begun and self._connection.in_transaction:
            # A failed rollback (the disk is gone) changes nothing: SQLite rolls back when the file is next opened.
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _tell(self, transaction: Transaction) -> None:
        if transaction.touched and self._on_commit is not None:
            self._on_commit(transaction.touched)

    def _clean(self, answer: _Answer) -> _Answer:
        request, value, error = answer
        if isinstance(error, sqlite3.Error):
            ours = translated(error, self._location)
            ours.__cause__ = error
            error = ours
        return (request, value, error)


def _answer(answers: list[_Answer]) -> None:
    """Hand results to the loops that asked, one call per loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Answer]] = {}
    for answer in answers:
        by_loop.setdefault(answer[0].loop, []).append(answer)
    for loop, group in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, group)
        except RuntimeError:
            # The loop that asked has been closed: nobody waits any more.
            continue


def _resolve(answers: list[_Answer]) -> None:
    for request, value, error in answers:
        if request.future.done():
            continue
        if error is None:
            request.future.set_result(value)
        else:
            request.future.set_exception(error)
