"""A server that speaks RESP and does what a test tells it: it splits, stalls, refuses and hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import hiredis

HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"
GREETINGS = {b"HELLO": HELLO, b"PING": b"+PONG\r\n", b"CLIENT": b"+OK\r\n", b"SELECT": b"+OK\r\n", b"AUTH": b"+OK\r\n"}


class HangUp(Exception):
    """Raised by an answer to close the connection."""


class Peer:
    """One connection to the fake. `number` counts from 1."""

    def __init__(self, number: int, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.writer = writer

    async def write(self, data: bytes, *, split: bool = False) -> None:
        """Send bytes; `split`: each by itself."""
        for piece in [data[i : i + 1] for i in range(len(data))] if split else [data]:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)


Answer = Callable[[Peer, list[bytes]], Awaitable[bytes | None]]


class FakeRedis:
    """`answer` gives the bytes to send for a command, or None for the usual ones. `commands` and `reads` are what came,
    `connections` how many did.
    """

    def __init__(self, answer: Answer) -> None:
        self.commands: list[list[bytes]] = []
        self.reads: list[int] = []
        self.connections = 0
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def named(self, name: bytes) -> list[list[bytes]]:
        """The commands of that name that came."""
        return [command for command in self.commands if command[0] == name]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        peer, parser = Peer(self.connections, writer), hiredis.Reader()
        with suppress(ConnectionError, HangUp, asyncio.CancelledError):
            while data := await reader.read(65536):
                parser.feed(data)
                number = 0
                while (command := parser.gets()) is not False:
                    number += 1
                    self.commands.append(command)
                    answer = await self._answer(peer, command)
                    await peer.write(GREETINGS.get(command[0], b"") if answer is None else answer)
                self.reads.append(number)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
