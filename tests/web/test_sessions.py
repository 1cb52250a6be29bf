"""Sessions in requests: what is stored and when, and who is logged in."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.redis.conftest import shared_server
from tests.web.session_site import (
    HOUR,
    MINUTE,
    NAME,
    WRITES,
    app_of,
    browser,
    clock,
    shown,
    stored,
    toril,
    toril_at,
)
from toril import Toril
from toril.kernel.telemetry import PortCalled
from toril.sessions.session import Session
from toril.testing.clock import ManualClock

__all__ = ["clock", "shared_server", "toril"]


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
    # S3-13, S3-34
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
