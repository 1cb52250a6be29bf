"""The routes for jobs, through ASGI: who sees what, in which words, and every failure in one shape."""

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from unittest.mock import AsyncMock

import httpx
import pytest
from fastapi import FastAPI

from tests.web.site import ADA, ADMIN, BOB, Hand, Site, client_of, enqueue, make_app, site
from tests.web.tokens import SECRET, bearer, shared
from toril.engine.ports.jobs import CancelAnswer
from toril.errors import ConfigError, EngineClosed, EngineUnavailable, StoreCorrupt, StoreFull
from toril.jobs.model import NewJob
from toril.jobs.outcome import Done, Failed
from toril.web import JWTAuth, jobs_api


@pytest.fixture
async def pictures() -> AsyncIterator[Site]:
    async with site() as running:
        yield running


async def nothing() -> None:
    """A route of the application's own."""


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The error of an answer, after checking the one shape that all have."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"success", "error"}
    assert body["success"] is False
    error: dict[str, Any] = body["error"]
    assert set(error) - {"fields"} == {"code", "message", "retryable"}
    assert error["message"]
    return error


# S0-09 S0-17 S1-14
async def test_a_job_is_shown_to_its_owner(pictures: Site) -> None:
    # S1-15
    mine = await enqueue(pictures.toril)
    answer = await pictures.client.get(f"/api/jobs/{mine}", headers=ADA)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body["success"] is True
    job = body["job"]
    assert {key: job[key] for key in ("id", "queue", "name", "status", "state", "progress", "attempts")} == {
        "id": mine,
        "queue": "pictures",
        "name": "resize",
        "status": "waiting",
        "state": "waiting",
        "progress": 0,
        "attempts": 0,
    }
    assert (job["maxAttempts"], job["result"], job["failedReason"], job["cancelled"]) == (3, None, None, False)
    assert job["createdAt"] == job["updatedAt"]
    assert datetime.fromisoformat(job["createdAt"]).utcoffset() is not None


# S3-27
async def test_a_job_is_shown_through_its_life(pictures: Site) -> None:
    mine, hand = await enqueue(pictures.toril), Hand(pictures.toril)
    taken = await hand.take()
    await hand.report(taken, '{"progress": 45, "message": "rendering"}')
    active = (await pictures.client.get(f"/api/jobs/{mine}", headers=ADA)).json()["job"]
    assert (active["status"], active["progress"], active["progressMessage"]) == ("active", 45, "rendering")
    assert active["startedAt"] == active["updatedAt"]
    await hand.finish(taken, Done('{"pages": 12}'))
    done = (await pictures.client.get(f"/api/jobs/{mine}", headers=ADA)).json()["job"]
    assert (done["status"], done["result"], done["attempts"]) == ("completed", {"pages": 12}, 1)
    assert done["finishedAt"] == done["updatedAt"]


async def test_a_failed_and_a_delayed_job_say_so(pictures: Site) -> None:
    failed, hand = await enqueue(pictures.toril), Hand(pictures.toril)
    await hand.finish(await hand.take(), Failed("ValueError: no such picture", "Traceback: /srv/secret.py"))
    delayed = await enqueue(pictures.toril, delay="1h")
    answer = await pictures.client.get(f"/api/jobs/{failed}", headers=ADA)
    assert (answer.json()["job"]["status"], answer.json()["job"]["failedReason"]) == (
        "failed",
        "ValueError: no such picture",
    )
    assert "secret.py" not in answer.text
    assert "cat.png" not in answer.text, "arguments are not shown"
    job = (await pictures.client.get(f"/api/jobs/{delayed}", headers=ADA)).json()["job"]
    assert (job["status"], job["dueAt"] > job["createdAt"]) == ("delayed", True)
    prioritized = await enqueue(pictures.toril, priority=5)
    job = (await pictures.client.get(f"/api/jobs/{prioritized}", headers=ADA)).json()["job"]
    assert (job["status"], job["state"]) == ("waiting", "prioritized")


