"""Channels in a browser: server-sent events and WebSockets, through a real server on loopback."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from tests.web.site import ADA, ADMIN, BOB, declare, enqueue
from tests.web.test_events import Told, served, told
from tests.web.tokens import SECRET
from toril import ConfigError, Settings, Toril
from toril.realtime.channel import Channel
from toril.settings import RealtimeSettings
from toril.web import JobOwner, JWTAuth, channel_api, everybody, health_api

LONG = 30.0

pytestmark = pytest.mark.timeout(60)


class Progress(BaseModel):
    progress: int
    status: str


class Live(NamedTuple):
    """An application behind a real server."""

    toril: Toril
    progress: Channel[Progress]
    news: Channel[int]
    url: str
    client: httpx.AsyncClient

    def events(self, path: str, *, after: str | None = None, who: dict[str, str] = ADA) -> Any:
        headers = who if after is None else {**who, "Last-Event-ID": after}
        return self.client.stream("GET", path, headers=headers)

    def socket(self, path: str, who: dict[str, str] = ADA, origin: str | None = None) -> connect:
        headers = who if origin is None else {**who, "Origin": origin}
        return connect(self.url.replace("http", "ws", 1) + path, additional_headers=headers, proxy=None)


@pytest.fixture
async def live() -> AsyncIterator[Live]:
    async with Toril("sqlite://", settings=Settings(realtime=RealtimeSettings(heartbeat=0.2, buffer=50))) as toril:
        declare(toril)
        auth = JWTAuth(secret=SECRET)
        progress = toril.channel("code-gen:{job_id}", Progress, event="generation-progress")
        news = toril.channel("news", int)
        app = FastAPI()
        app.include_router(channel_api(progress, auth=auth, allow=JobOwner(toril)), prefix="/code-gen")
        app.include_router(
            channel_api(news, auth=auth, allow=everybody, origins=["https://app.example.com"]), prefix="/news"
        )
        app.include_router(health_api(toril, auth=auth))
        async with served(app) as url, httpx.AsyncClient(base_url=url, trust_env=False, timeout=LONG) as client:
            yield Live(toril, progress, news, url, client)


async def until_listening(toril: Toril, many: int = 1) -> None:
    async with asyncio.timeout(LONG):
        while toril.realtime.status().listeners != many:
            await asyncio.sleep(0)


async def next_message(socket: ClientConnection) -> Any:
    """The next message that is no heartbeat."""
    async with asyncio.timeout(LONG):
        while (message := json.loads(await socket.recv()))["event"] == "heartbeat":
            continue
    return message


async def test_a_worker_tells_its_progress_and_the_browser_sees_it(live: Live) -> None:
    # S3-36
    job = await enqueue(live.toril)
    async with live.events(f"/code-gen/{job}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        await until_listening(live.toril)
        id_ = await live.progress.of(job_id=job).publish(Progress(progress=50, status="drawing"))
        async for event in told(answer):
            assert event == Told("generation-progress", id_, {"progress": 50, "status": "drawing"})
            break
    await until_listening(live.toril, 0)


async def test_only_the_owner_of_a_job_and_admins_listen(live: Live) -> None:
    # S3-36
    job = await enqueue(live.toril, owner="ada")
    for who, path, status in (
        (BOB, f"/code-gen/{job}/events", 404),
        (ADA, "/code-gen/jnone/events", 404),
        (ADA, "/code-gen/17/events", 404),
        ({}, f"/code-gen/{job}/events", 401),
        ({}, "/news/events", 401),
    ):
        answer = await live.client.get(path, headers=who)
        assert answer.status_code == status
        assert answer.json()["success"] is False
    async with live.events(f"/code-gen/{job}/events", who=ADMIN) as stream:
        assert stream.status_code == 200
    for who, status in ((BOB, 404), ({}, 401)):
        with pytest.raises(InvalidStatus) as refused:
            await live.socket(f"/code-gen/{job}/ws", who)
        assert refused.value.response.status_code == status
    async with live.socket(f"/code-gen/{job}/ws"):
        await until_listening(live.toril)


async def test_a_browser_that_comes_back_misses_nothing(live: Live) -> None:
    # A22, S3-35
    ids = list(await live.news.publish_many([1, 2, 3]))
    seen: list[Told] = []
    for after, many in ((ids[0], 2), (ids[1], 1), ("0", 3)):
        async with live.events("/news/events", after=after) as answer:
            async for event in told(answer):
                seen.append(event)
                many -= 1
                if not many:
                    break
    assert [event.data for event in seen] == [2, 3, 3, 1, 2, 3]
    async with live.client.stream("GET", f"/news/events?after={ids[1]}", headers=ADA) as answer:
        async for event in told(answer):
            assert event == Told("message", ids[2], 3)
            break


@pytest.mark.parametrize("after", ["yesterday", "999999", "1-1"])
async def test_an_unknown_place_is_a_resync(live: Live, after: str) -> None:
    # A22
    await live.news.publish(1)
    async with live.events("/news/events", after=after) as answer:
        events = told(answer)
        assert (await anext(events)).event == "resync"
        await live.news.publish(2)
        assert (await anext(events)).data == 2


async def test_silence_is_broken_by_heartbeats(live: Live) -> None:
    async with live.events("/news/events") as answer:
        async for line in answer.aiter_lines():
            if line.startswith(":"):
                break
    async with live.socket("/news/ws") as socket:
        assert json.loads(await socket.recv()) == {"event": "heartbeat"}


async def test_a_websocket_gets_messages_and_what_it_missed(live: Live) -> None:
    # S3-35
    [first, second] = await live.news.publish_many([1, 2])
    async with live.socket(f"/news/ws?after={first}") as socket:
        message = await next_message(socket)
        assert (message["id"], message["event"], message["data"]) == (second, "message", 2)
        assert message["at"] > 0
        await socket.send("whatever it says is not listened to")
        await live.news.publish(3)
        assert (await next_message(socket))["data"] == 3
    await until_listening(live.toril, 0)
    async with live.socket("/news/ws?after=yesterday") as socket:
        assert (await next_message(socket)) == {"event": "resync"}


async def test_pages_of_others_may_not_listen(live: Live) -> None:
    """Browsers send cookies along with the WebSocket of any page."""
    for origin in (live.url, "https://app.example.com"):
        async with live.socket("/news/ws", origin=origin):
            pass
    for origin in ("https://evil.example.com", "null", "https://app.example.com.evil.com"):
        with pytest.raises(InvalidStatus) as refused:
            await live.socket("/news/ws", origin=origin)
        assert refused.value.response.status_code == 403
    with pytest.raises(ConfigError, match="origins"):
        channel_api(live.news, auth=None, allow=everybody, origins=["app.example.com"])


async def test_streams_end_with_the_application(live: Live) -> None:
    async with live.events("/news/events") as answer, live.socket("/news/ws") as socket:
        await until_listening(live.toril, 2)
        await live.toril.close()
        async for _ in answer.aiter_lines():
            continue
        with pytest.raises(ConnectionClosedError) as closed:
            await next_message(socket)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
    assert live.toril.realtime.status().listeners == 0


async def test_the_routes_are_described(live: Live) -> None:
    app = FastAPI()
    app.include_router(channel_api(live.progress, auth=None, allow=everybody), prefix="/code-gen")
    described = app.openapi()["paths"]["/code-gen/{job_id}/events"]["get"]
    assert "job_id" in [each["name"] for each in described["parameters"]]


async def test_health_tells_who_listens(live: Live) -> None:
    # A22
    async with live.events("/news/events"):
        await until_listening(live.toril)
        detail = (await live.client.get("/health", headers=ADMIN)).json()["detail"]
        assert detail["realtime"] == {"channels": 1, "listeners": 1, "failing_s": 0.0}
