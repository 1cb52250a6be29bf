"""The routes. `jobs_api` makes them; include the result once, under a prefix of your own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from weakref import WeakSet

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response, Security

from toril.app import Toril
from toril.engine.ports.jobs import CancelAnswer as Cancelled
from toril.engine.protocol import Engine
from toril.errors import ConfigError, UnknownTask
from toril.jobs.model import Counts, Job
from toril.web.access import Gate
from toril.web.api import openapi
from toril.web.api.events import follow
from toril.web.api.schemas import CancelAnswer, JobAnswer, QueuedAnswer, StatsAnswer
from toril.web.api.stream import EventStream
from toril.web.api.submit import read_arguments
from toril.web.api.views import job_model, options_of, queue_stats, stats_of
from toril.web.auth import Auth, Identity
from toril.web.mounts import check_paths
from toril.web.problems import ApiError, ProblemRoute

HEARTBEAT_S = 15.0
LONGEST_STREAM_S = 600.0

JobId = Annotated[str, Path(max_length=128, description="The job's id.")]
QueueName = Annotated[
    str | None, Query(max_length=256, description="The job's queue; needed for ids that are a number only.")
]


def jobs_api(toril: Toril, *, auth: Auth | None, submit: Collection[str] | Literal[False] = False) -> APIRouter:
    """Routes to look at jobs, to follow and cancel them, and, if wanted, to add some.

        app.include_router(jobs_api(toril, auth=JWTAuth(secret=…)), prefix="/api")

    `GET /jobs/stats` (admins), `GET /jobs/{id}`, `GET /jobs/{id}/events` (server-sent events), `POST
    /jobs/{id}/cancel`, and with `submit={"task", …}` also `POST /jobs/{task}` for those tasks: the body is the object
    of named arguments, and the job belongs to the caller. People see the jobs that they own (`owner=` on enqueue);
    admins see all; anything else is the same 404 as a job that does not exist.

    `auth=None` serves everything to everybody, and therefore refuses every request that may come from another machine
    (see `toril.web.loopback`, and `check_bind` for what starts a server). Raises ConfigError for a wrong `submit`; at
    start the application refuses paths that exist twice and tasks in `submit` that do not exist.
    """
    if submit is not False and (isinstance(submit, str) or not submit or not all(isinstance(n, str) for n in submit)):
        raise ConfigError(f"submit: expected False or a set of task names, got {submit!r}.")
    api = JobsApi(toril, Gate(auth), frozenset(submit or ()))
    return api.router()


class JobsApi:
    """What the routes do."""

    def __init__(self, toril: Toril, gate: Gate, submit: frozenset[str]) -> None:
        self.gate = gate
        self.heartbeat_s = HEARTBEAT_S
        self.longest_stream_s = LONGEST_STREAM_S
        self._toril = toril
        self._submit = submit
        self._checked: WeakSet[Any] = WeakSet()

    def router(self) -> APIRouter:
        """The routes, ready to be included."""
        guards = [Depends(self.admit), *([Security(self.gate.scheme)] if self.gate.scheme is not None else [])]
        router = APIRouter(
            route_class=ProblemRoute,
            dependencies=guards,
            tags=["jobs"],
            responses=openapi.GENERAL,
            lifespan=self._lifespan,
        )
        add = router.add_api_route
        add("/jobs/stats", self.stats, methods=["GET"], response_model=StatsAnswer, responses=openapi.STATS)
        add("/jobs/{id}", self.job, methods=["GET"], response_model=JobAnswer, responses=openapi.JOB)
        add(
            "/jobs/{id}/events",
            self.events,
            methods=["GET"],
            # Not EventStream: FastAPI would declare the failures as event streams too.
            response_class=Response,
            responses=openapi.EVENTS,
        )
        add("/jobs/{id}/cancel", self.cancel, methods=["POST"], response_model=CancelAnswer, responses=openapi.CANCEL)
        if self._submit:
            add(
                "/jobs/{task}",
                self.submit,
                methods=["POST"],
                status_code=202,
                response_model=QueuedAnswer,
                responses=openapi.SUBMIT,
                openapi_extra=openapi.BODY,
                description=f"{self.submit.__doc__}\n\nTasks: {', '.join(sorted(self._submit))}.",
            )
        return router

    async def admit(self, request: Request) -> None:
        """Find out who asks, before anything else of the request is looked at."""
        if request.app not in self._checked:
            check_paths(request.app)
            self._checked.add(request.app)
        request.state.toril_identity = await self.gate.admit(request)

    async def stats(self, request: Request) -> StatsAnswer:
        """How many jobs there are, over all queues and queue by queue. For admins."""
        if not _identity(request).admin:
            raise ApiError(403, "forbidden", "The counts are for admins only.")
        engine = await self._engine()
        queues = await engine.inspect.queues()
        listed = {name: queue_stats(Counts(), paused=False) for name in self._toril.registry.queues()}
        listed |= {queue.name: queue_stats(queue.counts, paused=queue.paused) for queue in queues}
        return StatsAnswer(
            mode=engine.name,
            stats=stats_of(queues),
            queues=dict(sorted(listed.items())),
            timestamp=datetime.fromtimestamp(self._toril.clock.now_ms() / 1000, UTC),
        )

    async def job(self, request: Request, id: JobId, queue: QueueName = None) -> JobAnswer:
        """One job. Somebody else's job is answered like one that does not exist."""
        return JobAnswer(job=job_model(await self._find(request, id, queue)))

    async def events(
        self,
        request: Request,
        id: JobId,
        queue: QueueName = None,
        last_event_id: Annotated[str | None, Header(max_length=128, description="Go on after this event.")] = None,
    ) -> Response:
        """Follow a job live, as server-sent events.

        First `snapshot` (the job), then `progress`, `log` and `state` as they happen; the stream ends after the state
        `completed` or `failed`. A client that comes back with Last-Event-ID gets what it missed, or `resync` with a
        new snapshot when that is not kept any more, or 204 when the job has ended and all was told.
        """
        job = await self._find(request, id, queue)
        frames = await follow(self._toril, job, last_event_id or None)
        if frames is None:
            return Response(status_code=204)
        return EventStream(frames, heartbeat_s=self.heartbeat_s, longest_s=self.longest_stream_s)

    async def cancel(
        self,
        request: Request,
        id: JobId,
        queue: QueueName = None,
        reason: Annotated[str, Query(max_length=200, description="Becomes part of the job's failed reason.")] = "",
    ) -> CancelAnswer:
        """Cancel a job. Cancelling it again answers the same; a job that has ended otherwise is a 409."""
        job = await self._find(request, id, queue)
        engine, who = await self._engine(), _identity(request)
        now = self._toril.clock.now_ms()
        match await engine.jobs.cancel(job.queue, job.id, by=who.subject, reason=reason, now=now):
            case Cancelled.MISSING:
                raise _no_such_job()
            case Cancelled.REQUESTED:
                return CancelAnswer(job_id=id, status="cancelling", message="The job is running; its worker was told.")
            case Cancelled.FOREIGN:
                raise ApiError(409, "job_elsewhere", "A worker that is not Toril's runs the job and cannot be told.")
            case Cancelled.FINISHED:
                ended = await engine.inspect.get(job.id, job.queue)
                if ended is None or not ended.cancelled:
                    raise ApiError(409, "job_finished", "The job has ended already, so it cannot be cancelled.")
            case Cancelled.CANCELLED:
                pass
        return CancelAnswer(job_id=id, status="cancelled", message="The job is cancelled and will not run.")

    async def submit(
        self, request: Request, response: Response, task: Annotated[str, Path(max_length=256)]
    ) -> QueuedAnswer:
        """Add a job that runs `task` with the named arguments of the body. It belongs to the caller."""
        found = self._toril.registry.get(task) if task in self._submit else None
        if found is None:
            raise UnknownTask(f"No task {task!r} can be added here.")
        arguments = await read_arguments(request, found, self._toril.settings.jobs.payload_limit)
        handle = await found.with_options(owner=_identity(request).subject or None).enqueue(**arguments)
        response.headers["Location"] = f"{request.url.path.rsplit('/', 1)[0]}/{handle.id}"
        return QueuedAnswer(job_id=handle.id, message=f"The job is queued: GET {response.headers['Location']}")

    async def _find(self, request: Request, id: str, queue: str | None) -> Job:
        if queue is None and id.isdecimal():
            raise ApiError(422, "queue_required", "Ids that are a number are one per queue: add ?queue=<name>.")
        engine = await self._engine()
        job = await engine.inspect.get(id, queue)
        if job is None or not _identity(request).sees(options_of(job).owner):
            raise _no_such_job()
        return job

    async def _engine(self) -> Engine:
        engine = self._toril.engine
        await self._toril.start()
        return engine

    @asynccontextmanager
    async def _lifespan(self, app: Any) -> AsyncIterator[None]:
        check_paths(app)
        for name in sorted(self._submit):
            if self._toril.registry.get(name) is None:
                raise ConfigError(
                    f"submit: expected names of declared tasks, found {name!r}: declare it, or leave it out."
                )
        yield


def _identity(request: Request) -> Identity:
    identity: Identity = request.state.toril_identity
    return identity


def _no_such_job() -> ApiError:
    return ApiError(404, "job_not_found", "There is no such job, or it is not yours.")
