"""Requests that are sent again with the same Idempotency-Key are answered, and not done again."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from starlette.requests import HTTPConnection
from starlette.responses import StreamingResponse

from tests.web.site import client_of
from toril import ConfigError, EngineUnavailable, Toril
from toril.web import IdempotencyMiddleware, jobs_api


class Site:
    """An application that counts what it has done."""

    def __init__(self, toril: Toril, **options: Any) -> None:
        self.done: list[str] = []
        self.status = 201
        self.gate = asyncio.Event()
        self.gate.set()
        app = self.app = FastAPI()
        app.add_middleware(IdempotencyMiddleware, once=toril.once, **options)

        @app.post("/stream")
        async def stream() -> StreamingResponse:
            self.done.append("stream")

            async def parts() -> AsyncIterator[bytes]:
                for number in range(10):
                    yield b"%d" % number * 100

            return StreamingResponse(parts())

        @app.post("/broken")
        async def broken() -> StreamingResponse:
            self.done.append("broken")

            async def parts() -> AsyncIterator[bytes]:
                yield b"begin"
                raise LookupError("the end is missing")

            return StreamingResponse(parts())

        @app.api_route("/{path:path}", methods=["GET", "POST", "PUT"])
        async def act(path: str, request: Request) -> Response:
            self.done.append((await request.body()).decode())
            await self.gate.wait()
            headers = {"x-number": str(len(self.done)), "set-cookie": "a=1"}
            return Response(f"{path} #{len(self.done)}", self.status, headers=headers)

        self.client = client_of(app, raise_app_exceptions=False)

    async def post(self, key: str | None = "k1", path: str = "/pay", body: str = "5", **headers: str) -> httpx.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        self.client.cookies.clear()
        if key is not None:
            given["idempotency-key"] = key
        return await self.client.post(path, content=body, headers=given)


@pytest.fixture
async def toril() -> AsyncIterator[Toril]:
    async with Toril("sqlite://") as app:
        yield app


async def test_the_same_key_gets_the_same_answer(toril: Toril) -> None:
    # S1-22, A18
    site = Site(toril)
    first, second, quoted = await site.post(), await site.post(), await site.post('"k1"')
    assert (first.status_code, first.text, first.headers["x-number"]) == (201, "pay #1", "1")
    for again in (second, quoted):
        assert (again.status_code, again.text, again.headers["x-number"]) == (201, "pay #1", "1")
        assert again.headers["set-cookie"] == "a=1"
        assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert (await site.post("k2")).text == "pay #2"
    assert [(await site.post(None)).text for _ in range(2)] == ["pay #3", "pay #4"]
    assert site.done == ["5"] * 4


async def test_another_request_with_the_key_is_refused(toril: Toril) -> None:
    # A18
    site = Site(toril)
    await site.post()
    for other in (site.post(body="6"), site.post(path="/refund"), site.post(content_type="text/csv")):
        answer = await other
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")
    assert len(site.done) == 1


async def test_who_sends_it_meanwhile_waits_or_is_told(toril: Toril) -> None:
    # S1-22, A18
    patient, hasty = Site(toril), Site(toril, wait=0)
    hasty.done, hasty.gate = patient.done, patient.gate
    patient.gate.clear()
    asking = [asyncio.create_task(patient.post()) for _ in range(5)]
    while not patient.done:
        await asyncio.sleep(0)
    told = await hasty.post()
    assert (told.status_code, told.json()["code"], told.headers["retry-after"]) == (409, "idempotency_running", "1")
    patient.gate.set()
    assert [answer.text for answer in await asyncio.gather(*asking)] == ["pay #1"] * 5
    assert patient.done == ["5"]


async def test_callers_have_keys_of_their_own(toril: Toril) -> None:
    # A18
    site = Site(toril)
    for caller in ({"authorization": "ada"}, {"authorization": "bob"}, {"cookie": "session=1"}, {}):
        assert "idempotency-replayed" not in (await site.post(**caller)).headers
        assert "idempotency-replayed" in (await site.post(**caller)).headers

    async def identity(request: HTTPConnection) -> str | None:
        return request.headers.get("user")

    site = Site(toril, identity=identity)
    for caller in ({"user": "ada", "cookie": "1"}, {"user": "bob"}, {"authorization": "carl"}):
        assert "idempotency-replayed" not in (await site.post(**caller)).headers
    assert "idempotency-replayed" in (await site.post(user="ada", cookie="2")).headers


@pytest.mark.parametrize(
    ("status", "kept"), [(200, True), (404, True), (422, True), (429, False), (500, False), (503, False)]
)
async def test_failures_of_the_server_are_not_kept(toril: Toril, status: int, kept: bool) -> None:
    # A18
    site = Site(toril)
    site.status = status
    answers = [await site.post() for _ in range(2)]
    assert [answer.status_code for answer in answers] == [status] * 2
    assert len(site.done) == (1 if kept else 2)


async def test_an_answer_that_breaks_off_is_not_kept(toril: Toril) -> None:
    site = Site(toril)
    for _ in range(2):
        await site.post(path="/broken")
    assert site.done == ["broken"] * 2


async def test_streams_go_through_and_are_kept(toril: Toril) -> None:
    # A18
    site = Site(toril)
    first, second = await site.post(path="/stream"), await site.post(path="/stream")
    assert first.content == second.content
    assert len(second.content) == 1_000
    assert site.done == ["stream"]


async def test_long_answers_are_given_once(toril: Toril) -> None:
    site = Site(toril, most=500)
    assert len((await site.post(path="/stream")).content) == 1_000
    again = await site.post(path="/stream")
    assert (again.status_code, again.json()["code"]) == (409, "idempotency_answer_too_large")
    assert site.done == ["stream"]


@pytest.mark.parametrize("key", ["", " ", '""', "a b", "ü", "x" * 256])
async def test_a_key_that_is_none_is_refused(toril: Toril, key: str) -> None:
    site = Site(toril)
    answer = await site.client.post("/pay", headers=[(b"idempotency-key", key.encode("latin-1"))])
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_invalid")
    assert site.done == []


async def test_some_paths_need_a_key_and_some_methods_have_none(toril: Toril) -> None:
    site = Site(toril, required=["/pay"], most_request=10)
    assert (await site.post(None)).json()["code"] == "idempotency_key_missing"
    assert (await site.post(None, path="/other")).status_code == 201
    assert (await site.post(body="x" * 11)).status_code == 413
    for _ in range(2):
        await site.client.put("/pay", headers={"idempotency-key": "k"})
        await site.client.get("/pay", headers={"idempotency-key": "k"})
    assert len(site.done) == 5
    with pytest.raises(ConfigError, match="at least one method"):
        IdempotencyMiddleware(site.app, once=toril.once, methods=[])


@pytest.mark.parametrize(("policy", "status"), [("fail", 503), ("run", 201)])
async def test_while_the_store_is_away_a_policy_holds(
    toril: Toril, monkeypatch: pytest.MonkeyPatch, policy: str, status: int
) -> None:
    # A18
    async def away(name: str, asked: bytes) -> None:
        raise EngineUnavailable("nobody answers")

    site = Site(toril)
    monkeypatch.setattr(toril.once.guard, "claim", away)
    monkeypatch.setattr(toril.once.guard, "on_outage", policy)
    answers = [await site.post() for _ in range(2)]
    assert [answer.status_code for answer in answers] == [status] * 2
    assert ("retry-after" in answers[0].headers) is (status == 503)
    assert len(site.done) == (0 if status == 503 else 2)


async def test_a_job_is_made_once(toril: Toril) -> None:
    # S1-22
    @toril.task
    async def report(n: int) -> int:
        return n

    app = FastAPI()
    app.include_router(jobs_api(toril, auth=None, submit={"report"}), prefix="/api")
    app.add_middleware(IdempotencyMiddleware, once=toril.once)
    async with client_of(app) as client:
        sent = [client.post("/api/jobs/report", json={"n": 1}, headers={"idempotency-key": "k"}) for _ in range(5)]
        answers = await asyncio.gather(*sent)
    assert {answer.status_code for answer in answers} <= {200, 201, 202}
    assert len({answer.text for answer in answers}) == 1
    assert (await toril.queue("default").counts()).waiting == 1
