"""The routes of a channel. `channel_api` makes them; include the result under a prefix of your own."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Header, Query, Request, Response, Security, WebSocket
from starlette.requests import HTTPConnection

from toril.app import Toril
from toril.errors import ConfigError
from toril.realtime.channel import Channel
from toril.settings import RealtimeSettings
from toril.web.access import Gate
from toril.web.api import openapi
from toril.web.api.stream import FrameStream
from toril.web.api.views import options_of
from toril.web.auth import Auth, Identity
from toril.web.channels.frames import ChannelFrames, opened
from toril.web.problems import ApiError, ProblemRoute, answer

_log = logging.getLogger("toril.web")

Allow = Callable[[Identity, Mapping[str, str]], bool | Awaitable[bool]]
"""Whether somebody may listen to the channel with these values in the fields of its name."""

_LONGEST_ID = 128
_HEARTBEAT = '{"event":"heartbeat"}'
_COME_AGAIN = 1012
_REFUSED = 1008


def everybody(identity: Identity, values: Mapping[str, str]) -> bool:
    """Everybody whom `auth` lets in may listen."""
    return True


class JobOwner:
    """Lets the owner of a job listen, and admins: `allow=JobOwner(toril, "job_id")`. `field` holds the job's id."""

    def __init__(self, toril: Toril, field: str = "job_id") -> None:
        self._toril = toril
        self._field = field

    async def __call__(self, identity: Identity, values: Mapping[str, str]) -> bool:
        """Whether `identity` may see the job. Raises EngineError."""
        id_ = values[self._field]
        # Ids that are a number are one per queue, and jobs of other producers: they have no owner.
        if identity.admin or id_.isdecimal():
            return identity.admin
        engine = self._toril.engine
        await self._toril.start()
        job = await engine.inspect.get(id_, None)
        return job is not None and identity.sees(options_of(job).owner)


def channel_api(channel: Channel[Any], *, auth: Auth | None, allow: Allow, origins: Collection[str] = ()) -> APIRouter:
    """Routes to listen to a channel: `GET …/events` (server-sent events) and a WebSocket `…/ws`.

        progress = toril.channel("code-gen:{job_id}", Progress, event="generation-progress")
        app.include_router(channel_api(progress, auth=auth, allow=JobOwner(toril)), prefix="/code-gen")

    The fields of the channel's name become parts of the path, in order: `/code-gen/{job_id}/events`. `allow` decides
    for each identity and channel, `everybody` lets in whom `auth` lets in; a refusal looks like a channel that does not
    exist. Who comes back with Last-Event-ID (or `?after=`) gets what it missed, or an event `resync` where messages are
    missing. WebSockets are taken from pages of the same host, and of `origins` (such as "https://app.example.com").
    `auth=None` serves this machine only, as with `jobs_api`. Raises ConfigError.
    """
    if isinstance(origins, str) or not all(urlsplit(origin).netloc for origin in origins):
        raise ConfigError(f"origins: expected a list of origins such as 'https://app.example.com', got {origins!r}.")
    return ChannelApi(channel, Gate(auth), allow, frozenset(origin.rstrip("/").lower() for origin in origins)).router()


class ChannelApi:
    """What the routes do."""

    def __init__(self, channel: Channel[Any], gate: Gate, allow: Allow, origins: frozenset[str]) -> None:
        self.gate = gate
        self._channel = channel
        self._allow = allow
        self._origins = origins

    def router(self) -> APIRouter:
        """The routes, ready to be included."""
        path = "".join(f"/{{{field}}}" for field in self._channel.fields)
        fields = [
            {"name": field, "in": "path", "required": True, "schema": {"type": "string"}}
            for field in self._channel.fields
        ]
        router = APIRouter(route_class=ProblemRoute, tags=["channels"], responses=openapi.GENERAL)
        router.add_api_route(
            f"{path}/events",
            self.events,
            methods=["GET"],
            response_class=Response,
            openapi_extra={"parameters": fields},
            responses={200: {"description": "The messages.", "content": {"text/event-stream": {}}}},
            dependencies=[] if self.gate.scheme is None else [Security(self.gate.scheme)],
        )
        router.add_api_websocket_route(f"{path}/ws", self.socket)
        return router

    async def events(
        self,
        request: Request,
        last_event_id: Annotated[
            str | None, Header(max_length=_LONGEST_ID, description="Go on after this message.")
        ] = None,
        after: Annotated[
            str | None, Query(max_length=_LONGEST_ID, description="The same, for clients without headers.")
        ] = None,
    ) -> Response:
        """Listen to a channel, by server-sent events."""
        frames = await self._open(request, last_event_id or after or None)
        return FrameStream(frames, heartbeat_s=self._settings.heartbeat, longest_s=self._settings.longest_stream)

    async def socket(self, websocket: WebSocket) -> None:
        """Listen to a channel, by WebSocket: each message is a JSON object with `id`, `event`, `at` and `data`."""
        try:
            self._check_origin(websocket)
            after = websocket.query_params.get("after", "")[:_LONGEST_ID]
            frames = await self._open(websocket, after or None)
        except Exception as error:  # noqa: BLE001 - the one place where a failure becomes an answer
            await _refuse(websocket, answer(error))
            return
        try:
            await websocket.accept()
            await self._talk(websocket, frames)
        finally:
            await frames.close()

    @property
    def _settings(self) -> RealtimeSettings:
        return self._channel.settings

    async def _open(self, connection: HTTPConnection, after: str | None) -> ChannelFrames:
        identity = await self.gate.admit(connection)
        values = {field: str(connection.path_params[field]) for field in self._channel.fields}
        allowed = self._allow(identity, values)
        if not (await allowed if inspect.isawaitable(allowed) else allowed):
            raise ApiError(404, "channel_not_found", "There is no such channel, or it is not yours.")
        return await opened(self._channel.of(**values), after)

    def _check_origin(self, websocket: WebSocket) -> None:
        # Browsers send cookies with WebSockets of any page, and hold no answer back: the page must be one of ours.
        origin = websocket.headers.get("origin")
        if origin is None or origin.lower() in self._origins:
            return
        if urlsplit(origin).netloc.lower() != websocket.headers.get("host", "").lower():
            raise ApiError(403, "foreign_origin", "This page may not listen here: name its origin in origins=.")

    async def _talk(self, websocket: WebSocket, frames: ChannelFrames) -> None:
        sending = asyncio.create_task(self._send(websocket, frames))
        leaving = asyncio.create_task(_left(websocket))
        try:
            left, _ = await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
        if left == {sending} and sending.exception() is None:
            # Whoever it is comes again, and shows who it is again.
            with contextlib.suppress(RuntimeError):
                await websocket.close(_COME_AGAIN)

    async def _send(self, websocket: WebSocket, frames: ChannelFrames) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._settings.longest_stream
        while (left := end - loop.time()) > 0:
            texts = await frames.texts(min(self._settings.heartbeat, left))
            if texts is None:
                return
            for text in texts or (_HEARTBEAT,):
                await websocket.send_text(text)


async def _left(websocket: WebSocket) -> None:
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


async def _refuse(websocket: WebSocket, error: ApiError) -> None:
    if "websocket.http.response" in websocket.scope.get("extensions", {}):
        await websocket.send_denial_response(error.response())
    else:
        await websocket.close(_REFUSED, error.code)
