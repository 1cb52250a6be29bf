"""One worker process, as its supervisor sees it."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from contextlib import suppress

from toril.worker.tether import READY, TETHER_VARIABLE, WORN


class Offspring:
    """Starting, ready, perhaps worn out, ended. `generation` tells the processes of one roll from those of another.

    `ready` says that it works, `worn` why it wants to be replaced, `ended` answers its exit code. `changed` is called
    when it becomes ready or worn.
    """

    def __init__(
        self,
        process: Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        generation: int,
        changed: Callable[[], None],
    ) -> None:
        self.pid = process.pid
        self.generation = generation
        self.began = time.monotonic()
        self.ready = asyncio.Event()
        self.worn = ""
        self.rests_until = 0.0
        self._process = process
        self._changed = changed
        self._asked = False
        self.ended = asyncio.create_task(self._live(reader, writer), name=f"toril:process {process.pid}")

    @classmethod
    async def start(cls, command: Sequence[str], *, generation: int, changed: Callable[[], None]) -> Offspring:
        """Start a process with a line to this one. Raises OSError when the system has no room for it."""
        ours, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            try:
                # A session of its own: Ctrl-C in a terminal reaches the supervisor alone, which passes it on once.
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    start_new_session=True,
                    pass_fds=(number,),
                    env={**os.environ, TETHER_VARIABLE: str(number)},
                )
            except BaseException:
                ours.close()
                raise
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(process, reader, writer, generation=generation, changed=changed)

    @property
    def is_alive(self) -> bool:
        """True until it has ended."""
        return not self.ended.done()

    async def until_ready(self, timeout_s: float) -> bool:
        """Wait until it works. False when it has ended instead, or takes longer than `timeout_s`."""
        ready = asyncio.ensure_future(self.ready.wait())
        try:
            await asyncio.wait([ready, self.ended], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        return self.ready.is_set() and self.is_alive

    def stop(self, *, now: bool = False) -> None:
        """Ask it to stop, once; with `now` a second time, which means at once."""
        if now or not self._asked:
            self._asked = True
            with suppress(ProcessLookupError):
                self._process.terminate()

    def kill(self) -> None:
        """End it without asking."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def end(self, patience_s: float) -> None:
        """Ask it to stop, wait, and kill it when it is still there after `patience_s`."""
        self.stop()
        await asyncio.wait([self.ended], timeout=patience_s)
        if self.is_alive:
            self.kill()
            await asyncio.wait([self.ended])

    async def _live(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        listening = asyncio.create_task(self._listen(reader))
        try:
            return await self._process.wait()
        finally:
            listening.cancel()
            writer.close()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while line := (await reader.readline()).strip():
                if line == READY:
                    self.ready.set()
                elif line.startswith(WORN):
                    self.worn = line.removeprefix(WORN).decode("utf-8", "replace")
                self._changed()
