"""The HTTP routes of DocSnap itself: ask for a document, list one's own, read one."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response, Security
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from docsnap import html
from docsnap.addresses import refusal
from docsnap.errors import PageUnavailable, PageUnusable
from docsnap.fetch import checked_url
from docsnap.report import DocumentStore, Report
from docsnap.settings import Settings, plain_host
from docsnap.tasks import Depth, GenerateDocs, MaxPages
from toril import Job, State, Toril, WebUrl
from toril.web import ApiError, Gate, Identity

# In the order of a job's life, so that one which moves on during the listing is met again and not missed.
UNFINISHED = (State.DELAYED, State.WAITING, State.PRIORITIZED, State.ACTIVE)
FINISHED = (State.COMPLETED, State.FAILED)
MOST_LISTED = 200
LOG_LINES = 500


class Answer(BaseModel):
    """Names in camelCase outside, as in the answers of Toril's own routes."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Order(BaseModel):
    """The body of a request for a document."""

    model_config = ConfigDict(extra="forbid")

    url: WebUrl = Field(description="Address of the first page; the crawl stays on its host and in its folder.")
    depth: Depth = Field(2, description="Links followed away from the first page.")
    max_pages: MaxPages = Field(20, description="Most pages of the document.")


class Queued(Answer):
    """The answer to an order: the job runs in the background, the two addresses tell how it is doing."""

    success: Literal[True] = True
    job_id: str
    status: Literal["queued"] = "queued"
    message: str
    status_url: str
    events_url: str


class Listed(Answer):
    """One job in the list of documents."""

    id: str
    url: str
    state: str
    progress: float
    message: str
    attempts: int
    created_at: datetime
    report: Report | None = Field(description="What the finished job wrote.")
    error: str | None = Field(description="Why the job, or its last attempt, failed.")


class Documents(Answer):
    """The caller's jobs, newest first."""

    success: Literal[True] = True
    documents: list[Listed]


class Log(Answer):
    """What a job wrote into its log, oldest line first."""

    success: Literal[True] = True
    logs: list[str]


class DocumentRoutes:
    """What the routes do."""

    def __init__(self, toril: Toril, generate_docs: GenerateDocs, settings: Settings, gate: Gate) -> None:
        self._toril = toril
        self._generate_docs = generate_docs
        self._settings = settings
        self._gate = gate
        self._store = DocumentStore(settings.documents)

    def router(self) -> APIRouter:
        """The routes, ready to be included under a prefix."""
        guards = [Depends(self.admit), *([Security(self._gate.scheme)] if self._gate.scheme else [])]
        router = APIRouter(tags=["documents"], dependencies=guards)
        add = router.add_api_route
        add("/generate-docs", self.generate, methods=["POST"], status_code=202, response_model=Queued)
        add("/documents", self.mine, methods=["GET"], response_model=Documents)
        add("/documents/{job_id}", self.read, methods=["GET"], response_class=Response)
        add("/documents/{job_id}/log", self.log, methods=["GET"], response_model=Log)
        return router

    async def admit(self, request: Request) -> None:
        """Find out who asks, before anything else of the request is looked at."""
        request.state.who = await self._gate.admit(request)

    async def generate(self, request: Request, order: Order) -> Queued:
        """Queue a document. Answers at once; the work is done by the worker."""
        who = _who(request)
        self._refuse_early(order.url)
        task = self._generate_docs.with_options(owner=who.subject)
        job = await task.enqueue(order.url, order.depth, order.max_pages)
        base = request.url.path.removesuffix("/generate-docs")
        return Queued(
            job_id=job.id,
            message="The job is queued. Follow it at eventsUrl, or look at statusUrl from time to time.",
            status_url=f"{base}/jobs/{job.id}",
            events_url=f"{base}/jobs/{job.id}/events",
        )

    async def mine(self, request: Request, limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 50) -> Documents:
        """The caller's jobs, newest first."""
        who = _who(request)
        found: dict[str, Job] = {}
        for state in (*UNFINISHED, *FINISHED):
            found |= {job.id: job for job in await self._newest(state, who, limit)}
        newest = sorted(found.values(), key=lambda job: (job.timestamp, job.id), reverse=True)
        return Documents(documents=[_listed(job) for job in newest[:limit]])

    async def read(self, request: Request, job_id: str, format: Literal["markdown", "html"] = "markdown") -> Response:
        """A finished document, as Markdown or as a simple HTML page. Other people's are not found."""
        job = await self._find(request, job_id)
        markdown = await asyncio.to_thread(self._store.read, job.id) if job.state is State.COMPLETED else None
        if markdown is None:
            raise ApiError(404, "no_document", f"The job is {job.state.value}: it has no document to show.")
        if format == "html":
            report = _report(job)
            return HTMLResponse(html.page(markdown, report.title if report else "DocSnap"))
        return Response(markdown, media_type="text/markdown; charset=utf-8")

    async def log(self, request: Request, job_id: str) -> Log:
        """The newest lines of a job's log."""
        job = await self._find(request, job_id)
        handle = self._toril.job(job.id, queue=job.queue)
        total = (await handle.logs(limit=1)).total
        page = await handle.logs(start=max(0, total - LOG_LINES), limit=LOG_LINES)
        return Log(logs=list(page.lines))

    async def _newest(self, state: State, who: Identity, limit: int) -> list[Job]:
        queue = self._toril.queue(self._settings.queue)
        found: list[Job] = []
        async for job in queue.jobs(state, newest_first=True, owner=who.subject):
            found.append(job)
            if len(found) == limit:
                break
        return found

    async def _find(self, request: Request, job_id: str) -> Job:
        who = _who(request)
        job = await self._toril.job(job_id, queue=self._settings.queue).info()
        if job is None or not who.sees(_owner(job)):
            raise ApiError(404, "job_not_found", "There is no such job, or it is not yours.")
        return job

    def _refuse_early(self, url: str) -> None:
        """Say at once what the job would say later. Names are not resolved here: that is the job's own check."""
        try:
            parsed = checked_url(url)
        except PageUnusable as error:
            raise ApiError(422, "unusable_url", f"url: {error}") from error
        host = plain_host(parsed.host)
        port = parsed.port or (443 if parsed.scheme == "https" else 80)
        try:
            reason = refusal(host)
        except ValueError:  # a name
            return
        if reason is not None and f"{host}:{port}" not in self._settings.allow_private:
            raise ApiError(422, "address_refused", f"url: {host}:{port} is {reason}, and only public sites are crawled")


def _who(request: Request) -> Identity:
    identity: Identity = request.state.who
    return identity


def _owner(job: Job) -> str | None:
    """Whose job it is, as it was given with `with_options(owner=…)`."""
    own = json.loads(job.opts).get("toril")
    owner = own.get("owner") if isinstance(own, dict) else None
    return owner if isinstance(owner, str) else None


def _listed(job: Job) -> Listed:
    return Listed(
        id=job.id,
        url=str(json.loads(job.data).get("url", "")),
        state=job.state.value,
        progress=job.progress_number,
        message=job.progress_message,
        attempts=job.attempts_made,
        created_at=datetime.fromtimestamp(job.timestamp / 1000, UTC),
        report=_report(job),
        error=None if job.state is State.COMPLETED else _sentence(job.failed_reason),
    )


def _sentence(reason: str | None) -> str | None:
    """The reason without the name of our own error in front of it."""
    return None if reason is None else reason.removeprefix(f"{PageUnavailable.__name__}: ")


def _report(job: Job) -> Report | None:
    return None if job.result is None else Report.model_validate_json(job.result)
