"""From a URL to an engine. A backend and its driver are loaded only when a URL asks for them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from toril.engine.ports.spool import Spool
from toril.engine.protocol import Engine
from toril.engine.traced import TracedEngine
from toril.errors import ConfigError, EngineClosed
from toril.kernel.telemetry import Telemetry
from toril.settings import RedisSettings

_FORMS = (
    "expected sqlite:///relative/path.db, sqlite:////absolute/path.db, sqlite:// (in memory) or "
    "redis://[user:password@]host[:port][/db]"
)
_REDIS = frozenset(
    {
        "redis",
        "rediss",
        "valkey",
        "valkeys",
        "unix",
        "redis+sentinel",
        "rediss+sentinel",
        "redis+cluster",
        "rediss+cluster",
    }
)
_SECRETS = frozenset({"password", "token", "secret", "key", "auth"})
_DURABLE = {"normal": False, "full": True}


class SqliteAddress(NamedTuple):
    """An SQLite store. `path` is None for one in memory; `full` asks for safety against power loss too."""

    path: str | None
    full: bool


class RedisUrl(NamedTuple):
    """A Redis or Valkey store, by a URL that has been checked."""

    url: str


def open_engine(url: str, *, telemetry: Telemetry, redis: RedisSettings | None = None) -> Engine:
    """The engine of a URL, not started, with telemetry around it. `redis` says how a Redis is used where the URL does
    not. Raises ConfigError, without showing a password.
    """
    address = parse_url(url)
    if isinstance(address, RedisUrl):
        from toril.engine.redis.engine import engine_of

        return TracedEngine(engine_of(address.url, redis), telemetry)
    from toril.engine.sqlite.engine import SqliteEngine

    return TracedEngine(SqliteEngine(address.path, full=address.full), telemetry)


def open_spool(url: str, *, target: str, limit: int) -> Spool:
    """The spool in the file of an sqlite:// URL, for jobs of the store that `target` names; `limit` is the most bytes
    of jobs. Raises ConfigError for a URL of anything else.
    """
    try:
        address = parse_url(url)
    except ConfigError as error:
        raise ConfigError(f"TORIL_JOBS_SPOOL_URL: {error}") from None
    if not isinstance(address, SqliteAddress) or address.path is None:
        raise ConfigError(
            f"TORIL_JOBS_SPOOL_URL: expected a file, such as sqlite:///toril-spool.db, got {redacted(url)!r}."
        )
    from toril.engine.sqlite.spool import SqliteSpool

    return SqliteSpool(address.path, target=target, limit=limit)


def check_url(url: str, source: str | None) -> None:
    """Raise ConfigError for a URL that is wrong; `source` is the variable that it comes from, if any."""
    try:
        parse_url(url)
    except ConfigError as error:
        if source is None:
            raise
        raise ConfigError(f"{source}: {error}") from None


def parse_url(url: str) -> SqliteAddress | RedisUrl:
    """What a URL asks for. Raises ConfigError, without showing a password."""
    shown = redacted(url)
    scheme, separator, _ = url.partition("://")
    scheme = scheme.strip().lower()
    if not separator:
        raise ConfigError(f"The URL {shown!r} has no scheme: {_FORMS}.")
    if scheme in _REDIS:
        from toril.engine.redis.engine import engine_of

        # Making an engine connects nothing, and says all that is wrong with a URL.
        engine_of(url)
        return RedisUrl(url)
    if scheme != "sqlite":
        raise ConfigError(f"The URL {shown!r} has the unknown scheme {scheme!r}: {_FORMS}.")
    try:
        parts = urlsplit(url.strip())
    except ValueError as error:
        raise ConfigError(f"The URL {shown!r} cannot be read ({error}): {_FORMS}.") from None
    if parts.netloc:
        raise ConfigError(
            f"The URL {shown!r} names the host {redacted('//' + parts.netloc)[2:]!r}, but SQLite has none: for a "
            f"relative path write three slashes, as in sqlite:///{parts.netloc.rpartition('@')[2]}{parts.path}."
        )
    if parts.fragment:
        raise ConfigError(f"The URL {shown!r} has a '#': write %23 if it belongs to the path.")
    durable = _durable(parts.query, shown)
    path = unquote(parts.path[1:])
    if not parts.path or path == ":memory:":
        return SqliteAddress(None, durable)
    if not path or path.endswith("/") or "\x00" in path:
        raise ConfigError(f"The URL {shown!r} names no file: {_FORMS}.")
    return SqliteAddress(os.path.expanduser(path), durable)


def redacted(url: str) -> str:
    """`url` without passwords and other secrets, for logs and errors."""
    scheme, separator, rest = url.rpartition("//") if url.startswith("//") else url.partition("://")
    if not separator:
        # Without a scheme nothing can be told apart: show no more than what is before a password.
        return f"…{url.rpartition('@')[2]}" if "@" in url else url
    cut = min((at for at in (rest.find(char) for char in "/?#") if at >= 0), default=len(rest))
    # A password may hold a bare '/' or '?' by mistake; everything up to the last '@' is then suspected.
    end = rest.rfind("@")
    if end >= 0 and (end < cut or ":" in rest[:cut]):
        user = rest[:end].partition(":")[0]
        rest = f"{user}:***{rest[end:]}" if ":" in rest[:end] else rest
    head, mark, query = rest.partition("?")
    if mark:
        query = "&".join(_redacted_pair(pair) for pair in query.split("&"))
    return f"{scheme}{separator}{head}{mark}{query}"


def _redacted_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    return f"{name}=***" if equals and any(word in name.lower() for word in _SECRETS) else pair


def _durable(query: str, shown: str) -> bool:
    durable = False
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name != "durable" or value not in _DURABLE:
            raise ConfigError(
                f"The URL {shown!r} has the option {redacted(f'x://?{name}={value}')[5:]!r}: expected durable=normal "
                "or durable=full."
            )
        durable = _DURABLE[value]
    return durable


class Opening:
    """Starts an engine once, on the first use, whichever thread or event loop that comes from.

    After a fork the child gets an engine of its own: threads and connections do not survive one.
    """

    def __init__(self, make: Callable[[], Engine]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._started: Engine | None = None
        self._starting: Future[bool] | None = None
        self._closed = False
        self._pid = os.getpid()

    @property
    def engine(self) -> Engine:
        """The engine, started or not. Raises EngineClosed after `close`."""
        with self._lock:
            return self._current()

    @property
    def started(self) -> bool:
        """True between a completed start and `close`."""
        return self._started is not None and self._pid == os.getpid()

    async def get(self) -> Engine:
        """The started engine. Raises EngineClosed after `close`, and what its start raises."""
        started = self._started
        if started is not None and self._pid == os.getpid():
            return started
        while True:
            with self._lock:
                engine = self._current()
                if self._started is not None:
                    return self._started
                starting, mine = self._starting, self._starting is None
                if starting is None:
                    starting = self._starting = Future()
            if mine:
                await self._start(engine, starting)
            else:
                await asyncio.shield(asyncio.wrap_future(starting))

    def reopen(self) -> None:
        """Allow use again after `close`, with a new engine."""
        with self._lock:
            self._closed = False

    async def close(self) -> None:
        """Close the engine; from now on it cannot be used. Closing twice is once."""
        with self._lock:
            engine = self._engine if self._pid == os.getpid() else None
            self._engine = self._started = None
            self._closed = True
        if engine is not None:
            await engine.close()

    def _current(self) -> Engine:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._engine = self._started = self._starting = None
        if self._closed:
            raise EngineClosed("The store was used after Toril was closed: call start() to open it again.")
        if self._engine is None:
            self._engine = self._make()
        return self._engine

    async def _start(self, engine: Engine, starting: Future[bool]) -> None:
        try:
            await engine.start()
        except Exception as error:
            self._settle(None, starting)
            starting.set_exception(error)
            # The caller gets the error itself; whether somebody else waits for it is not known.
            starting.exception()
            raise
        except BaseException:
            # Only this caller was interrupted: one of those who wait starts it instead.
            self._settle(None, starting)
            starting.set_result(False)
            raise
        self._settle(engine, starting)
        starting.set_result(True)

    def _settle(self, engine: Engine | None, starting: Future[bool]) -> None:
        with self._lock:
            if self._starting is starting:
                self._starting = None
                self._started = engine if engine is self._engine else None
