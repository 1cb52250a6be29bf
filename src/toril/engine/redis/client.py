"""The client that everything hot on Redis goes through: one connection, automatic pipelining, deadlines, reconnects.

Commands that are called in one turn of the event loop are joined into one write. A command that was surely not written
when the connection broke is written on the next one, within its deadline; one that was written may have been executed,
and its caller is told so (`EngineUnavailable.ambiguous`), unless it was marked `repeatable`.

One client belongs to one event loop. Making one is cheap and connects nothing; the first call does. Commands that
change the connection (SELECT, MULTI, WATCH, CLIENT REPLY, HELLO) or block have no place on a shared connection: use the
options, a script, or a `BlockingClient`. Replies come as bytes; with RESP3 (`protocol` 3) maps are dicts and doubles
floats where RESP2 has flat lists and bytes. What a script returns is the same in both.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from math import inf
from time import monotonic
from typing import Any

from toril.engine.redis.address import Address
from toril.engine.redis.link import ClientOptions, Link, Listener
from toril.engine.redis.replies import PAUSE, RECONNECT, ReplyError
from toril.engine.redis.wire import WRITTEN, Arg, Call, Wire, command_name, encode
from toril.errors import ConfigError, EngineClosed, EngineUnavailable

_log = logging.getLogger("toril.redis")

_PAUSE_S = 0.1
_JOINED_CALLS = 512
_SHORTEST_TIMER_S = 0.002
_REST_PER_CALL_S = 1e-6


class RedisClient:
    """One connection to one Redis, shared by everything in one event loop. `address` or `locate` says where it is:
    `locate` is asked before every attempt to connect (Sentinel).
    """

    def __init__(
        self,
        address: Address | None = None,
        *,
        locate: Callable[[], Awaitable[Address]] | None = None,
        options: ClientOptions = ClientOptions(),  # noqa: B008 - frozen
        listener: Listener = Listener(),  # noqa: B008 - frozen
    ) -> None:
        if (address is None) == (locate is None):
            raise ConfigError("RedisClient: expected either an address or a function that locates one.")
        self._address = address
        self._options = options
        self._listener = listener
        self._timeout = options.timeout_s
        self._link = Link(locate or self._fixed, options, listener, self)
        self._wire: Wire | None = None
        self._waiting: list[Call] = []
        self._parked_bytes = 0
        self._open = False
        self._alone = False
        self._flushing = False
        self._paused = False
        self._closed = False
        self._reason = "not connected yet"
        self._refusal: str | None = None
        self._create: Callable[[], asyncio.Future[Any]] = self._begin
        self._check_at = inf
        self._check_timer: asyncio.TimerHandle | None = None
        self._ping_timer: asyncio.TimerHandle | None = None

    # What callers use

    def call(self, *command: Arg, timeout_s: float | None = None, repeatable: bool = False) -> asyncio.Future[Any]:
        """Send a command; await the future for its reply. Cancelling it is safe at any time.

        `timeout_s`: its deadline in seconds. `repeatable`: executing it twice is harmless, so it may be written again
        when the connection broke before the reply. The future raises ReplyError when the server answers an error,
        EngineUnavailable when no reply came in time (`ambiguous` when the command may have been executed) or when too
        much is waiting already, EngineClosed when the client is closed. A word that is no bytes, str, int or float
        raises TypeError at once.
        """
        payload = encode(command)
        future = self._create()
        now = monotonic()
        deadline = now + (self._timeout if timeout_s is None else timeout_s)
        call = (future, payload, deadline, repeatable)
        if deadline < self._check_at:
            self._check_by(deadline, now)
        if not self._open:
            self._park(call)
        elif self._alone and not self._waiting and self._wire is not None and not self._wire.pending:
            # One caller that awaits each reply gains a turn of the loop when nothing is gathered for it.
            self._wire.send_one(call, now)
        else:
            self._alone = False
            self._waiting.append(call)
            if not self._flushing:
                self._flushing = True
                future.get_loop().call_soon(self._flush)
        return future

    async def start(self, timeout_s: float | None = None) -> None:
        """Connect, and return when the server answers. Nobody must call this: the first call connects too.

        Raises EngineUnavailable with the reason when it does not answer within `timeout_s` seconds; the client then
        goes on trying.
        """
        await self.call(b"PING", timeout_s=timeout_s, repeatable=True)

    async def close(self, timeout_s: float = 1.0) -> None:
        """Give what is under way `timeout_s` seconds to finish, then let go of everything. Closing twice is once."""
        if self._closed:
            return
        self._closed = True
        self._create = self._refuse
        wire = self._wire
        if wire is not None and timeout_s > 0:
            under_way = [call[0] for call in (*wire.pending, *self._waiting) if not call[0].done()]
            if under_way:
                await asyncio.wait(under_way, timeout=timeout_s)
        await self._link.close()
        self._fail_waiting("the client was closed")
        for timer in (self._check_timer, self._ping_timer):
            if timer is not None:
                timer.cancel()

    @property
    def is_connected(self) -> bool:
        """True while commands can be written at once."""
        return self._open

    @property
    def protocol(self) -> int:
        """The RESP version that is spoken, 0 while there is no connection."""
        return 0 if self._wire is None else self._wire.protocol

    @property
    def location(self) -> str:
        """Where the server is, without password."""
        return self._link.where if self._address is None else self._address.redacted

    def drop(self, reason: str) -> None:
        """Close the connection now; the client makes a new one. What was written and not answered fails."""
        if self._wire is not None:
            self._wire.deliberate = True
            self._wire.drop(reason)

    # What the link and its wire tell (LinkOwner); nobody else calls these

    def connected(self, wire: Wire) -> None:
        self._wire = wire
        self._refusal = None
        self._tell(self._listener.up)
        self._update()
        after = self._options.ping_after_s
        if after is not None:
            self._ping_timer = asyncio.get_running_loop().call_later(after, self._ping, wire, after)

    def failed(self, reason: str, *, refused: bool, failures: int) -> None:
        self._reason = reason
        self._refusal = reason if refused else None
        retries = self._options.max_retries
        if refused or (retries is not None and failures % (retries + 1) == 0):
            self._fail_waiting(reason)

    def lost(self, wire: Wire) -> None:
        if wire is not self._wire:
            return
        self._wire = None
        self._reason = wire.reason
        if self._ping_timer is not None:
            self._ping_timer.cancel()
        now = monotonic()
        again = []
        for call in wire.pending:
            future, payload, deadline, repeatable = call
            if future.done():
                continue
            if repeatable and deadline > now and not self._closed:
                again.append((future, payload, deadline, WRITTEN))
            else:
                future.set_exception(self._unanswered(call, f"the connection broke ({wire.reason})"))
        self._waiting[:0] = again
        self._update()
        if self._listener.down is not None:
            reason, down = wire.reason, self._listener.down
            self._tell(lambda: down(reason))

    def writable(self, wire: Wire) -> None:
        self._update()

    def pushed(self, message: list[Any]) -> None:
        if self._listener.pushed is not None:
            self._listener.pushed(message)

    def refused(self, wire: Wire, call: Call, error: ReplyError) -> bool:
        if wire is not self._wire or self._closed or call[2] <= monotonic():
            was_lost = call[3] == WRITTEN and error.code in RECONNECT | PAUSE
            if was_lost:
                call[0].set_exception(self._unanswered(call, error.message))
            return was_lost
        if error.code in RECONNECT:
            self._waiting.append(call)
            wire.retire(error.message)
            return True
        if error.code in PAUSE:
            self._waiting.append(call)
            self._reason = error.message
            if not self._paused:
                self._paused = True
                self._update()
                call[0].get_loop().call_later(_PAUSE_S, self._go_on)
            return True
        return False

    # Writing

    def _begin(self) -> asyncio.Future[Any]:
        """The first future: from now on the client belongs to the running loop."""
        loop = asyncio.get_running_loop()
        self._create = loop.create_future
        self._link.begin()
        return loop.create_future()

    def _refuse(self) -> asyncio.Future[Any]:
        raise EngineClosed(f"{self.location}: the client is closed. Start the engine again, or call before closing.")

    async def _fixed(self) -> Address:
        assert self._address is not None  # noqa: S101 - __init__ has checked it
        return self._address

    def _update(self) -> None:
        wire = self._wire
        self._open = wire is not None and not (wire.paused or wire.retiring or self._paused)
        if self._open and self._waiting and not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _go_on(self) -> None:
        self._paused = False
        self._update()

    def _flush(self) -> None:
        self._flushing = False
        waiting, wire = self._waiting, self._wire
        if wire is None or not self._open or wire.is_closing or not waiting:
            return
        now = monotonic()
        if len(waiting) <= _JOINED_CALLS:
            self._waiting = []
            wire.send(waiting, now)
            self._alone = len(waiting) == 1 == len(wire.pending)
        else:
            sent = 0
            while self._open and sent < len(waiting):
                wire.send(waiting[sent : sent + _JOINED_CALLS], now)
                sent += _JOINED_CALLS
            self._waiting = waiting[sent:]
        self._parked_bytes = sum(len(call[1]) for call in self._waiting)

    def _park(self, call: Call) -> None:
        """Keep a call until it can be written, or refuse it when that is pointless or too much."""
        if self._refusal is not None:
            call[0].set_exception(self._unsent(call, self._refusal))
            return
        if self._is_full(call):
            self._forget_done()
        if self._is_full(call):
            number, size = len(self._waiting), self._parked_bytes
            reason = f"{number} calls with {size} bytes wait already ({self._reason})"
            call[0].set_exception(self._unsent(call, reason))
            return
        self._waiting.append(call)
        self._parked_bytes += len(call[1])

    def _is_full(self, call: Call) -> bool:
        options = self._options
        size = self._parked_bytes + len(call[1])
        return len(self._waiting) >= options.max_waiting or size > options.max_waiting_bytes

    def _forget_done(self) -> None:
        self._waiting = [call for call in self._waiting if not call[0].done()]
        self._parked_bytes = sum(len(call[1]) for call in self._waiting)

    # Time

    def _check_by(self, deadline: float, now: float) -> None:
        """One timer serves all calls: it looks at them when the earliest deadline comes."""
        if self._check_timer is not None:
            self._check_timer.cancel()
        self._check_at = deadline
        delay = max(deadline - now, _SHORTEST_TIMER_S)
        self._check_timer = asyncio.get_running_loop().call_later(delay, self._check)

    def _check(self) -> None:
        now = monotonic()
        self._check_at, self._check_timer = inf, None
        earliest = inf
        for call in self._waiting:
            if not call[0].done():
                if call[2] > now:
                    earliest = min(earliest, call[2])
                else:
                    call[0].set_exception(self._unsent(call, f"no connection in time ({self._reason})"))
        if earliest is inf or len(self._waiting) > 1:
            self._forget_done()
        wire = self._wire
        if wire is not None and wire.pending:
            earliest = min(earliest, self._check_written(wire, now))
        if earliest < inf:
            # Many calls with deadlines close together must not be looked at all the time.
            looked = len(self._waiting) + (0 if wire is None else len(wire.pending))
            self._check_by(max(earliest, now + looked * _REST_PER_CALL_S), now)

    def _check_written(self, wire: Wire, now: float) -> float:
        """Fail the calls that are overdue; drop a connection that has gone silent. Answers when to look again."""
        earliest = inf
        for call in wire.pending:
            if not call[0].done():
                if call[2] > now:
                    earliest = min(earliest, call[2])
                else:
                    call[0].set_exception(self._unanswered(call, "no reply in time"))
        oldest = wire.pending[0][2]
        if oldest > now:
            return min(earliest, oldest)
        silent_until = wire.heard + self._options.silence_s
        if silent_until <= now:
            wire.drop(f"no reply to {command_name(wire.pending[0][1])} in time, and silence since then")
            return earliest
        return min(earliest, silent_until)

    def _ping(self, wire: Wire, after: float) -> None:
        if wire is not self._wire:
            return
        idle = monotonic() - wire.heard
        if not wire.pending and idle >= after:
            self.call(b"PING").add_done_callback(_consume)
            idle = 0.0
        wait = after if wire.pending else max(after - idle, _SHORTEST_TIMER_S)
        self._ping_timer = asyncio.get_running_loop().call_later(wait, self._ping, wire, after)

    # Errors

    def _fail_waiting(self, reason: str) -> None:
        waiting, self._waiting, self._parked_bytes = self._waiting, [], 0
        for call in waiting:
            if not call[0].done():
                call[0].set_exception(self._unsent(call, reason))

    def _unsent(self, call: Call, reason: str) -> EngineUnavailable:
        if call[3] == WRITTEN:
            return self._unanswered(call, f"{reason}, and an answer was lost before")
        return EngineUnavailable(f"{self.location}: {command_name(call[1])} was not executed: {reason}.")

    def _unanswered(self, call: Call, reason: str) -> EngineUnavailable:
        text = f"{self.location}: {command_name(call[1])} may or may not have been executed: {reason}."
        return EngineUnavailable(text, ambiguous=True)

    def _tell(self, listener: Callable[[], None] | None) -> None:
        if listener is not None:
            try:
                listener()
            except Exception:  # noqa: BLE001 - a listener's bug must not stop the connection
                _log.exception("A listener of %s failed.", self.location)


def _consume(future: asyncio.Future[Any]) -> None:
    # An overdue PING has done its work by being overdue.
    if not future.cancelled():
        future.exception()