# S0-15 S0-16
async def test_stats_have_the_exact_shape_and_add_up(pictures: Site) -> None:
    # S0-09, S1-15, S4-09
    hand = Hand(pictures.toril)
    for _ in range(2):
        await enqueue(pictures.toril)
    await hand.finish(await hand.take(), Done("1"))
    await hand.finish(await hand.take(), Failed("no", ""))
    for priority, delay in ((0, None), (0, None), (1, None), (0, 60), (0, None)):
        await enqueue(pictures.toril, priority=priority, delay=delay)
    await hand.take()
    await pictures.toril.registry["internal"].enqueue()
    answer = await pictures.client.get("/api/jobs/stats", headers=ADMIN)
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"success", "mode", "stats", "queues", "timestamp"}
    assert (body["success"], body["mode"]) == (True, "sqlite")
    assert body["stats"] == {"waiting": 4, "active": 1, "completed": 1, "failed": 1, "delayed": 1, "total": 8}
    assert body["stats"]["total"] == sum(value for name, value in body["stats"].items() if name != "total")
    assert abs(datetime.fromisoformat(body["timestamp"]).timestamp() * 1000 - pictures.toril.clock.now_ms()) < 60_000
    assert body["queues"]["pictures"] == {
        "paused": False,
        "waiting": 2,
        "prioritized": 1,
        "delayed": 1,
        "waitingChildren": 0,
        "active": 1,
        "completed": 1,
        "failed": 1,
    }
    assert body["queues"]["secret"]["waiting"] == 1


async def test_stats_of_an_empty_store_name_the_declared_queues(pictures: Site) -> None:
    body = (await pictures.client.get("/api/jobs/stats", headers=ADMIN)).json()
    assert body["stats"]["total"] == 0
    assert set(body["queues"]) == {"pictures", "secret"}


ROUTES = [("GET", "/jobs/stats"), ("GET", "/jobs/{id}"), ("GET", "/jobs/{id}/events"), ("POST", "/jobs/{id}/cancel")]
WRITES = [*ROUTES, ("POST", "/jobs/resize")]


# S1-06
@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize(
    ("headers", "code"),
    [({}, "unauthenticated"), (bearer("nonsense"), "invalid_token"), (bearer(shared(exp=1)), "invalid_token")],
    ids=["anonymous", "nonsense", "expired"],
)
async def test_every_route_wants_a_valid_token(
    pictures: Site, method: str, path: str, headers: dict[str, str], code: str
) -> None:
    # S1-15
    url = "/api" + path.format(id=await enqueue(pictures.toril))
    answer = await pictures.client.request(method, url, headers=headers)
    assert error_of(answer, 401)["code"] == code
    assert answer.headers["www-authenticate"].startswith('Bearer realm="toril"')


async def test_anonymous_is_told_nothing_else_first(pictures: Site) -> None:
    assert error_of(await pictures.client.get("/api/jobs/42"), 401)["code"] == "unauthenticated"
    assert error_of(await pictures.client.get("/api/jobs/x?queue=" + "q" * 300), 401)["code"] == "unauthenticated"


# S1-06
@pytest.mark.parametrize(("method", "path"), ROUTES[1:])
@pytest.mark.parametrize("owner", ["ada", None], ids=["somebody else's", "nobody's"])
async def test_what_is_not_yours_looks_like_what_does_not_exist(
    pictures: Site, method: str, path: str, owner: str | None
) -> None:
    # S3-27
    mine = await enqueue(pictures.toril, owner=owner)
    theirs = await pictures.client.request(method, "/api" + path.format(id=mine), headers=BOB)
    nothing = await pictures.client.request(method, "/api" + path.format(id="jnothing"), headers=BOB)
    assert error_of(theirs, 404)["code"] == "job_not_found"
    assert theirs.content == nothing.content
    kept = await pictures.toril.engine.inspect.get(mine)
    assert kept is not None
    assert not kept.cancelled


