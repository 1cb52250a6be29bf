"""Sessions in requests: what is stored and when, the cookie, and who is logged in."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from starlette.types import Message
from starlette.websockets import WebSocket

from tests.redis.conftest import shared_server
from tests.web.site import declare, enqueue
from toril import ConfigError, InvalidArguments, PayloadTooLarge, Settings, Toril
from toril.kernel.telemetry import PortCalled
from toril.sessions.session import Session
from toril.settings import JobSettings, RedisSettings, SessionSettings
from toril.testing.clock import ManualClock
from toril.web import SessionAuth, SessionMiddleware, jobs_api

__all__ = ["shared_server"]

SECRET = "s" * 40
OLD_SECRET = "o" * 40
MINUTE = 60_000
HOUR = 60 * MINUTE
NAME = "__Host-session"
WRITES = {"set", "replace", "delete"}


def toril_at(url: str = "sqlite://", clock: ManualClock | None = None, **options: Any) -> Toril:
    options.setdefault("secret", SECRET)
    settings = Settings(
        sessions=SessionSettings(**options), jobs=JobSettings(on_outage="fail"), redis=RedisSettings(timeout=0.5)
    )
    return Toril(url, settings=settings, clock=clock)


def app_of(toril: Toril, **options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, sessions=toril.sessions, **options)

    @app.get("/show")
    async def show(request: Request) -> dict[str, Any]:
        return {"user": request.session.user, **request.session}  # type: ignore[attr-defined]

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
        request.session.login(user)  # type: ignore[attr-defined]

    @app.get("/call/{method}")
    async def call(request: Request, method: str) -> Any:
        return getattr(request.session, method)()

    @app.get("/flash/{text}")
    async def flash(request: Request, text: str) -> None:
        request.session.flash(text)  # type: ignore[attr-defined]

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


async def test_an_empty_session_is_not_stored(toril: Toril) -> None:
    # S3-34, A22
    async with browser(app_of(toril)) as client:
        for path in ("/show", "/untouched", "/call/flashes", "/call/logout", "/call/rotate"):
            answer = await client.get(path)
            assert NAME not in answer.cookies
        assert await stored(toril) == []


async def test_the_cookie_is_as_safe_as_cookies_are(toril: Toril) -> None:
    # S3-34, A22
    async with browser(app_of(toril)) as client:
        answer = await client.get("/set/cart/7")
        [cookie] = answer.headers.get_list("set-cookie")
        first, *attributes = cookie.split("; ")
        assert first.startswith(f"{NAME}=")
        assert set(attributes) == {"Max-Age=86400", "Path=/", "HttpOnly", "SameSite=Lax", "Secure"}
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["vary"] == "Cookie"
        assert await shown(client) == {"user": None, "cart": "7"}
        [key] = await stored(toril)
        assert client.cookies[NAME].split(".")[0] not in key
    insecure = toril_at(secure=False)
    async with insecure, httpx.AsyncClient(transport=httpx.ASGITransport(app_of(insecure)), base_url="http://a") as it:
        assert "Secure" not in (await it.get("/set/a/1")).headers["set-cookie"]
        assert (await shown(it))["a"] == "1"
    async with browser(app_of(toril, cookie="id", path="/a", domain="example.com", same_site="strict")) as client:
        cookie = (await client.get("/set/cart/7")).headers["set-cookie"]
        assert cookie.startswith("id=")
        assert {"Path=/a", "Domain=example.com", "SameSite=Strict"} <= set(cookie.split("; "))


async def test_a_request_reads_once_and_writes_only_changes(toril: Toril, clock: ManualClock) -> None:
    # S3-34
    calls: list[str] = []
    toril.telemetry.subscribe(lambda call: calls.append(call.method) if call.port == "keyvalue" else None, PortCalled)
    async with browser(app_of(toril)) as client:
        await client.get("/untouched")
        assert calls == []
        await client.get("/append/a")
        assert calls == ["set"]
        calls.clear()
        for _ in range(3):
            await client.get("/untouched")
            answer = await client.get("/show")
            assert "set-cookie" not in answer.headers
        assert calls == ["get"] * 6
        calls.clear()
        await client.get("/append/b")
        assert set(calls) & WRITES == {"replace"}
        assert (await shown(client))["list"] == ["a", "b"]
        calls.clear()
        # Every few minutes it is written that somebody was there, and the browser keeps the cookie for longer.
        clock.advance_ms(6 * MINUTE)
        assert "set-cookie" not in (await client.get("/untouched")).headers
        assert "Max-Age=86400" in (await client.get("/show")).headers["set-cookie"]
        assert calls.count("replace") == 1
        await client.get("/show")
        assert calls.count("replace") == 1


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["memory", "file", "redis"])
async def test_fifty_requests_at_once_set_fifty_keys(kind: str, tmp_path: Any, request: pytest.FixtureRequest) -> None:
    """Through two applications, as two processes have them."""
    # A22
    url = {"memory": "sqlite://", "file": f"sqlite:///{tmp_path}/t.db"}.get(kind) or request.getfixturevalue(
        "shared_server"
    ).url
    one = toril_at(url)
    other = one if kind == "memory" else toril_at(url)
    async with one, browser(app_of(one)) as first:
        await first.get("/set/begun/yes")
        async with browser(app_of(other), first.cookies[NAME]) as second:
            answers = await asyncio.gather(
                *((first if number % 2 else second).get(f"/set/k{number}/{number}") for number in range(50))
            )
            assert {answer.status_code for answer in answers} == {200}
            found = await shown(first)
            assert found == {"user": None, "begun": "yes", **{f"k{number}": str(number) for number in range(50)}}
        await other.close()


async def test_changes_are_merged_key_by_key(toril: Toril) -> None:
    # A22
    async with browser(app_of(toril)) as client:
        await client.get("/set/a/1")
        await client.get("/set/b/1")
        store = toril.sessions.store
        id_ = client.cookies[NAME].split(".")[0]
        mine, yours = await store.load(id_), await store.load(id_)
        assert mine is not None
        assert yours is not None
        del mine["a"]
        mine["c"] = {"deep": [1]}
        yours["b"] = "2"
        yours["a2"] = None
        for session in (mine, yours):
            await store.save(session, device=("", ""))  # type: ignore[arg-type]
        assert await shown(client) == {"user": None, "b": "2", "a2": None, "c": {"deep": [1]}}


async def test_a_login_changes_the_id_and_the_old_one_knows_nothing_of_it(toril: Toril, clock: ManualClock) -> None:
    # A22
    app = app_of(toril)
    async with browser(app) as client:
        await client.get("/set/cart/7")
        before = client.cookies[NAME]
        await client.get("/login/ada")
        assert client.cookies[NAME] != before
        assert await shown(client) == {"user": "ada", "cart": "7"}
        async with browser(app, before) as late:
            # For a moment requests under way find what they knew; what they write is nobody's.
            assert await shown(late) == {"user": None, "cart": "7"}
            await late.get("/set/cart/8")
            await late.get("/login/eve")
            clock.advance_ms(11_000)
            assert await shown(late) == {"user": None}
        assert await shown(client) == {"user": "ada", "cart": "7"}
        inside = client.cookies[NAME]
        await client.get("/login/bob")
        assert await shown(client) == {"user": "bob"}
        async with browser(app, inside) as late:
            assert await shown(late) == {"user": None}


async def test_a_rotated_id_works_for_requests_under_way(toril: Toril, clock: ManualClock) -> None:
    # A22
    app = app_of(toril)
    async with browser(app) as client:
        await client.get("/login/ada")
        before = client.cookies[NAME]
        await client.get("/call/rotate")
        assert client.cookies[NAME] != before
        async with browser(app, before) as late:
            await late.get("/set/from/late")
            assert NAME not in (await late.get("/show")).cookies
            assert await shown(client) == {"user": "ada", "from": "late"}
            clock.advance_ms(11_000)
            assert await shown(late) == {"user": None}
        assert await shown(client) == {"user": "ada", "from": "late"}
        assert len(await toril.sessions.of("ada")) == 1


async def test_a_logout_ends_the_session_at_once(toril: Toril) -> None:
    # A22
    app = app_of(toril)
    async with browser(app) as client:
        await client.get("/login/ada")
        inside = client.cookies[NAME]
        answer = await client.get("/call/logout")
        assert "Max-Age=0" in answer.headers["set-cookie"]
        assert NAME not in client.cookies
        async with browser(app, inside) as late:
            assert await shown(late) == {"user": None}
    assert await stored(toril) == []
    assert await toril.sessions.of("ada") == ()


async def test_sessions_of_a_user_are_listed_and_revoked(toril: Toril, clock: ManualClock) -> None:
    # A22
    app = app_of(toril)
    clients = [browser(app) for _ in range(4)]
    for number, client in enumerate(clients):
        clock.advance_ms(1000)
        await client.get("/login/" + ("bob" if number == 3 else "ada"), headers={"User-Agent": f"Browser {number}"})
    found = await toril.sessions.of("ada")
    assert [each.agent for each in found] == ["Browser 0", "Browser 1", "Browser 2"]
    assert [each.created for each in found] == sorted(each.created for each in found)
    assert found[0].address == "127.0.0.1"
    assert await toril.sessions.revoke("ada", found[1].handle)
    assert not await toril.sessions.revoke("ada", found[1].handle)
    assert not await toril.sessions.revoke("bob", found[0].handle)
    assert [(await shown(client))["user"] for client in clients] == ["ada", None, "ada", "bob"]
    kept = Session("session:" + found[2].handle + "0" * 48)
    assert await toril.sessions.revoke_all("ada", keep=kept) == 1
    assert [(await shown(client))["user"] for client in clients] == [None, None, "ada", "bob"]
    assert await toril.sessions.revoke_all("ada") == 1
    assert [(await shown(client))["user"] for client in clients] == [None, None, None, "bob"]
    for client in clients:
        await client.aclose()


async def test_what_was_revoked_is_not_brought_back(toril: Toril) -> None:
    """A request under way writes nothing for a session that has ended meanwhile."""
    # A22
    async with browser(app_of(toril)) as client:
        await client.get("/login/ada")
        session = await toril.sessions.store.load(client.cookies[NAME].split(".")[0])
        assert session is not None
        await toril.sessions.revoke_all("ada")
        session["late"] = True
        await toril.sessions.store.save(session, device=("", ""))  # type: ignore[arg-type]
        assert await stored(toril) == []
        assert await shown(client) == {"user": None}


async def test_a_user_has_a_bounded_number_of_sessions(toril: Toril) -> None:
    app = app_of(toril)
    first = browser(app)
    await first.get("/login/ada")
    for _ in range(100):
        async with browser(app) as client:
            await client.get("/login/ada")
    assert len(await toril.sessions.of("ada")) == 100
    assert await shown(first) == {"user": None}
    await first.aclose()


async def test_sessions_end_when_idle_and_in_any_case(toril: Toril, clock: ManualClock) -> None:
    # S3-34
    async with browser(app_of(toril)) as client:
        await client.get("/set/a/1")
        for _ in range(29):
            clock.advance_ms(23 * HOUR + 50 * MINUTE)
            assert "a" in await shown(client)
        clock.advance_ms(24 * HOUR)
        assert "a" in await shown(client)
        clock.advance_ms(23 * HOUR)
        assert "a" not in await shown(client)
        await client.get("/set/a/2")
        clock.advance_ms(24 * HOUR + 6 * MINUTE)
        assert "a" not in await shown(client)


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


async def test_a_store_that_is_away_is_a_503_and_nobody_waits() -> None:
    # A22
    away = toril_at("redis://127.0.0.1:1", timeout=0.2)
    async with away, toril_at() as here, browser(app_of(here)) as seed:
        await seed.get("/set/a/1")
        async with browser(app_of(away), seed.cookies[NAME]) as client:
            answer = await client.get("/show")
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "sessions_unavailable")
            assert "Retry-After" in answer.headers
            began = time.monotonic()
            for _ in range(20):
                assert (await client.get("/show")).status_code == 503
            assert time.monotonic() - began < 5
        async with browser(app_of(away)) as nobody:
            assert (await nobody.get("/untouched")).status_code == 200
            assert (await nobody.get("/set/a/1")).status_code == 503
        cookie = seed.cookies[NAME]
    lenient = toril_at("redis://127.0.0.1:1", timeout=0.2, on_outage="empty")
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
