"""Health of the process and of its store, for load balancers, probes and people."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Literal

from fastapi import APIRouter, Request, Response, Security
from fastapi.encoders import jsonable_encoder
from pydantic import Field

from toril.app import Toril
from toril.engine.protocol import Health
from toril.errors import TorilError
from toril.web.access import Gate
from toril.web.api import openapi
from toril.web.api.schemas import Wire
from toril.web.auth import Auth
from toril.web.problems import ProblemRoute

DEADLINE_S = 2.0
KEPT_S = 1.0
"""How long one look at the store answers all probes, so that anonymous requests cannot load it."""


class LiveAnswer(Wire):
    """The process answers."""

    status: Literal["live"] = "live"


class ReadyAnswer(Wire):
    """Whether the process can do its work."""

    status: Literal["ready", "unavailable"]


class HealthAnswer(Wire):
    """What an admin sees."""

    success: bool = Field(description="The same as `connected`.")
    mode: str = Field(description="The engine that holds the jobs.", examples=["sqlite"])
    connected: bool
    round_trip_ms: float = Field(ge=0, description="The time of one small call.")
    detail: dict[str, Any] = Field(description="What the store says of itself, without secrets.")
    error: str | None
    workers: list[dict[str, Any]] = Field(description="What each live worker says of itself.")


def health_api(toril: Toril, *, auth: Auth | None) -> APIRouter:
    """`GET /health/live`, `GET /health/ready`, and `GET /health` with details for admins.

        app.include_router(health_api(toril, auth=JWTAuth(secret=…)))

    The first two need no credentials and say a single word; `ready` is 503 while the store does not answer within two
    seconds, and from the moment on at which a worker in this process is asked to stop. `/health` shows what the store
    says of itself; with `auth=None` on loopback only, as `jobs_api`.
    """
    return HealthApi(toril, Gate(auth)).router()


class HealthApi:
    """What the routes do."""

    def __init__(self, toril: Toril, gate: Gate, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.gate = gate
        self._toril = toril
        self._monotonic = monotonic
        self._seen: tuple[float, bool] | None = None

    def router(self) -> APIRouter:
        """The routes, ready to be included."""
        router = APIRouter(route_class=ProblemRoute, tags=["health"])
        guard = [] if self.gate.scheme is None else [Security(self.gate.scheme)]
        refusals: openapi.Responses = {status: openapi.GENERAL[status] for status in (401, 403)}
        unready: openapi.Responses = {503: {"model": ReadyAnswer, "description": "The store does not answer."}}
        router.add_api_route("/health/live", self.live, methods=["GET"], response_model=LiveAnswer)
        router.add_api_route(
            "/health/ready", self.ready, methods=["GET"], response_model=ReadyAnswer, responses=unready
        )
        router.add_api_route(
            "/health",
            self.health,
            methods=["GET"],
            response_model=HealthAnswer,
            responses={**refusals, 503: {"model": HealthAnswer, "description": "The store does not answer."}},
            dependencies=guard,
        )
        return router

    async def live(self) -> LiveAnswer:
        """The process answers. Asks nothing else, so that a store that is away does not restart the process."""
        return LiveAnswer()

    async def ready(self, response: Response) -> ReadyAnswer:
        """Whether the store answers, channels that are listened to can be read, and no worker here is stopping."""
        now = self._monotonic()
        if self._seen is None or now - self._seen[0] >= KEPT_S:
            # Set before asking: probes that come meanwhile are answered with the last look, not with one more.
            self._seen = (now, self._seen[1] if self._seen else True)
            self._seen = (now, (await self._look()).ok)
        # Who listens through this process hears nothing while its subscription fails.
        ok = self._seen[1] and not self._toril.is_stopping and not self._toril.realtime.status().failing_s
        response.status_code = 200 if ok else 503
        return ReadyAnswer(status="ready" if ok else "unavailable")

    async def health(self, request: Request, response: Response) -> HealthAnswer:
        """How the store is, for admins. A store that is away is told as such, with status 503."""
        await self.gate.admit_admin(request)
        found = await self._look()
        workers = (await self._toril.stats()).workers if found.ok else ()
        response.status_code = 200 if found.ok else 503
        error = None if found.ok else str(found.detail.get("error", "The store does not answer."))
        return HealthAnswer(
            success=found.ok,
            mode=self._toril.engine.name,
            connected=found.ok,
            round_trip_ms=found.round_trip_ms,
            detail=jsonable_encoder({**found.detail, "realtime": self._toril.realtime.status()._asdict()}),
            error=error,
            workers=list(workers),
        )

    async def _look(self) -> Health:
        try:
            async with asyncio.timeout(DEADLINE_S):
                engine = self._toril.engine
                await self._toril.start()
                return await engine.health()
        except TimeoutError:
            return Health(False, DEADLINE_S * 1000, {"error": f"no answer within {DEADLINE_S:g} s"})
        except TorilError as error:
            return Health(False, 0.0, {"error": str(error)})
