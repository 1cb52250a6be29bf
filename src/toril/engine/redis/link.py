"""Keeps one wire connected for ever: backoff with jitter between attempts, and few words in the log while away."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

from toril.engine.redis.address import Address
from toril.engine.redis.handshake import Command, Refused, connect, hint
from toril.engine.redis.wire import Wire, WireOwner
from toril.errors import ConfigError
from toril.kernel.backoff import wait_s

_JITTER = 0.5
# A connection that lived shorter than this counts as another failed attempt: a replica that refuses writes, a proxy
# without a server behind it.
_SETTLED_S = 1.0
_STILL_AWAY_S = 10.0
_LINE_S = 1.0

_log = logging.getLogger("toril.redis")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """How a client behaves. Times are seconds.

    `timeout_s`: deadline of a call that names none · `connect_timeout_s`: of one attempt to connect, with greeting ·
    `backoff_s`, `backoff_cap_s`: first and longest wait between attempts, jittered · `max_retries`: after so many
    failed attempts the waiting calls fail instead of using up their deadlines (None: they wait) · `silence_s`: a
    connection on which a reply is overdue is dropped when nothing at all came for so long · `ping_after_s`: an idle
    connection is PINGed after so long (None: never) · `max_waiting`, `max_waiting_bytes`: calls that may wait for a
    connection, or for a server that does not read · `name`: the connection's name in CLIENT LIST ·
    `quiet`: no lines in the log, for a connection that is away together with a louder one.
    """

    timeout_s: float = 5.0
    connect_timeout_s: float = 5.0
    backoff_s: float = 0.05
    backoff_cap_s: float = 2.0
    max_retries: int | None = None
    silence_s: float = 1.0
    ping_after_s: float | None = 300.0
    max_waiting: int = 100_000
    max_waiting_bytes: int = 64 * 1024 * 1024
    name: str | None = None
    quiet: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """What the owner of a client wants to hear. All are called in the event loop and must be quick.

    `pushed` gets every push message (pub/sub, invalidation), which needs RESP3; `prepare` names commands to run on
    every new connection before any other (`CLIENT TRACKING`, `SUBSCRIBE`); `up` and `down` (with the reason) frame
    every connection: what would have been pushed between a `down` and the next `up` is lost.
    """

    pushed: Callable[[list[Any]], None] | None = None
    prepare: Callable[[], Iterable[Command]] | None = None
    up: Callable[[], None] | None = None
    down: Callable[[str], None] | None = None


class LinkOwner(WireOwner, Protocol):
    """Who is told, besides what happens on a wire, when there is one."""

    def connected(self, wire: Wire) -> None:
        """A wire is ready for commands."""
        ...

    def failed(self, reason: str, *, refused: bool, failures: int) -> None:
        """An attempt failed, the `failures`-th in a row. `refused`: the server does not let us in."""
        ...


class Link:
    """One connection after the other to wherever `locate` says, until it is closed. Belongs to one event loop."""

    def __init__(
        self, locate: Callable[[], Awaitable[Address]], options: ClientOptions, listener: Listener, owner: LinkOwner
    ) -> None:
        self.where = "Redis"
        self._locate = locate
        self._options = options
        self._listener = listener
        self._owner = owner
        self._context: tuple[Address, ssl.SSLContext | None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._wire: Wire | None = None
        self._away_since: float | None = None
        self._said = -_STILL_AWAY_S

    def begin(self) -> None:
        """Start connecting, in the running loop. Beginning twice is once."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="toril-redis-link")

    async def close(self) -> None:
        """Stop connecting and drop the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._wire is not None:
            self._wire.drop("closed")
            await self._wire.gone

    async def _run(self) -> None:
        failures = 0
        while True:
            self._wire = wire = await self._attempt(failures + 1)
            if wire is None or wire.gone.done():
                failures += 1
            else:
                began = monotonic()
                self._say_back()
                self._owner.connected(wire)
                await asyncio.wait([wire.gone])
                self._wire = None
                if wire.deliberate:
                    failures = 0
                    continue
                failures = 0 if monotonic() - began >= _SETTLED_S else failures + 1
                self._say_away(wire.reason)
            first, cap = self._options.backoff_s, self._options.backoff_cap_s
            # After a long life one short wait, so that not all clients of a restarted server come at once.
            jittered = (
                wait_s(failures, base_s=first, cap_s=cap, jitter=_JITTER) if failures else first * random.random()
            )
            await asyncio.sleep(jittered)

    async def _attempt(self, number: int) -> Wire | None:
        limit = self._options.connect_timeout_s
        refused = False
        address = None
        try:
            async with asyncio.timeout(limit):
                address = await self._locate()
                self.where = address.redacted
                return await connect(
                    address,
                    owner=self._owner,
                    context=self._tls(address),
                    name=self._options.name,
                    prepare=self._listener.prepare() if self._listener.prepare is not None else (),
                    push=self._listener.pushed is not None,
                )
        except (Refused, ConfigError) as error:
            reason, refused = str(error), True
        except TimeoutError as error:
            reason = error.strerror or f"no answer within {limit:g} s"
            if address is not None and address.tls:
                reason += f" ({hint(address)})"
        except OSError as error:
            reason = error.strerror or str(error)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong while connecting, it is tried again
            reason = str(error) or type(error).__name__
        self._say_away(reason)
        self._owner.failed(reason, refused=refused, failures=number)
        return None

    def _tls(self, address: Address) -> ssl.SSLContext | None:
        if self._context is None or self._context[0] != address:
            self._context = (address, address.ssl_context())
        return self._context[1]

    def _say_away(self, reason: str) -> None:
        now = monotonic()
        if self._away_since is None:
            self._away_since = now
            gap = _LINE_S
        else:
            gap = _STILL_AWAY_S
        if now - self._said >= gap and not self._options.quiet:
            self._said = now
            _log.warning("%s is away for %.0f s: %s. Trying again.", self.where, now - self._away_since, reason)

    def _say_back(self) -> None:
        now = monotonic()
        if self._away_since is not None and now - self._said >= _LINE_S and not self._options.quiet:
            self._said = now
            _log.warning("%s is back after %.1f s.", self.where, now - self._away_since)
        self._away_since = None
