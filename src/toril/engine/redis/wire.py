"""One connection that speaks RESP: replies are matched, in order, to the calls that were written.

Whoever owns a `Wire` gathers calls and writes them joined; the wire parses with hiredis and settles each call's
future. A future that is already done (cancelled, too late) keeps its place in the line and swallows its reply, so
nothing shifts.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Protocol, cast

import hiredis

from toril.engine.redis.replies import Moved, ReplyError, reply_error

Arg = bytes | str | int | float
Call = tuple["asyncio.Future[Any]", bytes, float, int]
"""Where the reply goes; the command as it is written; its deadline on the monotonic clock, in seconds; whether it may
be written again when its reply was lost (ONCE, REPEATABLE, or WRITTEN: it was written and is to be again). A plain
tuple, because one is made for every command."""
ONCE, REPEATABLE, WRITTEN = range(3)

# Measured: hiredis builds a command in half the time of the fastest joining of bytes in Python, short or long.
encode = cast("Callable[[tuple[Arg, ...]], bytes]", hiredis.pack_command)

_INCOMPLETE = object()
_SPECIAL = frozenset({hiredis.PushNotification, ReplyError, Moved})
_CONFIRMATIONS = frozenset(
    {b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe", b"ssubscribe", b"sunsubscribe"}
)
_HIGH_WATER_BYTES = 256 * 1024
_RECEIVE_BYTES = 64 * 1024

_log = logging.getLogger("toril.redis")


class Caller(Protocol):
    """Who sends commands: the client of one server, or of a cluster."""

    def call(self, *command: Arg, timeout_s: float | None = None, repeatable: bool = False) -> asyncio.Future[Any]:
        """As `RedisClient.call`."""
        ...


class WireOwner(Protocol):
    """Who is told what happens on a wire. All are called in the event loop and must not raise."""

    def refused(self, wire: Wire, call: Call, error: ReplyError) -> bool:
        """An error reply came. True when the owner keeps the call to write it again."""
        ...

    def pushed(self, message: list[Any]) -> None:
        """A push message of RESP3 came."""
        ...

    def writable(self, wire: Wire) -> None:
        """The wire takes writes again (`paused` has become false), or takes none for now."""
        ...

    def lost(self, wire: Wire) -> None:
        """The connection is gone. What is left in `pending` was written and will never be answered."""
        ...


class Wire(asyncio.BufferedProtocol):
    """One connection. Belongs to one event loop.

    `pending` are the calls that were written and not answered, oldest first. `heard` is when something was last
    received, or when the first of the pending calls was written, whichever is later. `paused` says that the peer does
    not read fast enough; `retiring` that nothing more may be written because the connection is about to be dropped;
    `reason` why it is or was dropped, `deliberate` that our side wanted that and nothing is wrong. `gone` is done when
    the connection has ended.
    """

    def __init__(self, owner: WireOwner, loop: asyncio.AbstractEventLoop) -> None:
        self.pending: deque[Call] = deque()
        self.heard = monotonic()
        self.paused = False
        self.retiring = False
        self.deliberate = False
        self.protocol = 2
        self.gone: asyncio.Future[None] = loop.create_future()
        self._owner = owner
        self.reason = ""
        self._confirmed = 0
        self._buffer = bytearray(_RECEIVE_BYTES)
        self._view = memoryview(self._buffer)
        self._reader = hiredis.Reader(
            protocolError=hiredis.ProtocolError, replyError=reply_error, notEnoughData=_INCOMPLETE
        )
        self._transport: asyncio.Transport | None = None

    # Writing

    @property
    def is_closing(self) -> bool:
        """True when what is written goes nowhere: a write has failed, and the loop has not said so yet."""
        return self._transport is None or self._transport.is_closing()

    def send(self, calls: Iterable[Call], now: float) -> None:
        """Write calls, joined. Those whose future is done are left out: nobody waits for them."""
        calls = [call for call in calls if not call[0].done()]
        if not calls or self._transport is None:
            return
        if not self.pending:
            self.heard = now
        # First in line, then written: a write may report a broken connection at once.
        self.pending.extend(calls)
        self._transport.write(b"".join([call[1] for call in calls]))

    def send_one(self, call: Call, now: float) -> None:
        """Write one call at once, with nothing else pending."""
        if self._transport is not None:
            self.heard = now
            self.pending.append(call)
            self._transport.write(call[1])

    def retire(self, reason: str) -> None:
        """Drop the connection as soon as everything that was written is answered."""
        if not self.retiring:
            self.retiring = True
            self.reason = reason
            self._owner.writable(self)
        if not self.pending:
            self.drop(reason)

    def drop(self, reason: str) -> None:
        """Close the connection now. `owner.lost` follows in the next turn of the loop."""
        self.reason = reason
        if self._transport is not None:
            self._transport.abort()
        if not self.retiring:
            # What is called until then is kept for the next connection.
            self.retiring = True
            self._owner.writable(self)

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.retiring = True
        self.reason = self.reason or (str(exc) if exc else "the server closed the connection")
        self._owner.lost(self)
        if not self.gone.done():
            self.gone.set_result(None)

    def pause_writing(self) -> None:
        self.paused = True
        self._owner.writable(self)

    def resume_writing(self) -> None:
        self.paused = False
        self._owner.writable(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        self.heard = monotonic()
        reader, pending = self._reader, self.pending
        reader.feed(self._buffer, 0, nbytes)  # type: ignore[arg-type]  # any buffer will do
        gets, popleft = reader.gets, pending.popleft
        try:
            while True:
                reply = gets()
                if reply is _INCOMPLETE:
                    break
                if type(reply) in _SPECIAL:
                    self._special(reply)
                    continue
                future = popleft()[0]
                if not future.done():
                    future.set_result(reply)
        except hiredis.ProtocolError as error:
            self.drop(f"it does not speak RESP ({error})")
        except IndexError:
            self.drop("it sent a reply that nothing had asked for")
        else:
            if self.retiring and not pending:
                self.drop(self.reason)

    # Replies that are no plain values

    def _special(self, reply: Any) -> None:
        if isinstance(reply, ReplyError):
            call = self.pending.popleft()
            if not call[0].done() and not self._owner.refused(self, call, reply):
                call[0].set_exception(reply)
            return
        if reply and reply[0] in _CONFIRMATIONS:
            self._confirm(reply[0])
        try:
            self._owner.pushed(reply)
        except Exception:  # noqa: BLE001 - a listener's bug must not break the line of replies
            _log.exception("A listener failed on a push message.")

    def _confirm(self, kind: bytes) -> None:
        """In RESP3, (un)subscribing is answered by one push per channel instead of a reply."""
        if not self.pending or command_name(self.pending[0][1]).lower() != kind.decode():
            return
        self._confirmed += 1
        if self._confirmed >= max(1, count_words(self.pending[0][1]) - 1):
            self._confirmed = 0
            future = self.pending.popleft()[0]
            if not future.done():
                future.set_result(None)


def command_name(command: bytes) -> str:
    """The first word of an encoded command: for messages, without arguments that may be secret."""
    return command.split(b"\r\n", 3)[2].decode("ascii", "replace")


def count_words(command: bytes) -> int:
    """How many words an encoded command has."""
    return int(command[1 : command.index(b"\r\n")])
