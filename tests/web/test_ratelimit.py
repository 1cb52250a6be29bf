"""Limits in front of an application: who is counted, what is told, and that WebSockets count too."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection
from starlette.types import Message, Scope
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.web.site import client_of
from toril import ConfigError, Toril
from toril.ratelimit.limits import Limit
from toril.web import RateLimitMiddleware, rate_limited
from toril.web.client_ip import ClientAddresses


@pytest.fixture
async def toril() -> AsyncIterator[Toril]:
    async with Toril("sqlite://") as app:
        yield app


def app_with(**options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware, **options)

    @app.get("/{path:path}")
    async def page(path: str) -> str:
        return path

    @app.websocket("/ws")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        try:
            while True:
                await socket.send_text(await socket.receive_text())
        except WebSocketDisconnect as error:
            ENDED.append(error.code)

    return app


ENDED: list[int] = []


async def test_answers_tell_what_is_left_and_then_refuse(toril: Toril) -> None:
    # S3-32
    async with client_of(app_with(limit=toril.limit("api", "2/15m"))) as client:
        answers = [await client.get("/a") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["1", "0", "0"]
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {"2;w=900"}
    assert not [name for answer in answers for name in answer.headers if name.startswith("x-ratelimit")]
    assert "retry-after" not in answers[0].headers
    refused = answers[2].json()
    assert refused.keys() == {"error", "retryAfter"}
    assert str(refused["retryAfter"]) == answers[2].headers["retry-after"]
    assert 890 < refused["retryAfter"] <= 960


async def test_routes_have_limits_of_their_own(toril: Toril) -> None:
    routes = {"/api": toril.limit("api", "3/h"), "/api/login": toril.limit("login", "1/h")}
    app = app_with(limit=toril.limit("all", "6/h"), routes=routes, skip=["/health"])
    async with client_of(app) as client:
        said = [(await client.get(path)).status_code for path in ["/api/login"] * 2 + ["/api/x"] * 4 + ["/"] * 3]
        assert said == [200, 429, 200, 200, 200, 429, 200, 200, 429]
        assert [(await client.get("/health")).status_code for _ in range(9)] == [200] * 9


async def test_limits_by_user_and_plan(toril: Toril) -> None:
    limit = toril.limit("plan", "1/h")

    async def limit_for(request: HTTPConnection) -> Limit | None:
        plan = request.headers.get("plan")
        return None if plan == "free of limits" else limit.at("3/h") if plan == "gold" else limit

    async def key(request: HTTPConnection) -> str | None:
        return request.headers.get("user")

    async with client_of(app_with(limit_for=limit_for, key=key)) as client:

        async def statuses(number: int, **headers: str) -> list[int]:
            return [(await client.get("/", headers=headers)).status_code for _ in range(number)]

        assert await statuses(3, user="ada") == [200, 429, 429]
        assert await statuses(4, user="bob", plan="gold") == [200, 200, 200, 429]
        assert await statuses(3, user="eve", plan="free of limits") == [200] * 3
        assert await statuses(3) == [200] * 3


async def test_one_route_by_a_dependency(toril: Toril) -> None:
    app = FastAPI()
    login = toril.limit("login", "1/m")

    @app.post("/login", dependencies=[Depends(rate_limited(login))])
    async def log_in() -> str:
        return "welcome"

    async with client_of(app) as client:
        first, second = [await client.post("/login") for _ in range(2)]
    assert (first.status_code, second.status_code) == (200, 429)
    assert second.headers["ratelimit-limit"] == "1"
    assert int(second.headers["retry-after"]) > 50


async def talk(app: FastAPI, *texts: str) -> list[str]:
    """The kinds of messages that a WebSocket's client gets that says so much and leaves."""
    told: list[str] = []
    said: list[Message] = [{"type": "websocket.connect"}]
    said += [{"type": "websocket.receive", "text": text} for text in texts]
    said.append({"type": "websocket.disconnect", "code": 1000})

    async def receive() -> Message:
        return said.pop(0)

    async def send(message: Message) -> None:
        told.append(message["type"])

    scope = {"type": "websocket", "path": "/ws", "headers": [], "client": ("9.9.9.9", 1), "query_string": b""}
    await app({**scope, "subprotocols": [], "scheme": "ws", "root_path": ""}, receive, send)
    return told


async def test_websockets_count(toril: Toril) -> None:
    # A20
    app = app_with(limit=toril.limit("api", "2/h"))
    for _ in range(2):
        assert await talk(app, "x", "y") == ["websocket.accept", "websocket.send", "websocket.send"]
    assert await talk(app, "x") == ["websocket.close"]


async def test_messages_of_a_websocket_count(toril: Toril) -> None:
    ENDED.clear()
    app = app_with(messages=toril.limit("messages", "3/h"))
    assert await talk(app, *"abcde") == ["websocket.accept"] + ["websocket.send"] * 3
    assert ENDED == [1008]


async def test_a_refused_handshake_is_an_answer_where_the_server_can(toril: Toril) -> None:
    limit = toril.limit("api", "1/h")
    await limit.hit("9.9.9.9")
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nobody asked")

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        raise AssertionError("let through")

    can: list[dict[str, object]] = [{"websocket.http.response": {}}, {}]
    for extensions in can:
        scope = {"type": "websocket", "path": "/", "headers": [], "client": ("9.9.9.9", 1), "extensions": extensions}
        await RateLimitMiddleware(app, limit=limit)(scope, receive, send)
    assert [message["type"] for message in sent] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
        "websocket.close",
    ]
    assert sent[0]["status"] == 429


def test_a_middleware_without_a_limit_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected limit="):
        RateLimitMiddleware(FastAPI())
    with pytest.raises(ConfigError, match="at least one"):
        rate_limited()


def seen(peer: str | None, *headers: tuple[str, str], trusted: tuple[str, ...] = ("10.0.0.0/8", "::1")) -> str:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    return ClientAddresses(trusted).of({"client": None if peer is None else (peer, 1), "headers": raw})


@pytest.mark.parametrize(
    ("peer", "headers", "client"),
    [
        ("8.8.8.8", [("x-forwarded-for", "1.1.1.1")], "8.8.8.8"),
        ("10.0.0.1", [("x-forwarded-for", "1.1.1.1")], "1.1.1.1"),
        ("10.0.0.1", [("x-forwarded-for", "6.6.6.6, 1.1.1.1, 10.2.3.4")], "1.1.1.1"),
        ("10.0.0.1", [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.1.1.1:443")], "1.1.1.1"),
        ("10.0.0.1", [("x-forwarded-for", "10.0.0.7")], "10.0.0.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [("forwarded", 'for="[2001:db8:1:2:3::4]:80";proto=https')], "2001:db8:1:2::/64"),
        ("10.0.0.1", [("forwarded", "for=1.1.1.1;by=x, for=10.0.0.9"), ("x-forwarded-for", "6.6.6.6")], "1.1.1.1"),
        ("10.0.0.1", [("forwarded", "proto=https")], "unknown"),
        ("::ffff:10.0.0.1", [("x-forwarded-for", "::ffff:1.1.1.1")], "1.1.1.1"),
        ("2001:db8:1:2:3::4", [], "2001:db8:1:2::/64"),
        (None, [("x-forwarded-for", "1.1.1.1")], ""),
    ],
)
def test_only_trusted_proxies_are_believed(peer: str | None, headers: list[tuple[str, str]], client: str) -> None:
    # A20
    assert seen(peer, *headers) == client


def test_a_proxy_that_is_no_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="trusted_proxies: expected"):
        ClientAddresses(["my-proxy"])
