"""An application as users write it: FastAPI, our routes under /api, on an engine in memory; and a hand-made worker."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any, Literal, NamedTuple

import httpx
from fastapi import FastAPI

from tests.web.tokens import SECRET, bearer, shared
from toril.app import Toril
from toril.engine.ports.jobs import Exchanged, Finish, LogLine, Progress
from toril.jobs.model import TakenJob
from toril.jobs.outcome import Outcome
from toril.web import Auth, JWTAuth, health_api, jobs_api

ADMIN = bearer(shared("root", role="admin"))
ADA = bearer(shared("ada"))
BOB = bearer(shared("bob"))


class Site(NamedTuple):
    """The application, the `Toril` behind it, and a client that talks to it from this machine."""

    app: FastAPI
    toril: Toril
    client: httpx.AsyncClient


def client_of(app: FastAPI, **transport: Any) -> httpx.AsyncClient:
    asgi = httpx.ASGITransport(app, client=transport.pop("client", ("127.0.0.1", 50000)), **transport)
    return httpx.AsyncClient(transport=asgi, base_url="http://127.0.0.1:8000")


def make_app(
    toril: Toril, auth: Auth | None, submit: Collection[str] | Literal[False] = frozenset({"resize"})
) -> FastAPI:
    app = FastAPI(title="Pictures", version="1")
    app.include_router(jobs_api(toril, auth=auth, submit=submit), prefix="/api")
    app.include_router(health_api(toril, auth=auth))
    return app


def declare(toril: Toril) -> None:
    """The tasks of the application."""

    @toril.task(queue="pictures")
    async def resize(path: str, width: int = 100) -> str:
        return f"{path}@{width}"

    @toril.task(queue="secret")
    async def internal() -> None: ...


@asynccontextmanager
async def site(
    auth: Auth | None = JWTAuth(secret=SECRET),  # noqa: B008 - holds nothing that changes
    submit: Collection[str] | Literal[False] = frozenset({"resize"}),
) -> AsyncIterator[Site]:
    """A running application, not yet asked anything."""
    toril = Toril("sqlite://")
    declare(toril)
    app = make_app(toril, auth, submit)
    async with toril, client_of(app) as client:
        yield Site(app, toril, client)


async def enqueue(toril: Toril, owner: str | None = "ada", **options: Any) -> str:
    """Add a job of the task `resize`."""
    handle = await toril.registry["resize"].with_options(owner=owner, **options).enqueue("cat.png", width=10)
    return handle.id


class Hand:
    """A worker moved by hand: takes one job and does to it what the test says."""

    def __init__(self, toril: Toril, queue: str = "pictures") -> None:
        self._toril = toril
        self._queue = queue
        self._seq = 0

    async def take(self) -> TakenJob:
        """Start the next job."""
        [job] = (await self._exchange([], want=1)).jobs
        return job

    async def report(self, job: TakenJob, progress: str | None = None, line: str | None = None) -> None:
        """Store progress (JSON text) and a log line of a running job."""
        reports = [] if progress is None else [Progress(job.id, "t", progress, self._now())]
        lines = [] if line is None else [LogLine(job.id, "t", line, self._now())]
        await self._toril.engine.jobs.report(self._queue, reports, lines)

    async def finish(self, job: TakenJob, outcome: Outcome) -> None:
        """End the run."""
        now = self._now()
        answer = await self._exchange([Finish(job.id, "t", outcome, now, now)], want=0)
        assert [str(code) for code in answer.applied] == ["OK"]

    async def _exchange(self, finished: list[Finish], want: int) -> Exchanged:
        self._seq += 1
        return await self._toril.engine.jobs.exchange(
            self._queue,
            worker="hand",
            seq=self._seq,
            token="t",
            finished=finished,
            want=want,
            lock_ms=60_000,
            now=self._now(),
        )

    def _now(self) -> int:
        return self._toril.clock.now_ms()
