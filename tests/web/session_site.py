"""An application with sessions, and browsers that use it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from starlette.websockets import WebSocket

from toril import Settings, Toril
from toril.settings import JobSettings, RedisSettings, SessionSettings
from toril.testing.clock import ManualClock
from toril.web import SessionMiddleware, session_of

SECRET = "s" * 40
OLD_SECRET = "o" * 40
MINUTE = 60_000
HOUR = 60 * MINUTE
NAME = "__Host-session"
WRITES = {"set", "replace", "delete"}


def toril_at(
    url: str = "sqlite://", clock: ManualClock | None = None, *, patience: float = 30.0, **options: Any
) -> Toril:
    """An application whose store may take so many seconds for an answer: this machine may be busy."""
    options = {"secret": SECRET, "timeout": patience, **options}
    settings = Settings(
        sessions=SessionSettings(**options), jobs=JobSettings(on_outage="fail"), redis=RedisSettings(timeout=patience)
    )
    return Toril(url, settings=settings, clock=clock)


def app_of(toril: Toril, **options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, sessions=toril.sessions, **options)

    @app.get("/show")
    async def show(request: Request) -> dict[str, Any]:
        return {"user": session_of(request).user, **session_of(request)}

    @app.get("/untouched")
    async def untouched() -> str:
        return "hello"

    @app.get("/set/{name}/{value}")
    async def set_(request: Request, name: str, value: str) -> Response:
        session = request.session
        await asyncio.sleep(0)
        session[name] = value
        return Response(headers={"Cache-Control": "public, max-age=60"})

    @app.get("/append/{value}")
    async def append(request: Request, value: str) -> None:
        request.session.setdefault("list", []).append(value)

    @app.get("/login/{user}")
    async def login(request: Request, user: str) -> None:
        session_of(request).login(user)

    @app.get("/call/{method}")
    async def call(request: Request, method: str) -> Any:
        return getattr(session_of(request), method)()

    @app.get("/flash/{text}")
    async def flash(request: Request, text: str) -> None:
        session_of(request).flash(text)

    @app.get("/bad")
    async def bad(request: Request) -> None:
        request.session["odd"] = object()

    @app.get("/broken")
    async def broken(request: Request) -> None:
        request.session["half"] = "done"
        raise RuntimeError("broken")

    @app.websocket("/ws")
    async def socket(websocket: WebSocket) -> None:
        websocket.session["begun"] = True
        await websocket.accept()
        websocket.session["later"] = True
        await websocket.close()

    return app


def browser(app: FastAPI, cookie: str | None = None) -> httpx.AsyncClient:
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://shop.example")
    if cookie is not None:
        client.cookies.set(NAME, cookie, domain="shop.example")
    return client


async def shown(client: httpx.AsyncClient) -> dict[str, Any]:
    answer: dict[str, Any] = (await client.get("/show")).json()
    return answer


async def stored(toril: Toril) -> list[str]:
    page = await toril.engine.keyvalue.scan("session:", now=toril.clock.now_ms())
    return sorted(page.keys)


@pytest.fixture
async def toril() -> AsyncIterator[Toril]:
    async with toril_at(clock=ManualClock()) as app:
        yield app


@pytest.fixture
def clock(toril: Toril) -> ManualClock:
    assert isinstance(toril.clock, ManualClock)
    return toril.clock
