"""A network between workers and a server that can be cut, swallow everything without a word, lose replies, be slow."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

_LINGER = struct.pack("ii", 1, 0)


class Network:
    """Forwards from a free port of 127.0.0.1 to the port that `target` answers.

    `delay_s` holds every piece back. While `swallows` is set nothing goes through, and nothing is closed: who connects
    then is not answered either. While `loses_replies` is set requests arrive, and replies do not.
    """

    def __init__(self, target: Callable[[], int]) -> None:
        self.delay_s = 0.0
        self.swallows = False
        self.loses_replies = False
        self.port = 0
        self._target = target
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Cut everything, and listen no more."""
        if self._server is not None:
            self._server.close()
        await self.cut()

    async def cut(self) -> None:
        """Reset every connection."""
        pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            pair.reset()
        await asyncio.gather(*(pair.ended() for pair in pairs))

    def forget(self) -> None:
        """What a router does that has lost its table: connections of before are dead, and nobody is told."""
        for pair in self._pairs:
            pair.is_dead = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = _Pair(self, reader, writer)
        self._pairs.add(pair)
        await pair.carry(self._target())
        self._pairs.discard(pair)


class _Pair:
    """A connection to us, and ours to the server."""

    def __init__(self, network: Network, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.is_dead = False
        self._network = network
        self._reader, self._writer = reader, writer
        self._tasks: list[asyncio.Task[None]] = []

    async def carry(self, port: int) -> None:
        """Pass on in both directions until one side ends."""
        there: asyncio.StreamWriter | None = None
        try:
            while self._network.swallows:
                await asyncio.sleep(0.02)
            reader, there = await asyncio.open_connection("127.0.0.1", port)
            self._tasks = [
                asyncio.create_task(self._pass_on(self._reader, there, is_reply=False)),
                asyncio.create_task(self._pass_on(reader, self._writer, is_reply=True)),
            ]
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass
        finally:
            for task in self._tasks:
                task.cancel()
            for writer in (self._writer, there):
                if writer is not None:
                    writer.close()

    def reset(self) -> None:
        """End it with a reset instead of a farewell."""
        with suppress(OSError):
            own = self._writer.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        self._writer.transport.abort()
        for task in self._tasks:
            task.cancel()

    async def ended(self) -> None:
        """Wait until both directions are at an end."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_reply: bool) -> None:
        network = self._network
        with suppress(OSError):
            while data := await reader.read(65536):
                if network.delay_s:
                    await asyncio.sleep(network.delay_s)
                while network.swallows or self.is_dead:
                    await asyncio.sleep(0.02)
                if is_reply and network.loses_replies:
                    continue
                writer.write(data)
                await writer.drain()
