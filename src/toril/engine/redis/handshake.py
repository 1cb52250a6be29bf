"""From an address to a wire that is ready for commands: connect, greet, log in, choose the database."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable
from time import monotonic
from typing import Any

from toril.engine.redis.address import Address
from toril.engine.redis.replies import ReplyError
from toril.engine.redis.wire import Arg, Call, Wire, WireOwner, encode

Command = tuple[Arg, ...]

# A peer that vanished without a word is noticed within a minute, without sending commands.
# The kernel asks, at no command: a server that is gone without a word is noticed after ten seconds or so.
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}
_NOT_NOW = ("LOADING", "MASTERDOWN", "BUSY", "CLUSTERDOWN")


class Refused(Exception):
    """The server is there but does not let us in: trying again changes nothing until somebody changes something."""


class NotReady(Exception):
    """The server is there but not ready for commands: trying again soon will do."""


async def connect(
    address: Address,
    *,
    owner: WireOwner,
    context: ssl.SSLContext | None,
    name: str | None,
    prepare: Iterable[Command],
    push: bool,
) -> Wire:
    """A wire on which commands may be written.

    `name` is the connection's name in CLIENT LIST, `prepare` are commands to run before any other, `push` says that
    push messages are needed and with them RESP3. Cancelling drops the connection. Raises OSError, Refused or NotReady.
    """
    loop = asyncio.get_running_loop()
    wire = Wire(owner, loop)
    try:
        await _transport(loop, address, wire, context)
        await _greet(wire, address, push=push)
        if name is not None:
            await _ask(wire, [(b"CLIENT", b"SETNAME", name)], optional=True)
        commands: list[Command] = [(b"SELECT", address.db)] if address.db else []
        await _ask(wire, [*commands, *prepare, (b"PING",)])
    except ssl.SSLCertVerificationError as error:
        raise Refused(f"its certificate is not trusted: {error.verify_message} (see ssl_ca_certs)") from None
    except ssl.SSLError as error:
        raise Refused(f"TLS failed: {error.reason or error} ({hint(address)})") from None
    except ConnectionResetError as error:
        wire.drop("the connection could not be set up")
        raise ConnectionResetError(f"{error.strerror or error} ({hint(address)})") from None
    except BaseException:
        wire.drop("the connection could not be set up")
        raise
    return wire


def hint(address: Address) -> str:
    """What may be wrong when a server does not answer the way it should."""
    return "a server without TLS is redis://" if address.tls else "a server with TLS is rediss://"


async def _transport(
    loop: asyncio.AbstractEventLoop, address: Address, wire: Wire, context: ssl.SSLContext | None
) -> None:
    if address.path is not None:
        await loop.create_unix_connection(lambda: wire, address.path)
        return
    server_hostname = address.host if context is not None else None
    transport, _ = await loop.create_connection(
        lambda: wire, address.host, address.port, ssl=context, server_hostname=server_hostname
    )
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


async def _greet(wire: Wire, address: Address, *, push: bool) -> None:
    """Agree on the protocol and log in. Servers before 6.0 do not know HELLO and speak RESP2."""
    login = () if address.password is None else (address.username or "default", address.password)
    if address.protocol >= 3:
        [greeting] = await _replies(wire, [(b"HELLO", 3, *((b"AUTH", *login) if login else ()))])
        if not isinstance(greeting, ReplyError):
            wire.protocol = 3
            return
        if not (greeting.code == "NOPROTO" or greeting.message.lower().startswith("err unknown command")):
            raise _cause(greeting)
    if push:
        raise Refused("it does not speak RESP3, which push messages need: expected Redis 6.0 or newer, or Valkey")
    if login:
        # Before 6.0 there are no users: AUTH takes the password alone.
        await _ask(wire, [(b"AUTH", *(login if address.username else login[1:]))])


async def _ask(wire: Wire, commands: list[Command], *, optional: bool = False) -> None:
    """Run commands. Unless they are optional, the first error ends the attempt."""
    for reply in await _replies(wire, commands):
        if isinstance(reply, ReplyError) and not optional:
            raise _cause(reply)


async def _replies(wire: Wire, commands: list[Command]) -> list[Any]:
    loop = asyncio.get_running_loop()
    calls: list[Call] = [(loop.create_future(), encode(command), float("inf"), False) for command in commands]
    futures = [call[0] for call in calls]
    wire.send(calls, monotonic())
    answered: asyncio.Future[Any] = asyncio.gather(*futures, return_exceptions=True)
    both: list[asyncio.Future[Any]] = [answered, wire.gone]
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    replies = [future.exception() or future.result() for future in futures if future.done()]
    if len(replies) < len(commands):
        # An error before the end says more than the lost connection: "max number of clients reached".
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise _cause(reply)
        raise ConnectionResetError(f"the connection broke during the greeting: {wire.reason}")
    return replies


def _cause(error: ReplyError) -> Exception:
    if error.code in _NOT_NOW or "max number of clients" in error.message:
        return NotReady(error.message)
    return Refused(error.message)
