"""`RateLimitMiddleware`: limits in front of an application, and `rate_limited` in front of one route."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from inspect import isawaitable
from typing import Any

from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toril.errors import ConfigError
from toril.ratelimit.decision import Decision, tightest
from toril.ratelimit.limits import Hit, Limit
from toril.web.client_ip import ClientAddresses

KeyOf = Callable[[HTTPConnection], str | Awaitable[str | None] | None]
LimitFor = Callable[[HTTPConnection], Awaitable[Limit | Sequence[Limit] | None]]

_ERROR = "Too many requests: try again later."
_POLICY_VIOLATED = 1008


class RateLimitMiddleware:
    """Limits how often a client may call: `app.add_middleware(RateLimitMiddleware, limit=api_limit)`.

    `limit` holds for every request; `routes` has further ones by the begin of a path, of which the longest that fits
    holds; `limit_for` is an async function that answers the limits of a request, or None. All are checked in one step.
    What is counted is the client's address, or what `key` answers for a request (None: no limits for it).
    `trusted_proxies` are addresses and networks whose `Forwarded` and `X-Forwarded-For` are believed. `messages` limits
    what comes in over each WebSocket's client. Paths that begin with one of `skip` are not limited.

    A refused request is answered with 429, `Retry-After` and `{"error", "retryAfter"}`, a WebSocket is not accepted;
    every other answer tells in `RateLimit-…` headers what is left.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limit: Limit | Sequence[Limit] = (),
        routes: Mapping[str, Limit] | None = None,
        limit_for: LimitFor | None = None,
        key: KeyOf | None = None,
        trusted_proxies: Sequence[str] = (),
        messages: Limit | None = None,
        skip: Sequence[str] = (),
    ) -> None:
        self._app = app
        self._always = (limit,) if isinstance(limit, Limit) else tuple(limit)
        self._routes = sorted((routes or {}).items(), key=lambda route: -len(route[0]))
        self._limit_for = limit_for
        self._key = key
        self._addresses = ClientAddresses(trusted_proxies)
        self._messages = messages
        self._skip = tuple(skip)
        if not (self._always or self._routes or limit_for or messages):
            raise ConfigError(
                "RateLimitMiddleware: expected limit=, routes=, limit_for= or messages=, got none of them."
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind not in ("http", "websocket") or (self._skip and scope["path"].startswith(self._skip)):
            await self._app(scope, receive, send)
            return
        key = self._addresses.of(scope) if self._key is None else await self._asked_key(scope)
        if key is None:
            await self._app(scope, receive, send)
            return
        limits = self._always
        if self._routes or self._limit_for is not None:
            limits = await self._limits_of(scope)
        if len(limits) == 1:
            decision = await limits[0].hit(key)
        elif limits:
            decision = tightest(await limits[0].together([Hit(limit, key) for limit in limits]))
        else:
            decision = None
        if decision is not None and not decision.allowed:
            await (_refuse if kind == "http" else _refuse_socket)(decision, scope, send)
        elif kind == "websocket" and self._messages is not None:
            await self._app(scope, self._counted(receive, self._messages, key), send)
        elif decision is None or kind == "websocket":
            await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, _telling(decision, send))

    async def _asked_key(self, scope: Scope) -> str | None:
        asked = self._key(HTTPConnection(scope)) if self._key is not None else None
        return await asked if isawaitable(asked) else asked

    async def _limits_of(self, scope: Scope) -> tuple[Limit, ...]:
        limits = self._always
        for begin, limit in self._routes:
            if scope["path"].startswith(begin):
                limits = (*limits, limit)
                break
        if self._limit_for is not None:
            more = await self._limit_for(HTTPConnection(scope))
            if more is not None:
                limits = (*limits, more) if isinstance(more, Limit) else (*limits, *more)
        return limits

    @staticmethod
    def _counted(receive: Receive, limit: Limit, key: str) -> Receive:
        """Ends a WebSocket whose client sends too much, as if the client had left."""

        async def counting() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive" and not (await limit.hit(key)).allowed:
                return {"type": "websocket.disconnect", "code": _POLICY_VIOLATED}
            return message

        return counting


def rate_limited(
    *limits: Limit, key: KeyOf | None = None, trusted_proxies: Sequence[str] = ()
) -> Callable[[HTTPConnection], Awaitable[None]]:
    """A FastAPI dependency that limits one route: `@app.post("/login", dependencies=[Depends(rate_limited(login))])`.

    `key` and `trusted_proxies` as for the middleware. Raises HTTPException (429) with the same headers.
    """
    if not limits:
        raise ConfigError("rate_limited: expected at least one limit, got none.")
    addresses = ClientAddresses(trusted_proxies)

    async def check(connection: HTTPConnection) -> None:
        asked: Any = addresses.of(connection.scope) if key is None else key(connection)
        who = await asked if isawaitable(asked) else asked
        if who is not None:
            decision = tightest(await limits[0].together([Hit(limit, who) for limit in limits]))
            if not decision.allowed:
                raise HTTPException(429, _ERROR, headers=decision.headers())

    return check


def _fields(decision: Decision) -> list[tuple[bytes, bytes]]:
    limit = b"%d" % decision.limit
    return [
        (b"ratelimit-limit", limit),
        (b"ratelimit-remaining", b"%d" % decision.remaining),
        (b"ratelimit-reset", b"%d" % math.ceil(decision.reset_after)),
        (b"ratelimit-policy", b"%b;w=%d" % (limit, math.ceil(decision.window))),
    ]


def _telling(decision: Decision, send: Send) -> Send:
    async def telling(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_fields(decision)]}
        await send(message)

    return telling


async def _refuse(decision: Decision, scope: Scope, send: Send, kind: str = "http") -> None:
    wait = decision.retry_seconds
    body = to_json({"error": _ERROR, "retryAfter": wait})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"retry-after", b"%d" % wait),
        (b"cache-control", b"no-store"),
        *_fields(decision),
    ]
    await send({"type": f"{kind}.response.start", "status": 429, "headers": headers})
    await send({"type": f"{kind}.response.body", "body": body})


async def _refuse_socket(decision: Decision, scope: Scope, send: Send) -> None:
    if "websocket.http.response" in scope.get("extensions", {}):
        await _refuse(decision, scope, send, "websocket.http")
    else:
        # Before it was accepted: the server answers the handshake with 403.
        await send({"type": "websocket.close", "code": _POLICY_VIOLATED, "reason": _ERROR})
