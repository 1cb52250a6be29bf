"""Server-sent events as an ASGI response (html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from toril.web.problems import answer

_log = logging.getLogger("toril.web")

RECONNECT_MS = 2000


def frame(event: str, data: str, id: str | None = None) -> bytes:
    """One event. `data` is JSON text, which has no line breaks."""
    lines = [f"event: {event}", *([] if id is None else [f"id: {id}"]), f"data: {data}"]
    return ("\n".join(lines) + "\n\n").encode()


class Frames(Protocol):
    """What a stream sends."""

    async def take(self, timeout: float) -> bytes | None:
        """What there is to send, waiting at most `timeout` seconds: nothing when nothing came, None at the end."""
        ...

    async def close(self) -> None:
        """Nothing more is taken."""
        ...


class FrameStream(Response):
    """Sends frames until they end, the client goes, or `longest_s` seconds have passed.

    Every `heartbeat_s` seconds without a frame a comment is sent, so that nothing on the way takes the connection for
    dead. When the client goes, the frames are closed at once, not at the next one. A stream ends after `longest_s`
    because its client then comes back with Last-Event-ID and shows its credentials again. A failure in the middle is
    told as an event `problem`.
    """

    media_type = "text/event-stream"

    def __init__(self, frames: Frames, *, heartbeat_s: float, longest_s: float) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._frames = frames
        self._heartbeat_s = heartbeat_s
        self._longest_s = longest_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run as an ASGI application."""
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            await self._frames.close()
        error = None if sending.cancelled() else sending.exception()
        # Servers of newer ASGI versions say with an OSError that the client has gone.
        if error is not None and not isinstance(error, OSError):
            raise error

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await _chunk(send, f"retry: {RECONNECT_MS}\n\n".encode())
        loop = asyncio.get_running_loop()
        end = loop.time() + self._longest_s
        while (left := end - loop.time()) > 0:
            try:
                data = await self._frames.take(min(self._heartbeat_s, left))
            except Exception as error:  # noqa: BLE001 - the status has been sent: all that is left is to say it
                await _chunk(send, frame("problem", bytes(answer(error).response().body).decode()))
                break
            if data is None:
                break
            await _chunk(send, data or b": still here\n\n")
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class EventStream(FrameStream):
    """A `FrameStream` of an async generator's frames."""

    def __init__(self, frames: AsyncGenerator[bytes, None], *, heartbeat_s: float, longest_s: float) -> None:
        super().__init__(_Generated(frames), heartbeat_s=heartbeat_s, longest_s=longest_s)


class _Generated:
    """Frames of a generator, which must not be cancelled just because it has nothing yet."""

    def __init__(self, generator: AsyncGenerator[bytes, None]) -> None:
        self._generator = generator
        self._next: asyncio.Task[bytes | None] | None = None

    async def take(self, timeout: float) -> bytes | None:
        following = self._next = self._next or asyncio.create_task(self._following())
        done, _ = await asyncio.wait({following}, timeout=timeout)
        if not done:
            return b""
        self._next = None
        return following.result()

    async def close(self) -> None:
        if self._next is not None:
            self._next.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._next
        await self._generator.aclose()

    async def _following(self) -> bytes | None:
        return await anext(self._generator, None)


async def _chunk(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
