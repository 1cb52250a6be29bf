"""One shape for every answer that is no success: `{"success": false, "error": {"code", "message", "retryable", …}}`.

A code is stable, a message is for people. What a caller did wrong is told as it is; what went wrong on our side is
logged and answered with a general sentence, since messages of a store may hold paths and addresses.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from toril.errors import (
    AuthRequired,
    BreakerOpen,
    CallTimeout,
    EngineClosed,
    EngineUnavailable,
    IdempotencyMismatch,
    IdempotencyRunning,
    InvalidArguments,
    JobError,
    JobLocked,
    JobNotFinished,
    JobNotFound,
    LimitExceeded,
    PayloadError,
    PayloadTooLarge,
    SpoolFull,
    StoreFull,
    TorilError,
    UnknownTask,
)

_log = logging.getLogger("toril.web")

RETRY_AFTER_S = 2
_AWAY = "The job store is not available at the moment: try again."
_ELSEWHERE = "A service that this needs does not work at the moment: try again."
_BROKEN = "Something went wrong on the server; its log says what."
# The first class that fits decides.
_STATUS: tuple[tuple[type[TorilError], int], ...] = (
    (InvalidArguments, 422),
    (PayloadTooLarge, 413),
    (UnknownTask, 404),
    (PayloadError, 422),
    (JobNotFound, 404),
    (JobLocked, 409),
    (JobNotFinished, 409),
    (JobError, 409),
    (AuthRequired, 403),
    (LimitExceeded, 429),
    (IdempotencyMismatch, 422),
    (IdempotencyRunning, 409),
    (BreakerOpen, 503),
    (CallTimeout, 504),
    (EngineUnavailable, 503),
    (EngineClosed, 503),
    (StoreFull, 503),
    (SpoolFull, 503),
)
_PLAIN_CODES = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
    429: "too_many_requests",
    503: "unavailable",
    504: "timed_out",
}


class ApiError(Exception):
    """An answer other than success. Auth of your own may raise it from `identify`.

    `status` is the HTTP status, `code` a stable word, `fields` one entry per wrong field with the keys `field`,
    `message` and `type`; `headers` are added to the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        fields: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.fields = fields
        self.headers = dict(headers or {})
        self.retryable = retryable

    def response(self) -> JSONResponse:
        """The answer as it goes out."""
        error: dict[str, Any] = {"code": self.code, "message": self.message, "retryable": self.retryable}
        if self.fields:
            error["fields"] = [dict(field) for field in self.fields]
        return JSONResponse({"success": False, "error": error}, self.status, headers=self.headers)


class ProblemRoute(APIRoute):
    """A route whose failures all have the one shape, whatever handlers the application has."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler of the route."""
        inner = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                response = await inner(request)
            except Exception as error:  # noqa: BLE001 - the one place where a failure becomes an answer
                response = answer(error).response()
            # What one user may see must not be given to the next by a cache on the way.
            response.headers.setdefault("Cache-Control", "no-store")
            return response

        return handler

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a wrong method in the one shape too."""
        try:
            await super().handle(scope, receive, send)
        except HTTPException as error:
            await answer(error).response()(scope, receive, send)


def answer(error: Exception) -> ApiError:
    """What a caller is told about an error."""
    match error:
        case ApiError():
            return error
        case RequestValidationError():
            return _invalid_request(error)
        case HTTPException():
            code = _PLAIN_CODES.get(error.status_code, "http_error")
            return ApiError(error.status_code, code, str(error.detail), headers=error.headers)
        case TorilError():
            return _of_toril(error)
        case _:
            _log.error("An HTTP route failed.", exc_info=error)
            return ApiError(500, "internal_error", _BROKEN)


def _of_toril(error: TorilError) -> ApiError:
    status = next((status for cls, status in _STATUS if isinstance(error, cls)), 500)
    if status < 500:
        fields = error.fields if isinstance(error, InvalidArguments) else ()
        return ApiError(status, error.code, str(error), fields=fields, retryable=error.retryable)
    _log.error("An HTTP route failed: %s", error, exc_info=status == 500)
    if status == 500:
        return ApiError(500, error.code, _BROKEN)
    if isinstance(error, CallTimeout):
        return ApiError(status, error.code, _ELSEWHERE)
    wait_s, said = RETRY_AFTER_S, _AWAY
    if isinstance(error, BreakerOpen):
        wait_s, said = math.ceil(error.retry_after), _ELSEWHERE
    return ApiError(503, error.code, said, headers={"Retry-After": str(wait_s)}, retryable=True)


def _invalid_request(error: RequestValidationError) -> ApiError:
    fields = [
        {
            "field": ".".join(str(part) for part in problem["loc"]),
            "message": str(problem["msg"]),
            "type": str(problem["type"]),
        }
        for problem in error.errors()
    ]
    listed = "; ".join(f"{field['field']}: {field['message']}" for field in fields)
    return ApiError(422, "invalid_request", f"The request is not valid: {listed}", fields=fields)
