"""The schema says what the routes do: it is valid, complete, and real answers keep to it."""

from typing import Any

import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from tests.web.site import ADA, ADMIN, Hand, Site, enqueue, site
from toril.errors import EngineUnavailable
from toril.jobs.outcome import Done
from toril.web import jobs_api

OPERATIONS = {
    ("/api/jobs/stats", "get"): {"200", "401", "403", "422", "500", "503"},
    ("/api/jobs/{id}", "get"): {"200", "401", "403", "404", "422", "500", "503"},
    ("/api/jobs/{id}/events", "get"): {"200", "204", "401", "403", "404", "422", "500", "503"},
    ("/api/jobs/{id}/cancel", "post"): {"200", "401", "403", "404", "409", "422", "500", "503"},
    ("/api/jobs/{task}", "post"): {"202", "401", "403", "404", "413", "415", "422", "500", "503"},
}
OPEN = {("/health/live", "get"), ("/health/ready", "get")}


def operations(schema: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(path, method): found for path, item in schema["paths"].items() for method, found in item.items()}


async def test_the_schema_is_valid_and_complete() -> None:
    # S1-26
    async with site() as pictures:
        schema = pictures.app.openapi()
    validate(schema)
    found = operations(schema)
    assert set(found) == {*OPERATIONS, *OPEN, ("/health", "get")}
    for key, statuses in OPERATIONS.items():
        assert set(found[key]["responses"]) == statuses, key
        assert found[key]["description"], key
    for key, operation in found.items():
        assert operation.get("security") == (None if key in OPEN else [{"bearer": []}]), key
    scheme = schema["components"]["securitySchemes"]["bearer"]
    assert (scheme["type"], scheme["scheme"], scheme["bearerFormat"]) == ("http", "bearer", "JWT")


async def test_every_failure_is_described_by_the_one_shape() -> None:
    async with site() as pictures:
        schema = pictures.app.openapi()
    for key, operation in operations(schema).items():
        for status, response in operation["responses"].items():
            if status >= "400" and not key[0].startswith("/health"):
                content = response["content"]["application/json"]
                assert content["schema"] == {"$ref": "#/components/schemas/ProblemAnswer"}, (key, status)
                check(schema, content["schema"], content["example"])


async def test_without_auth_and_submit_the_schema_says_so() -> None:
    async with site() as pictures:
        app = FastAPI(title="x", version="1")
        app.include_router(jobs_api(pictures.toril, auth=None))
        schema = app.openapi()
    validate(schema)
    assert ("/jobs/{task}", "post") not in operations(schema)
    assert not any("security" in operation for operation in operations(schema).values())


def check(schema: dict[str, Any], part: dict[str, Any], value: Any) -> None:
    Draft202012Validator({**part, "components": schema["components"]}).validate(value)


# S0-15 S0-17 S3-26 S3-27
@pytest.mark.parametrize(
    ("method", "url", "route", "body", "status"),
    [
        ("GET", "/api/jobs/stats", "/api/jobs/stats", None, 200),
        ("GET", "/api/jobs/{done}", "/api/jobs/{id}", None, 200),
        ("GET", "/api/jobs/{waiting}", "/api/jobs/{id}", None, 200),
        ("GET", "/api/jobs/nothing", "/api/jobs/{id}", None, 404),
        ("GET", "/api/jobs/12", "/api/jobs/{id}", None, 422),
        ("POST", "/api/jobs/{waiting}/cancel", "/api/jobs/{id}/cancel", None, 200),
        ("POST", "/api/jobs/{done}/cancel", "/api/jobs/{id}/cancel", None, 409),
        ("POST", "/api/jobs/resize", "/api/jobs/{task}", {"path": "cat.png"}, 202),
        ("POST", "/api/jobs/resize", "/api/jobs/{task}", {"path": 7}, 422),
        ("POST", "/api/jobs/nothing", "/api/jobs/{task}", {}, 404),
        ("GET", "/health", "/health", None, 200),
        ("GET", "/health/live", "/health/live", None, 200),
        ("GET", "/health/ready", "/health/ready", None, 200),
    ],
)
async def test_real_answers_keep_to_the_schema(method: str, url: str, route: str, body: Any, status: int) -> None:
    async with site() as pictures:
        done, hand = await enqueue(pictures.toril), Hand(pictures.toril)
        await hand.finish(await hand.take(), Done('{"pages": 1}'))
        waiting = await enqueue(pictures.toril)
        answer = await pictures.client.request(
            method, url.format(done=done, waiting=waiting), headers=ADMIN, **({} if body is None else {"json": body})
        )
        assert answer.status_code == status, answer.text
        schema = pictures.app.openapi()
    response = schema["paths"][route][method.lower()]["responses"][str(status)]
    check(schema, response["content"]["application/json"]["schema"], answer.json())
    assert set(response.get("headers", {})) <= {name.title() for name in answer.headers}


@pytest.fixture
async def pictures() -> Any:
    async with site() as running:
        yield running


async def test_a_process_whose_worker_stops_is_not_ready(pictures: Site) -> None:  # A07
    async with pictures.toril.worker() as worker:
        assert (await pictures.client.get("/health/ready")).status_code == 200
        worker.ask_to_stop()
        answer = await pictures.client.get("/health/ready")
        assert (answer.status_code, answer.json()) == (503, {"status": "unavailable"})
    assert (await pictures.client.get("/health/ready")).status_code == 200


# S3-38
async def test_health_is_one_word_for_everybody_and_details_for_admins(pictures: Site) -> None:
    # S4-09
    for path, word in (("/health/live", "live"), ("/health/ready", "ready")):
        answer = await pictures.client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": word})
    details = (await pictures.client.get("/health", headers=ADMIN)).json()
    assert (details["success"], details["connected"], details["mode"], details["error"]) == (True, True, "sqlite", None)
    assert details["roundTripMs"] >= 0
    assert details["detail"]
    assert (await pictures.client.get("/health")).status_code == 401
    assert (await pictures.client.get("/health", headers=ADA)).status_code == 403


# S3-38
async def test_a_store_that_is_away_is_told_and_crashes_nothing(
    pictures: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> None:
        raise EngineUnavailable("the store at /srv/secret is away")

    monkeypatch.setattr(pictures.toril.engine, "health", away)
    assert (await pictures.client.get("/health/live")).status_code == 200
    ready = await pictures.client.get("/health/ready")
    assert (ready.status_code, ready.json()) == (503, {"status": "unavailable"})
    details = await pictures.client.get("/health", headers=ADMIN)
    assert details.status_code == 503
    assert (details.json()["connected"], details.json()["error"]) == (False, "the store at /srv/secret is away")


async def test_probes_do_not_load_the_store(pictures: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, health = 0, pictures.toril.engine.health

    async def counted() -> Any:
        nonlocal looks
        looks += 1
        return await health()

    monkeypatch.setattr(pictures.toril.engine, "health", counted)
    for _ in range(20):
        assert (await pictures.client.get("/health/ready")).status_code == 200
    assert looks == 1
