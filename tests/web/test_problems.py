"""What each of our errors becomes over HTTP: the whole table. And an auth of one's own."""

import json

import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from tests.web.site import client_of, enqueue, site
from toril import errors
from toril.web import ApiError, Identity, check_bind, jobs_api
from toril.web.problems import answer

TABLE = [
    (errors.InvalidArguments("x", [{"field": "a", "message": "b", "type": "c"}]), 422, "invalid_arguments"),
    (errors.InvalidResult("x"), 422, "invalid_result"),
    (errors.PayloadTooLarge("x"), 413, "payload_too_large"),
    (errors.UnknownTask("x"), 404, "unknown_task"),
    (errors.JobNotFound("x"), 404, "job_not_found"),
    (errors.JobLocked("x"), 409, "job_locked"),
    (errors.JobNotFinished("x"), 409, "job_not_finished"),
    (errors.ResultExpired("x"), 409, "result_expired"),
    (errors.JobFailed("x"), 409, "job_failed"),
    (errors.JobCancelled("x"), 409, "job_cancelled"),
    (errors.JobTimeout("x"), 409, "job_timeout"),
    (errors.ResultTimeout("x"), 409, "result_timeout"),
    (errors.LockLost("x"), 409, "lock_lost"),
    (errors.AuthRequired("x"), 403, "auth_required"),
    (errors.IdempotencyMismatch("x"), 422, "idempotency_mismatch"),
    (errors.IdempotencyRunning("x"), 409, "idempotency_running"),
    (errors.LimitExceeded("x"), 429, "limit_exceeded"),
    (errors.BreakerOpen("x"), 503, "breaker_open"),
    (errors.CallTimeout("x"), 504, "call_timeout"),
    (errors.EngineUnavailable("x"), 503, "engine_unavailable"),
    (errors.EngineClosed("x"), 503, "engine_closed"),
    (errors.StoreFull("x"), 503, "store_full"),
    (errors.SpoolFull("x"), 503, "spool_full"),
    (errors.EngineError("x"), 500, "engine_error"),
    (errors.StoreCorrupt("x"), 500, "store_corrupt"),
    (errors.StoreReadOnly("x"), 500, "store_read_only"),
    (errors.StoreTooNew("x"), 500, "store_too_new"),
    (errors.UnsupportedFileSystem("x"), 500, "unsupported_file_system"),
    (errors.ConfigError("x"), 500, "config_error"),
    (errors.TaskExists("x"), 500, "task_exists"),
    (errors.CrossSlotFlow("x"), 500, "cross_slot_flow"),
    (errors.FlowConflict("x"), 409, "flow_conflict"),
    (errors.PayloadError("x"), 422, "payload_error"),
    (errors.JobError("x"), 409, "job_error"),
    (errors.Signal("x"), 500, "signal"),
    (errors.NeverRetry("x"), 500, "never_retry"),
    (errors.TorilError("x"), 500, "toril_error"),
]


# S3-27
@pytest.mark.parametrize(("error", "status", "code"), TABLE, ids=[row[2] for row in TABLE])
def test_each_error_has_its_status_and_code(error: errors.TorilError, status: int, code: str) -> None:
    response = answer(error).response()
    body = json.loads(bytes(response.body))
    assert (response.status_code, body["success"], body["error"]["code"]) == (status, False, code)
    assert ("fields" in body["error"]) is (code == "invalid_arguments")
    assert body["error"]["retryable"] is (status == 503 or (status < 500 and error.retryable))
    assert ("retry-after" in response.headers) is (status == 503)


def test_the_table_has_every_error() -> None:
    assert {type(row[0]).__name__ for row in TABLE} == set(errors.__all__)


@pytest.mark.parametrize(
    ("status", "code"), [(401, "unauthenticated"), (429, "too_many_requests"), (418, "http_error")]
)
def test_refusals_of_the_applications_own_dependencies_have_the_one_shape(status: int, code: str) -> None:
    found = answer(HTTPException(status, "no", headers={"X-Why": "because"}))
    assert (found.status, found.code, found.message, found.headers) == (status, code, "no", {"X-Why": "because"})


class Keys:
    """An auth of one's own: API keys."""

    async def identify(self, request: HTTPConnection) -> Identity | None:
        key = request.headers.get("x-api-key")
        if key == "revoked":
            raise ApiError(403, "key_revoked", "This key was revoked.")
        return None if key is None else Identity(key)


# S1-06
async def test_an_auth_of_ones_own_decides() -> None:
    async with site() as pictures:
        app = FastAPI()
        app.include_router(jobs_api(pictures.toril, auth=Keys()), prefix="/api")
        check_bind(app, "0.0.0.0")
        url = f"/api/jobs/{await enqueue(pictures.toril, owner='ada')}"
        async with client_of(app, client=("192.0.2.7", 9)) as client:
            answers = {
                key: await client.get(url, headers={} if key is None else {"X-API-Key": key})
                for key in ("ada", "bob", "revoked", None)
            }
    assert {key: found.status_code for key, found in answers.items()} == {
        "ada": 200,
        "bob": 404,
        "revoked": 403,
        None: 401,
    }
    assert answers["revoked"].json()["error"]["code"] == "key_revoked"
