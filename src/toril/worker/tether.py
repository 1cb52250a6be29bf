"""The line between a supervisor and a worker process of it, seen from the worker.

The process says on it that it works, and that it is worn out; the end of the line tells at once that the supervisor is
gone, however it went.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress

from toril.worker.wear import Wear

TETHER_VARIABLE = "TORIL_SUPERVISOR_LINE"
"""In the environment of a child: the number of its open socket."""
READY = b"ready"
WORN = b"worn "

_LOOK_EVERY_S = 0.5


class Tether:
    """The child's end of the line."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    @classmethod
    def taken(cls) -> Tether | None:
        """The line that this process was started with, None when nobody supervises it. To be called once, before
        anything that starts processes: neither the variable nor the socket is theirs.
        """
        number = os.environ.pop(TETHER_VARIABLE, "")
        if not number.isdigit():
            return None
        try:
            line = socket.socket(fileno=int(number))
        except OSError:
            return None
        line.set_inheritable(False)
        return cls(line)

    def watch(self) -> None:
        """From now on, send this process SIGTERM when its supervisor is gone, so that no worker outlives it."""
        threading.Thread(target=self._watch, name="toril-tether", daemon=True).start()

    async def attend(self, is_well: Callable[[], Awaitable[bool]], wear: Wear) -> None:
        """Say that the worker is ready, once `is_well` says so too, and that it is worn out, once it is."""
        while not await is_well():  # noqa: ASYNC110 - a store has no event to wait for
            await asyncio.sleep(_LOOK_EVERY_S)
        self._say(READY)
        self._say(WORN + (await wear.worn_out()).encode())

    def _say(self, words: bytes) -> None:
        # Nobody to hear it: `watch` knows that as well.
        with suppress(OSError):
            self._line.sendall(words + b"\n")

    def _watch(self) -> None:
        with suppress(OSError):
            while self._line.recv(64):
                pass
        os.kill(os.getpid(), signal.SIGTERM)
