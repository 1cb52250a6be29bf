"""Following a job by server-sent events, through a real server on loopback. S1-04"""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from tests.web.site import ADA, ADMIN, BOB, Hand, Site, declare, enqueue, site
from tests.web.tokens import SECRET
from toril.app import Toril
from toril.errors import AuthRequired, EngineUnavailable
from toril.jobs.outcome import Cancelled, Done, Failed, Retry
from toril.web import JWTAuth, check_bind, jobs_api
from toril.web.api.stream import EventStream, frame


class Told(NamedTuple):
    """One event as a client sees it."""

    event: str
    id: str
    data: Any


async def told(answer: httpx.Response) -> AsyncIterator[Told]:
    """The events of a stream, comments and `retry` left out."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if line and name:
            fields[name] = value
        elif not line:
            if "data" in fields:
                yield Told(fields["event"], fields.get("id", ""), json.loads(fields["data"]))
            fields = {}


@asynccontextmanager
async def served(app: FastAPI, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """The application behind a real server; gives its address on loopback."""
    listener = socket.create_server((host, 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running
        listener.close()


class Live(NamedTuple):
    """A site behind a real server."""

    site: Site
    client: httpx.AsyncClient

    def follow(self, job: str, after: str | None = None, who: dict[str, str] = ADA) -> Any:
        headers = who if after is None else {**who, "Last-Event-ID": after}
        return self.client.stream("GET", f"/api/jobs/{job}/events", headers=headers)


@pytest.fixture
async def live() -> AsyncIterator[Live]:
    async with (
        site() as pictures,
        served(pictures.app) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=5) as client,
    ):
        yield Live(pictures, client)


def readers() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("toril-watch")]


async def until_nobody_reads() -> None:
    async with asyncio.timeout(5):
        while readers():
            await asyncio.sleep(0)


async def test_a_job_is_followed_to_its_end(live: Live) -> None:
    job, hand = await enqueue(live.site.toril), Hand(live.site.toril)
    async with live.follow(job) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        events = told(answer)
        first = await anext(events)
        assert (first.event, first.data["job"]["status"]) == ("snapshot", "waiting")
        taken = await hand.take()
        active = await anext(events)
        assert (active.event, active.data["status"], active.data["job"]) == ("state", "active", None)
        await hand.report(taken, '{"progress": 45, "message": "rendering"}')
        moved = await anext(events)
        assert (moved.event, moved.data["progress"], moved.data["progressMessage"]) == ("progress", 45, "rendering")
        await hand.report(taken, "50", "fetched 12 pages")
        seen = {event.event: event.data async for event in _take(events, 2)}
        assert (seen["progress"]["progress"], seen["log"]["line"]) == (50, "fetched 12 pages")
        await hand.finish(taken, Done('{"pages": 12}'))
        last = await anext(events)
        assert (last.event, last.data["status"], last.data["job"]["result"]) == ("state", "completed", {"pages": 12})
        assert [event async for event in events] == [], "the stream ends after the final state"
    await until_nobody_reads()


async def _take(events: AsyncIterator[Told], count: int) -> AsyncIterator[Told]:
    for _ in range(count):
        yield await anext(events)


async def test_who_comes_back_gets_what_was_missed_and_only_that(live: Live) -> None:
    job, hand = await enqueue(live.site.toril), Hand(live.site.toril)
    async with live.follow(job) as answer:
        events = told(answer)
        await anext(events)
        taken = await hand.take()
        heard = await anext(events)
    await hand.report(taken, "10")
    await hand.report(taken, "20", "half way")
    async with live.follow(job, after=heard.id) as answer:
        events = told(answer)
        missed = [await anext(events) for _ in range(3)]
        assert sorted((event.event, event.data.get("progress")) for event in missed) == [
            ("log", None),
            ("progress", 10),
            ("progress", 20),
        ]
        assert [int(event.id) for event in missed] == sorted(int(event.id) for event in missed)
        await hand.finish(taken, Failed("ValueError: no", ""))
        last = await anext(events)
        assert (last.data["status"], last.data["job"]["failedReason"]) == ("failed", "ValueError: no")
    async with live.follow(job, after=missed[-1].id) as answer:
        assert [event.id async for event in told(answer)] == [last.id], "the end is told again until it was heard"
    async with live.follow(job, after=last.id) as answer:
        assert answer.status_code == 204, "a browser comes back for ever unless it is told that there is no more"


@pytest.mark.parametrize("after", ["nonsense", "999999", "1-1", "٣"])
async def test_an_id_that_this_store_did_not_give_is_a_gap(live: Live, after: str) -> None:
    job, hand = await enqueue(live.site.toril), Hand(live.site.toril)
    headers = [(b"Last-Event-ID", after.encode()), *((k.encode(), v.encode()) for k, v in ADA.items())]
    async with live.client.stream("GET", f"/api/jobs/{job}/events", headers=headers) as answer:
        events = told(answer)
        first = await anext(events)
        assert (first.event, first.data["job"]["status"]) == ("resync", "waiting")
        await hand.take()
        assert (await anext(events)).data["status"] == "active"


async def test_events_that_are_not_kept_any_more_are_a_gap(live: Live) -> None:
    job, hand = await enqueue(live.site.toril), Hand(live.site.toril)
    async with live.follow(job) as answer:
        heard = await anext(told(answer))
    taken = await hand.take()
    for value in range(50):
        await hand.report(taken, str(value))
    jobs = live.site.toril.engine.jobs
    while (await live.site.toril.engine.bus.read("pictures", after=heard.id)).gap is False:
        await jobs.prune("pictures", completed=None, failed=None, events=1, now=live.site.toril.clock.now_ms())
    async with live.follow(job, after=heard.id) as answer:
        events = told(answer)
        first = await anext(events)
        assert (first.event, first.data["job"]["progress"]) == ("resync", 49)
        await hand.finish(taken, Done("1"))
        assert [event.data["status"] async for event in events if event.event == "state"] == ["completed"]


async def test_a_job_that_has_ended_is_one_snapshot(live: Live) -> None:
    job, hand = await enqueue(live.site.toril), Hand(live.site.toril)
    await hand.finish(await hand.take(), Done("7"))
    async with live.follow(job) as answer:
        [only] = [event async for event in told(answer)]
        assert (only.event, only.data["job"]["result"]) == ("snapshot", 7)


async def test_a_cancelled_job_ends_the_stream(live: Live) -> None:
    job, hand = await enqueue(live.site.toril), Hand(live.site.toril)
    taken = await hand.take()
    async with live.follow(job) as answer:
        events = told(answer)
        await anext(events)
        await live.client.post(f"/api/jobs/{job}/cancel", headers=ADA)
        await hand.finish(taken, Cancelled("", "ada"))
        last = [event async for event in events][-1]
        assert (last.data["status"], last.data["job"]["cancelled"]) == ("failed", True)


async def test_a_retry_does_not_end_the_stream(live: Live) -> None:
    job, hand = await enqueue(live.site.toril), Hand(live.site.toril)
    async with live.follow(job) as answer:
        events = told(answer)
        await anext(events)
        await hand.finish(await hand.take(), Retry("ValueError: again", "", 60_000))
        assert (await anext(events)).data["status"] == "active"
        again = await anext(events)
        assert (again.event, again.data["status"]) == ("state", "delayed")
        assert again.data["dueAt"] > again.data["at"]


async def test_a_removed_job_ends_the_stream(live: Live) -> None:
    job = await enqueue(live.site.toril)
    async with live.follow(job) as answer:
        events = told(answer)
        await anext(events)
        await live.site.toril.engine.inspect.remove("pictures", [job], now=live.site.toril.clock.now_ms())
        assert [event.event async for event in events] == ["removed"]


async def test_a_client_that_goes_leaves_nothing_behind(live: Live) -> None:
    job = await enqueue(live.site.toril)
    async with live.follow(job) as answer, live.follow(job) as second:
        await anext(told(answer))
        await anext(told(second))
        assert len(readers()) == 1, "all who follow jobs of a queue share one reader"
    await until_nobody_reads()


async def test_other_peoples_jobs_cannot_be_followed(live: Live) -> None:
    async with live.follow(await enqueue(live.site.toril), who=BOB) as answer:
        assert answer.status_code == 404
        assert json.loads(await answer.aread())["error"]["code"] == "job_not_found"


# S1-06
async def test_a_server_on_all_interfaces_is_not_given_routes_without_auth() -> None:
    # S0-30
    async with site(auth=None) as pictures:
        for host in ("0.0.0.0", "::", "192.0.2.1"):
            with pytest.raises(AuthRequired, match="has no auth"):
                check_bind(pictures.app, host)
        check_bind(pictures.app, "127.0.0.1")
        async with (
            served(pictures.app, "0.0.0.0") as url,
            httpx.AsyncClient(base_url=url, trust_env=False) as client,
        ):
            assert (await client.get("/api/jobs/stats")).status_code == 200
            for headers in ({"X-Forwarded-For": "192.0.2.7"}, {"Host": "rebound.example"}, {"Forwarded": "for=x"}):
                refused = await client.get("/api/jobs/stats", headers=headers)
                assert (refused.status_code, refused.json()["error"]["code"]) == (403, "auth_required")


async def test_with_auth_a_server_may_listen_anywhere() -> None:
    async with site() as pictures:
        check_bind(pictures.app, "0.0.0.0")


async def run(stream: EventStream, stay: asyncio.Event | None = None, spoil: bool = False) -> list[bytes]:
    """What a stream sends to a client that leaves when `stay` is set."""
    sent: list[bytes] = []
    stay = stay or asyncio.Event()

    async def receive() -> dict[str, Any]:
        await stay.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if spoil and len(sent) == 2:
            raise OSError("gone")
        sent.append(message.get("body", b""))

    await stream({"type": "http"}, receive, send)
    return sent


async def test_a_silent_stream_is_kept_alive_and_ends_at_its_longest() -> None:
    closed = asyncio.Event()

    async def silent() -> AsyncGenerator[bytes, None]:
        try:
            await asyncio.Event().wait()
            yield b""
        finally:
            closed.set()

    sent = await run(EventStream(silent(), heartbeat_s=0.01, longest_s=0.1))
    assert sent.count(b": still here\n\n") >= 2
    assert sent[-1] == b""
    assert closed.is_set()


async def test_a_failure_in_the_middle_is_told_and_ends_the_stream() -> None:
    async def failing() -> AsyncGenerator[bytes, None]:
        yield frame("snapshot", "{}", "1")
        raise EngineUnavailable("/srv/secret is away")

    sent = await run(EventStream(failing(), heartbeat_s=1, longest_s=5))
    assert sent[2] == b"event: snapshot\nid: 1\ndata: {}\n\n"
    assert sent[3].startswith(b"event: problem\ndata: ")
    assert b"engine_unavailable" in sent[3]
    assert b"secret" not in sent[3]


@pytest.mark.parametrize("spoil", [False, True], ids=["told", "found out by sending"])
async def test_a_client_that_leaves_closes_the_source_at_once(spoil: bool) -> None:
    closed, leave = asyncio.Event(), asyncio.Event()

    async def source() -> AsyncGenerator[bytes, None]:
        try:
            yield frame("snapshot", "{}")
            leave.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with asyncio.timeout(5):
        await run(EventStream(source(), heartbeat_s=60, longest_s=60), leave, spoil)
    assert closed.is_set()


# S1-14 S1-04 S3-26
async def test_the_whole_way_with_a_worker_in_the_web_process() -> None:
    """POST with a token, follow the job live while the application's own worker runs it, then status and counts."""
    toril = Toril("sqlite://")
    declare(toril)
    app = FastAPI(lifespan=toril.lifespan)
    app.include_router(jobs_api(toril, auth=JWTAuth(secret=SECRET), submit={"resize"}), prefix="/api")
    async with served(app) as url, httpx.AsyncClient(base_url=url, trust_env=False, timeout=5) as client:
        queued = await client.post("/api/jobs/resize", headers=ADA, json={"path": "cat.png", "width": 7})
        assert (queued.status_code, queued.json()["status"]) == (202, "queued")
        where = queued.headers["location"]
        async with client.stream("GET", f"{where}/events", headers=ADA) as answer:
            last = [event async for event in told(answer)][-1]
        assert last.data["job"]["result"] == "cat.png@7"
        job = (await client.get(where, headers=ADA)).json()["job"]
        assert (job["status"], job["result"], job["attempts"]) == ("completed", "cat.png@7", 1)
        assert (await client.get("/api/jobs/stats", headers=ADMIN)).json()["stats"]["completed"] == 1
    await until_nobody_reads()
