"""Answers that are kept: to whom they are shown, when they are not kept, ETags, and giving them up on a write."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from starlette.requests import HTTPConnection
from starlette.responses import StreamingResponse

from tests.web.site import client_of
from toril import ConfigError, Toril
from toril.testing.clock import ManualClock
from toril.web import CacheMiddleware


class Site:
    """An application that counts its own answers."""

    def __init__(self, toril: Toril, **options: Any) -> None:
        self.calls: list[str] = []
        self.headers: dict[str, str] = {}
        self.status = 200
        app = self.app = FastAPI()
        app.add_middleware(CacheMiddleware, cache=toril.cache, **options)

        @app.get("/stream")
        async def stream() -> StreamingResponse:
            self.calls.append("stream")

            async def parts() -> AsyncIterator[bytes]:
                for _ in range(10):
                    yield b"x" * 100

            return StreamingResponse(parts())

        @app.api_route("/{path:path}", methods=["GET", "POST", "DELETE", "HEAD"])
        async def page(path: str, request: Request) -> Response:
            self.calls.append(path)
            text = f"{path} for {request.headers.get('authorization')} #{len(self.calls)}"
            return Response(text, self.status, headers=self.headers)

        self.client = client_of(app)

    async def get(self, path: str = "/a", **headers: str) -> httpx.Response:
        return await self.client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def toril(clock: ManualClock) -> AsyncIterator[Toril]:
    async with Toril("sqlite://", clock=clock) as app:
        yield app


async def user(request: HTTPConnection) -> str | None:
    return request.headers.get("authorization")


async def test_an_answer_is_kept_for_its_time(toril: Toril, clock: ManualClock) -> None:
    # S3-30
    site = Site(toril, routes={"/api/projects": "300s"})
    for path, seconds in (("/a", 60), ("/api/projects/7", 300)):
        first, second = await site.get(path), await site.get(path)
        assert first.text == second.text
        assert first.headers["cache-status"] == "toril; fwd=miss; stored"
        assert second.headers["cache-status"] == f"toril; hit; ttl={seconds}"
        clock.advance(seconds - 1)
        assert (await site.get(path)).text == first.text
        clock.advance(1)
        assert (await site.get(path)).text != first.text
    assert len(site.calls) == 4


async def test_answers_differ_by_all_that_may_change_them(toril: Toril) -> None:
    site = Site(toril)
    asked = [
        ("/a", {}),
        ("/b", {}),
        ("/a?x=1", {}),
        ("/a?x=2", {}),
        ("/a", {"accept": "text/html"}),
        ("/a", {"host": "b"}),
    ]
    for _ in range(2):
        for path, headers in asked:
            await site.get(path, **headers)
    assert len(site.calls) == len(asked)


async def test_nobody_gets_somebody_elses_page(toril: Toril) -> None:
    # S3-30, A19
    site = Site(toril, identity=user)
    for _ in range(2):
        for name in ("ada", "bob"):
            assert f"for {name} " in (await site.get(authorization=name)).text
        assert "for None" in (await site.get()).text
        assert "for None" in (await site.get(cookie="session=1")).text
    assert len(site.calls) == 3 + 2  # what came with a cookie, and belongs to nobody known, is not kept
    kept = await site.get(authorization="ada")
    assert kept.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize("own", [{"authorization": "ada"}, {"cookie": "session=1"}])
async def test_without_knowing_who_asks_credentials_are_never_cached(toril: Toril, own: dict[str, str]) -> None:
    # S3-30, A19
    site = Site(toril)
    await site.get()
    for _ in range(2):
        answer = await site.get(**own)
        assert "cache-status" not in answer.headers
    assert len(site.calls) == 3
    assert "for None #1" in (await site.get()).text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"set-cookie": "a=1"}, 200),
        ({"cache-control": "no-store"}, 200),
        ({"cache-control": "private"}, 200),
        ({"cache-control": "no-cache"}, 200),
        ({"cache-control": "max-age=0"}, 200),
        ({"vary": "*"}, 200),
        ({"vary": "Accept, X-Tenant"}, 200),
        ({}, 500),
        ({}, 302),
        ({}, 206),
    ],
)
async def test_what_is_not_kept(toril: Toril, headers: dict[str, str], status: int) -> None:
    site = Site(toril)
    site.headers, site.status = headers, status
    assert (await site.get()).text != (await site.get()).text


async def test_what_an_answer_says_of_its_own_time_counts(toril: Toril, clock: ManualClock) -> None:
    site = Site(toril, identity=user)
    site.headers = {"cache-control": "private, max-age=10", "vary": "Accept"}
    first = await site.get(authorization="ada")
    clock.advance(9)
    assert (await site.get(authorization="ada")).text == first.text
    clock.advance(1)
    assert (await site.get(authorization="ada")).text != first.text


@pytest.mark.parametrize(
    "headers", [{"cache-control": "no-store"}, {"cache-control": "no-cache"}, {"range": "bytes=0-1"}]
)
async def test_who_wants_it_new_gets_it_new(toril: Toril, headers: dict[str, str]) -> None:
    site = Site(toril)
    await site.get()
    assert "#2" in (await site.get(**headers)).text
    assert ("#2" in (await site.get()).text) is (headers == {"cache-control": "no-cache"})


async def test_who_has_it_is_told_so(toril: Toril) -> None:
    site = Site(toril)
    first = await site.get()
    etag = first.headers["etag"]
    for wanted in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = await site.get(if_none_match=wanted)
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert (await site.get(if_none_match='"other"')).status_code == 200
    site.headers = {"etag": '"mine"'}
    assert (await site.get("/b", if_none_match='"mine"')).status_code == 304


async def test_a_write_gives_up_what_it_changes(toril: Toril) -> None:
    # S3-31
    site = Site(toril, tags={"/api/projects": ["projects"]}, invalidates={"/api/projects": ["projects"]})
    before, other = await site.get("/api/projects"), await site.get("/other")
    site.status = 400
    await site.client.post("/api/projects")
    site.status = 200
    assert (await site.get("/api/projects")).text == before.text
    await site.client.delete("/api/projects/7")
    assert (await site.get("/api/projects")).text != before.text
    assert (await site.get("/other")).text == other.text


async def test_tags_of_a_request(toril: Toril) -> None:
    def tags(request: HTTPConnection) -> list[str]:
        return [f"page:{request.query_params['id']}"]

    site = Site(toril, tags=tags)
    one, two = await site.get("/a?id=1"), await site.get("/a?id=2")
    await toril.cache.invalidate("page:1")
    assert (await site.get("/a?id=1")).text != one.text
    assert (await site.get("/a?id=2")).text == two.text


async def test_streams_go_through_and_are_kept_when_they_are_whole(toril: Toril) -> None:
    site = Site(toril, most=2_000)
    first, second = await site.get("/stream"), await site.get("/stream")
    assert first.content == second.content == b"x" * 1_000
    assert "etag" not in first.headers
    assert "etag" in second.headers
    assert len(site.calls) == 1


async def test_what_is_too_big_goes_through_whole(toril: Toril) -> None:
    site = Site(toril, most=500)
    assert [(await site.get("/stream")).content for _ in range(2)] == [b"x" * 1_000] * 2
    long = "/" + "y" * 600
    assert [(await site.get(long)).text.startswith("yyy") for _ in range(2)] == [True] * 2
    assert len(site.calls) == 4


async def test_other_methods_and_skipped_paths_are_left_alone(toril: Toril) -> None:
    site = Site(toril, ttl=None, routes={"/api": "1m"}, skip=["/api/live"])
    for path in ("/other", "/api/live", "/api"):
        for _ in range(2):
            await site.get(path)
    await site.client.post("/api")
    await site.client.head("/api")
    assert site.calls == ["other"] * 2 + ["api/live"] * 2 + ["api"] * 3


def test_a_middleware_that_would_keep_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected ttl="):
        CacheMiddleware(FastAPI(), cache=Toril("sqlite://").cache, ttl=None)
