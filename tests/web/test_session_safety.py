"""Sessions and what may go wrong: forged cookies, stores that are away, mistakes."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from tests.web.session_site import (
    HOUR,
    NAME,
    OLD_SECRET,
    SECRET,
    app_of,
    browser,
    clock,
    shown,
    stored,
    toril,
    toril_at,
)
from tests.web.site import declare, enqueue
from toril import ConfigError, InvalidArguments, PayloadTooLarge, Toril
from toril.kernel.telemetry import PortCalled
from toril.sessions.session import Session
from toril.testing.clock import ManualClock
from toril.web import SessionAuth, SessionMiddleware, jobs_api

__all__ = ["clock", "toril"]


async def test_secrets_are_replaced_one_after_another(toril: Toril) -> None:
    # S3-34
    both = toril_at(secret=f"{SECRET},{OLD_SECRET}")
    old = toril_at(secret=OLD_SECRET)
    for each in (both, old):
        each._stores = toril._stores
        each.sessions._reach = toril.sessions._reach
    async with browser(app_of(old)) as client:
        await client.get("/set/a/1")
        signed_before = client.cookies[NAME]
    async with browser(app_of(toril), signed_before) as client:
        assert await shown(client) == {"user": None}
    async with browser(app_of(both), signed_before) as client:
        assert await shown(client) == {"user": None, "a": "1"}
        signed_now = (await client.get("/show")).cookies.get(NAME) or client.cookies[NAME]
    assert signed_now.split(".")[0] == signed_before.split(".")[0]
    assert signed_now != signed_before
    async with browser(app_of(toril), signed_now) as client:
        assert await shown(client) == {"user": None, "a": "1"}
    for each in (both, old):
        await each.close()


@pytest.mark.parametrize(
    "change", [lambda v: v[:-1] + "A", lambda v: "x" + v[1:], lambda v: v.split(".")[0], lambda v: ""]
)
async def test_a_forged_cookie_does_not_reach_the_store(toril: Toril, change: Any) -> None:
    # S3-34
    app = app_of(toril)
    async with browser(app) as client:
        await client.get("/set/a/1")
        forged = change(client.cookies[NAME])
    calls: list[str] = []
    toril.telemetry.subscribe(lambda call: calls.append(call.method), PortCalled)
    async with browser(app, forged) as client:
        assert await shown(client) == {"user": None}
        assert calls == []


async def test_an_id_that_is_gone_is_never_used_again(toril: Toril, clock: ManualClock) -> None:
    """Whoever planted it must not know the id of the session that begins."""
    app = app_of(toril)
    async with browser(app) as client:
        await client.get("/set/a/1")
        planted = client.cookies[NAME]
        clock.advance_ms(48 * HOUR)
        await client.get("/set/a/2")
        assert client.cookies[NAME] != planted


async def test_sessions_may_be_encrypted_in_the_store() -> None:
    async with toril_at(encrypt=True) as toril, browser(app_of(toril)) as client:
        await client.get("/set/card/4711-0815")
        await client.get("/login/ada")
        assert await shown(client) == {"user": "ada", "card": "4711-0815"}
        for key in await stored(toril):
            [raw] = await toril.engine.keyvalue.get([key], now=0)
            assert raw is not None
            assert b"4711" not in raw
            assert b"ada" not in raw
            await toril.engine.keyvalue.set([(key, b"not sealed")], ttl_ms=HOUR, now=toril.clock.now_ms())
        assert await shown(client) == {"user": None}


async def test_flashes_are_shown_once(toril: Toril) -> None:
    async with browser(app_of(toril)) as client:
        for text in ("saved", "sent"):
            await client.get(f"/flash/{text}")
        assert (await client.get("/call/flashes")).json() == [["saved", "info"], ["sent", "info"]]
        assert (await client.get("/call/flashes")).json() == []


async def test_what_cannot_be_stored_is_an_error(toril: Toril) -> None:
    small = toril_at(limit=200)
    async with browser(app_of(toril)) as client, browser(app_of(small)) as tight:
        with pytest.raises(InvalidArguments, match="session"):
            await client.get("/bad")
        with pytest.raises(PayloadTooLarge, match="200"):
            await tight.get("/set/a/" + "x" * 300)
        with pytest.raises(RuntimeError, match="broken"):
            await client.get("/broken")
        assert await stored(toril) == []
    await small.close()


@pytest.mark.timeout(60)
async def test_a_store_that_is_away_is_a_503_and_nobody_waits() -> None:
    # A22
    away = toril_at("redis://127.0.0.1:1", patience=1.0)
    async with away, toril_at() as here, browser(app_of(here)) as seed:
        await seed.get("/set/a/1")
        async with browser(app_of(away), seed.cookies[NAME]) as client:
            answer = await client.get("/show")
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "sessions_unavailable")
            assert "Retry-After" in answer.headers
            began = time.monotonic()
            for _ in range(40):
                assert (await client.get("/show")).status_code == 503
            # Forty times the patience, if each had waited.
            assert time.monotonic() - began < 20
        async with browser(app_of(away)) as nobody:
            assert (await nobody.get("/untouched")).status_code == 200
            assert (await nobody.get("/set/a/1")).status_code == 503
        cookie = seed.cookies[NAME]
    lenient = toril_at("redis://127.0.0.1:1", patience=1.0, on_outage="empty")
    async with lenient, browser(app_of(lenient), cookie) as client:
        assert await shown(client) == {"user": None}
        answer = await client.get("/set/a/1")
        assert answer.status_code == 200
        assert "set-cookie" not in answer.headers


async def test_a_websocket_has_the_session_and_may_change_it(toril: Toril) -> None:
    app = app_of(toril)
    async with browser(app) as client:
        await client.get("/set/a/1")
        sent: list[Message] = []
        incoming: Iterator[Message] = iter(
            [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]
        )

        async def receive() -> Message:
            return next(incoming)

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {
            "type": "websocket",
            "path": "/ws",
            "raw_path": b"/ws",
            "query_string": b"",
            "root_path": "",
            "scheme": "wss",
            "headers": [(b"cookie", f"x=1; {NAME}={client.cookies[NAME]}; y=2".encode())],
            "subprotocols": [],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        await app(scope, receive, send)
        assert sent[0]["type"] == "websocket.accept"
        assert await shown(client) == {"user": None, "a": "1", "begun": True, "later": True}


async def test_a_change_after_the_answer_has_begun_is_told(toril: Toril, caplog: pytest.LogCaptureFixture) -> None:
    async def late(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        scope["session"]["late"] = True
        await send({"type": "http.response.body", "body": b""})

    middleware = SessionMiddleware(late, sessions=toril.sessions)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(middleware), base_url="https://a") as client:
        await client.get("/")
    assert "after its answer had begun" in caplog.text
    assert await stored(toril) == []


async def test_who_is_logged_in_may_use_the_other_routes(toril: Toril) -> None:
    declare(toril)
    app = app_of(toril)
    app.include_router(jobs_api(toril, auth=SessionAuth(admin=lambda session: session.user == "root")), prefix="/api")
    job = await enqueue(toril, owner="ada")
    async with browser(app) as client:
        assert (await client.get(f"/api/jobs/{job}")).status_code == 401
        for user, status in (("bob", 404), ("ada", 200), ("root", 200)):
            await client.get(f"/login/{user}")
            assert (await client.get(f"/api/jobs/{job}")).status_code == status
    bare = FastAPI()
    bare.include_router(jobs_api(toril, auth=SessionAuth()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(bare), base_url="https://a") as client:
        assert (await client.get("/jobs/stats")).status_code == 500


def test_mistakes_are_told_when_they_are_made() -> None:
    app = FastAPI()
    for secret in (None, "short", f"{SECRET},short"):
        toril = toril_at(secret=secret)
        with pytest.raises(ConfigError, match="sessions"):
            SessionMiddleware(app, sessions=toril.sessions)
    fine = toril_at().sessions
    wrong: list[dict[str, Any]] = [
        {"same_site": "no"},
        {"cookie": "a b"},
        {"cookie": "a;b"},
        {"path": "a"},
        {"path": "/;"},
        {"domain": "a b"},
    ]
    for options in wrong:
        with pytest.raises(ConfigError, match="SessionMiddleware"):
            SessionMiddleware(app, sessions=fine, **options)
    with pytest.raises(ConfigError, match="same_site"):
        SessionMiddleware(app, sessions=toril_at(secure=False).sessions, same_site="none")
    for user in ("", "x" * 257, None):
        with pytest.raises(ConfigError, match="login"):
            Session().login(user)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="key"):
        Session()[1] = 2  # type: ignore[index]


def test_a_session_is_a_dictionary() -> None:
    session = Session()
    assert not session
    session.update(a=1, b=[2])
    assert (dict(session), len(session), session.pop("a"), "a" in session) == ({"a": 1, "b": [2]}, 2, 1, False)
    assert json.dumps(dict(session)) == '{"b": [2]}'
    assert session.is_new
    assert session.created is None
    session.clear()
    assert not session.changes().changed
