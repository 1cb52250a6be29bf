"""Server-sent events as an ASGI response (html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from toril.web.problems import answer

_log = logging.getLogger("toril.web")

RECONNECT_MS = 2000


def frame(event: str, data: str, id: str | None = None) -> bytes:
    """One event. `data` is JSON text, which has no line breaks."""
    lines = [f"event: {event}", *([] if id is None else [f"id: {id}"]), f"data: {data}"]
    return ("\n".join(lines) + "\n\n").encode()


class EventStream(Response):
    """Sends the frames of an async generator until it ends, the client goes, or `longest_s` seconds have passed.

    Every `heartbeat_s` seconds without a frame a comment is sent, so that nothing on the way takes the connection for
    dead. When the client goes, the generator is closed at once, not at the next frame. A stream ends after `longest_s`
    because its client then comes back with Last-Event-ID and shows its credentials again. A failure in the middle is
    told as an event `problem`.
    """

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncGenerator[bytes, None], *, heartbeat_s: float, longest_s: float) -> None:
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
            await self._frames.aclose()
        error = None if sending.cancelled() else sending.exception()
        # Servers of newer ASGI versions say with an OSError that the client has gone.
        if error is not None and not isinstance(error, OSError):
            raise error

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await _chunk(send, f"retry: {RECONNECT_MS}\n\n".encode())
        loop = asyncio.get_running_loop()
        end = loop.time() + self._longest_s
        following: asyncio.Task[bytes | None] | None = None
        try:
            while (left := end - loop.time()) > 0:
                following = following or asyncio.create_task(self._next())
                done, _ = await asyncio.wait({following}, timeout=min(self._heartbeat_s, left))
                if not done:
                    await _chunk(send, b": still here\n\n")
                    continue
                data, following = following.result(), None
                if data is None:
                    break
                await _chunk(send, data)
        finally:
            if following is not None:
                following.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await following
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _next(self) -> bytes | None:
        try:
            return await anext(self._frames, None)
        except Exception as error:  # noqa: BLE001 - the status has been sent: all that is left is to say it in the stream
            await self._frames.aclose()
            return frame("problem", bytes(answer(error).response().body).decode())


async def _chunk(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
