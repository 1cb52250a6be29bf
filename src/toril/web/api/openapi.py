"""What the OpenAPI schema says beyond the models: which failures each route has, and what they look like."""

from __future__ import annotations

from typing import Any

from toril.web.api.schemas import JOB_EXAMPLE, ProblemAnswer

Responses = dict[int | str, dict[str, Any]]

_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
_CHALLENGE = {"WWW-Authenticate": {"description": "RFC 6750.", "schema": {"type": "string"}}}
_FIELD = {"field": "depth", "message": "Input should be a valid integer", "type": "int_parsing"}


def _problem(
    description: str, code: str, message: str, *, headers: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    error = {"code": code, "message": message, "retryable": False, **more}
    found: dict[str, Any] = {
        "model": ProblemAnswer,
        "description": description,
        "content": {"application/json": {"example": {"success": False, "error": error}}},
    }
    return found | ({"headers": headers} if headers else {})


_MISSING = _problem("No such job, or somebody else's.", "job_not_found", "There is no such job, or it is not yours.")

GENERAL: Responses = {
    401: _problem(
        "No credentials, or wrong ones.", "unauthenticated", "This needs a bearer token.", headers=_CHALLENGE
    ),
    403: _problem("Not allowed.", "forbidden", "The counts are for admins only."),
    422: _problem("A parameter is wrong.", "queue_required", "Ids that are a number are one per queue."),
    500: _problem("A fault of the server.", "internal_error", "Something went wrong on the server."),
    503: _problem(
        "The store is away; the request may be repeated.",
        "engine_unavailable",
        "The job store is not available at the moment: try again.",
        headers=_RETRY_AFTER,
        retryable=True,
    ),
}
STATS: Responses = {}
JOB: Responses = {404: _MISSING}
CANCEL: Responses = {
    404: _MISSING,
    409: _problem("The job has ended otherwise.", "job_finished", "The job has ended already."),
}
EVENTS: Responses = {
    200: {
        "description": "Server-sent events: `snapshot`, `progress`, `log`, `state`, `resync`, `problem`.",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": 'event: progress\nid: 42\ndata: {"progress":45,"progressMessage":"rendering"}\n\n',
            }
        },
    },
    204: {"description": "The job has ended, and the client has heard everything."},
    404: _MISSING,
}
SUBMIT: Responses = {
    202: {
        "headers": {"Location": {"description": "Where the job is.", "schema": {"type": "string"}}},
        "content": {
            "application/json": {
                "example": {
                    "success": True,
                    "jobId": JOB_EXAMPLE["id"],
                    "status": "queued",
                    "message": f"The job is queued: GET /api/jobs/{JOB_EXAMPLE['id']}",
                }
            }
        },
    },
    404: _problem("No such task, or not to be added here.", "unknown_task", "No task 'x' can be added here."),
    413: _problem("The arguments are above the limit.", "payload_too_large", "Expected at most 1048576 bytes."),
    415: _problem("The body is not declared as JSON.", "unsupported_media_type", "Expected application/json."),
    422: _problem("The arguments do not fit.", "invalid_arguments", "depth: expected an integer", fields=[_FIELD]),
}


BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The task's arguments by name.",
        "content": {
            "application/json": {"schema": {"type": "object", "additionalProperties": True}, "example": {"depth": 2}}
        },
    }
}