# S1-06
async def test_admins_see_all_jobs_and_others_no_stats(pictures: Site) -> None:
    for owner in ("ada", None):
        mine = await enqueue(pictures.toril, owner=owner)
        assert (await pictures.client.get(f"/api/jobs/{mine}", headers=ADMIN)).status_code == 200
    assert error_of(await pictures.client.get("/api/jobs/stats", headers=ADA), 403)["code"] == "forbidden"


async def test_ids_that_are_a_number_need_the_queue(pictures: Site) -> None:
    job = NewJob("7", "resize", "{}", '{"toril": {"owner": "ada"}}', pictures.toril.clock.now_ms())
    await pictures.toril.engine.jobs.add("pictures", [job], batch="b", now=pictures.toril.clock.now_ms())
    error = error_of(await pictures.client.get("/api/jobs/7", headers=ADA), 422)
    assert error["code"] == "queue_required"
    assert (await pictures.client.get("/api/jobs/7?queue=pictures", headers=ADA)).json()["job"]["id"] == "7"
    assert error_of(await pictures.client.get("/api/jobs/7?queue=secret", headers=ADA), 404)["code"] == "job_not_found"


async def test_a_job_of_another_producer_is_shown_whatever_is_in_it(pictures: Site) -> None:
    now = pictures.toril.clock.now_ms()
    await pictures.toril.engine.jobs.add("pictures", [NewJob("odd", "x", "7", "[1]", now)], batch="b", now=now)
    job = (await pictures.client.get("/api/jobs/odd", headers=ADMIN)).json()["job"]
    assert (job["maxAttempts"], job["status"]) == (1, "waiting")


# S1-06
async def test_a_waiting_job_is_cancelled_and_cancelling_again_answers_the_same(pictures: Site) -> None:
    mine = await enqueue(pictures.toril)
    first = await pictures.client.post(f"/api/jobs/{mine}/cancel?reason=changed+my+mind", headers=ADA)
    again = await pictures.client.post(f"/api/jobs/{mine}/cancel", headers=ADA)
    assert (first.status_code, first.json()["status"], first.json()["jobId"]) == (200, "cancelled", mine)
    assert again.json() == first.json()
    job = (await pictures.client.get(f"/api/jobs/{mine}", headers=ADA)).json()["job"]
    assert (job["cancelled"], job["failedReason"]) == (True, "cancelled: changed my mind")
    stored = await pictures.toril.engine.inspect.get(mine)
    assert stored is not None
    assert stored.cancel is not None
    assert stored.cancel.by == "ada"


async def test_a_running_job_is_being_cancelled_and_an_ended_one_cannot_be(pictures: Site) -> None:
    mine, hand = await enqueue(pictures.toril), Hand(pictures.toril)
    taken = await hand.take()
    answer = await pictures.client.post(f"/api/jobs/{mine}/cancel", headers=ADMIN)
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelling")
    other = await enqueue(pictures.toril)
    assert taken.id == mine
    await hand.finish(await hand.take(), Done("1"))
    assert error_of(await pictures.client.post(f"/api/jobs/{other}/cancel", headers=ADA), 409)["code"] == "job_finished"


