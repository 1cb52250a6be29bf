"""Reading the arguments of a job from a request's body."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from toril.errors import InvalidArguments, PayloadTooLarge
from toril.tasks.task import Task
from toril.web.problems import ApiError


async def read_arguments(request: Request, task: Task[..., Any], limit: int) -> dict[str, Any]:
    """The body as validated arguments of the task.

    Raises InvalidArguments, PayloadTooLarge above `limit` bytes (without reading on), and ApiError 415 for a body that
    does not say that it is JSON: what a browser sends across sites without asking never does.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ApiError(415, "unsupported_media_type", f"Expected Content-Type: application/json, found {media_type!r}.")
    body = await _read(request, limit)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArguments(f"The body: expected JSON in UTF-8, found other bytes at {error.start}.") from None
    return task.signature.load(text)


async def _read(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise PayloadTooLarge(
                f"The body: expected at most {limit} bytes of arguments, found more.", size=len(body), limit=limit
            )
    return bytes(body)