async def test_a_foreign_workers_job_cannot_be_cancelled(pictures: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of BullMQ cannot be told, and the caller must not be told that it was."""
    mine = await enqueue(pictures.toril)
    monkeypatch.setattr(pictures.toril.engine.jobs, "cancel", AsyncMock(return_value=CancelAnswer.FOREIGN))
    answer = await pictures.client.post(f"/api/jobs/{mine}/cancel", headers=ADA)
    assert error_of(answer, 409)["code"] == "job_elsewhere"
    assert not await pictures.toril.job(mine).cancel()


# S3-26 S1-14 S3-01
async def test_a_job_can_be_added_and_belongs_to_the_caller(pictures: Site) -> None:
    answer = await pictures.client.post("/api/jobs/resize", headers=ADA, json={"path": "cat.png", "width": 7})
    assert answer.status_code == 202
    body = answer.json()
    assert set(body) == {"success", "jobId", "status", "message"}
    assert (body["success"], body["status"]) == (True, "queued")
    assert answer.headers["location"] == f"/api/jobs/{body['jobId']}"
    assert (await pictures.client.get(answer.headers["location"], headers=ADA)).json()["job"]["name"] == "resize"
    assert (await pictures.client.get(answer.headers["location"], headers=BOB)).status_code == 404
    stored = await pictures.toril.engine.inspect.get(body["jobId"])
    assert stored is not None
    assert json.loads(stored.data) == {"path": "cat.png", "width": 7}


async def test_arguments_that_do_not_fit_are_named(pictures: Site) -> None:
    # S1-23
    answer = await pictures.client.post("/api/jobs/resize", headers=ADA, json={"path": "cat.png", "width": "wide"})
    error = error_of(answer, 422)
    assert error["code"] == "invalid_arguments"
    assert [field["field"] for field in error["fields"]] == ["width"]
    assert set(error["fields"][0]) == {"field", "message", "type"}
    assert (await pictures.toril.engine.inspect.counts("pictures")).total == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"x"', b"\xff", b'{"path": NaN}', b'{"path": "\\ud800"}'])
async def test_a_body_that_is_no_object_is_refused(pictures: Site, body: bytes) -> None:
    headers = {**ADA, "Content-Type": "application/json"}
    answer = await pictures.client.post("/api/jobs/resize", headers=headers, content=body)
    assert error_of(answer, 422)["code"] == "invalid_arguments"


async def test_a_form_of_another_site_cannot_add_jobs(pictures: Site) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = await pictures.client.post(
            "/api/jobs/resize", headers={**ADA, "Content-Type": kind}, content=b'{"path": "x"}'
        )
        assert error_of(answer, 415)["code"] == "unsupported_media_type"


async def test_too_much_is_refused_before_it_is_read_to_the_end(pictures: Site) -> None:
    limit, sent = pictures.toril.settings.jobs.payload_limit, 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 10 * limit:
            sent += 65536
            yield b" " * 65536

    headers = {**ADA, "Content-Type": "application/json"}
    answer = await pictures.client.post("/api/jobs/resize", headers=headers, content=endless())
    assert error_of(answer, 413)["code"] == "payload_too_large"
    assert sent <= limit + 2 * 65536


@pytest.mark.parametrize("task", ["internal", "nothing"])
async def test_only_the_named_tasks_can_be_added(pictures: Site, task: str) -> None:
    answer = await pictures.client.post(f"/api/jobs/{task}", headers=ADMIN, json={})
    assert error_of(answer, 404)["code"] == "unknown_task"


async def test_nothing_can_be_added_by_default() -> None:
    async with site(submit=False) as pictures:
        answer = await pictures.client.post("/api/jobs/resize", headers=ADMIN, json={"path": "x"})
        assert error_of(answer, 405)["code"] == "method_not_allowed"
        assert (await pictures.toril.engine.inspect.counts("pictures")).total == 0


@pytest.mark.parametrize(("method", "path"), [("PUT", "/api/jobs/x"), ("DELETE", "/api/jobs/stats")])
async def test_a_wrong_method_has_the_one_shape_too(pictures: Site, method: str, path: str) -> None:
    answer = await pictures.client.request(method, path, headers=ADA)
    assert error_of(answer, 405)["code"] == "method_not_allowed"
    assert answer.headers["allow"]


async def test_a_parameter_that_is_too_long_is_named(pictures: Site) -> None:
    error = error_of(await pictures.client.get("/api/jobs/" + "x" * 200, headers=ADA), 422)
    assert (error["code"], error["fields"][0]["field"]) == ("invalid_request", "path.id")


@pytest.mark.parametrize(
    ("raised", "status", "code", "retryable"),
    [
        (EngineUnavailable("db at /srv/secret is away"), 503, "engine_unavailable", True),
        (EngineClosed("/srv/secret closed"), 503, "engine_closed", True),
        (StoreFull("/srv/secret is full"), 503, "store_full", True),
        (StoreCorrupt("/srv/secret is damaged"), 500, "store_corrupt", False),
        (ConfigError("/srv/secret is wrong"), 500, "config_error", False),
        (ZeroDivisionError("/srv/secret"), 500, "internal_error", False),
    ],
)
async def test_failures_of_the_server_tell_no_details(
    pictures: Site, monkeypatch: pytest.MonkeyPatch, raised: Exception, status: int, code: str, retryable: bool
) -> None:
    # S0-27
    async def broken(*_: object) -> None:
        raise raised

    monkeypatch.setattr(pictures.toril.engine.inspect, "get", broken)
    answer = await pictures.client.get("/api/jobs/jx", headers=ADA)
    error = error_of(answer, status)
    assert (error["code"], error["retryable"]) == (code, retryable)
    assert "secret" not in answer.text
    assert ("retry-after" in answer.headers) is (status == 503)


# S1-09
@pytest.mark.parametrize("extra", ["ours", "theirs"])
async def test_a_path_that_exists_twice_is_refused(extra: str) -> None:
    async with site() as pictures:
        app = FastAPI()
        if extra == "ours":
            app.include_router(jobs_api(pictures.toril, auth=JWTAuth(secret=SECRET)), prefix="/api")
        else:
            app.add_api_route("/api/jobs/stats", nothing, methods=["GET"])
        app.include_router(jobs_api(pictures.toril, auth=JWTAuth(secret=SECRET)), prefix="/api")
        with pytest.raises(ConfigError, match=r"GET /api/jobs/stats is mounted twice"):
            async with app.router.lifespan_context(app):
                pass
        if extra == "ours":
            async with client_of(app) as client:
                assert error_of(await client.get("/api/jobs/stats", headers=ADMIN), 500)["code"] == "config_error"


async def test_two_prefixes_and_routes_of_the_application_get_along() -> None:
    async with site() as pictures:
        app = FastAPI()
        for prefix in ("/api", "/internal"):
            app.include_router(jobs_api(pictures.toril, auth=JWTAuth(secret=SECRET)), prefix=prefix)
        app.add_api_route("/api/other", nothing, methods=["GET"])
        async with app.router.lifespan_context(app), client_of(app) as client:
            for prefix in ("/api", "/internal"):
                assert (await client.get(f"{prefix}/jobs/stats", headers=ADMIN)).status_code == 200


@pytest.mark.parametrize("submit", ["resize", [], [1]])
async def test_a_wrong_submit_is_refused(submit: Any) -> None:
    async with site() as pictures:
        with pytest.raises(ConfigError, match="submit: expected False or a set of task names"):
            jobs_api(pictures.toril, auth=None, submit=submit)


async def test_a_task_to_submit_that_does_not_exist_stops_the_start() -> None:
    async with site() as pictures:
        app = make_app(pictures.toril, None, {"resise"})
        with pytest.raises(ConfigError, match="found 'resise'"):
            async with app.router.lifespan_context(app):
                pass


async def test_without_auth_this_machine_may_do_everything_and_no_other() -> None:
    async with site(auth=None) as pictures:
        answer = await pictures.client.post("/api/jobs/resize", json={"path": "cat.png"})
        assert (await pictures.client.get(answer.headers["location"])).status_code == 200
        assert (await pictures.client.get("/api/jobs/stats")).status_code == 200
        async with client_of(pictures.app, client=("192.0.2.7", 9)) as stranger:
            assert error_of(await stranger.get("/api/jobs/stats"), 403)["code"] == "auth_required"
        forwarded = await pictures.client.get("/api/jobs/stats", headers={"X-Forwarded-For": "192.0.2.7"})
        assert error_of(forwarded, 403)["code"] == "auth_required"
