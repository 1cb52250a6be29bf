"""DocSnap over HTTP, with a real worker on the embedded engine: order, follow, read, and nobody else's documents."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from docsnap.app import create_app
from docsnap.browser import make_token
from docsnap.lantern.server import LanternSite, Pace, lantern_site
from docsnap.settings import Settings
from docsnap.tasks import define_tasks
from tests.examples.docsnap_web import HandmadeSite, handmade_site, http
from toril import Toril

SECRET = "a secret of at least thirty-two characters"


@dataclass
class Running:
    """A DocSnap with a worker, and a way to ask it."""

    http: httpx.AsyncClient
    toril: Toril
    settings: Settings

    def as_user(self, owner: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {make_token(self.settings, owner)}"}

    async def order(self, url: str, owner: str = "ann", **more: Any) -> httpx.Response:
        return await self.http.post("/api/generate-docs", json={"url": url, **more}, headers=self.as_user(owner))

    async def finish(self, url: str, owner: str = "ann") -> str:
        job_id = str((await self.order(url, owner)).json()["jobId"])
        await self.toril.job(job_id).result(timeout=8)
        return job_id


@asynccontextmanager
async def docsnap(folder: Path, *allowed: str, queue: str = "docs") -> AsyncIterator[Running]:
    settings = Settings(data_dir=folder, queue=queue, allow_private=frozenset(allowed), secret=SECRET)
    toril = Toril("sqlite://")
    app = create_app(toril, define_tasks(toril, settings), settings)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")
    async with app.router.lifespan_context(app), client:
        yield Running(client, toril, settings)


@pytest.fixture
def site() -> Iterator[LanternSite]:
    with lantern_site(pace=Pace(0, 0)) as running:
        yield running


async def test_the_main_job_from_order_to_document(tmp_path: Path, site: LanternSite) -> None:
    # S1-14: POST with a bearer token returns a job id; then status, then the result.
    # S3-08, S3-26
    async with docsnap(tmp_path, site.authority) as app:
        answer = await app.order(site.urls[0], depth=2, max_pages=10)
        assert answer.status_code == 202
        body = answer.json()
        job_id = body["jobId"]
        assert body == {
            "success": True,
            "jobId": job_id,
            "status": "queued",
            "message": body["message"],
            "statusUrl": f"/api/jobs/{job_id}",
            "eventsUrl": f"/api/jobs/{job_id}/events",
        }
        events = (await app.http.get(body["eventsUrl"], headers=app.as_user("ann"))).text
        assert "event: progress" in events
        assert "7 pages, 1,165 words" in events
        assert "event: log" in events
        job = (await app.http.get(body["statusUrl"], headers=app.as_user("ann"))).json()["job"]
        assert (job["status"], job["progress"], job["result"]["pages"]) == ("completed", 100, 7)
        document = await app.http.get(f"/api/documents/{job_id}", headers=app.as_user("ann"))
        assert document.headers["content-type"] == "text/markdown; charset=utf-8"
        assert document.text.startswith("# Getting started\n")
        page = await app.http.get(f"/api/documents/{job_id}?format=html", headers=app.as_user("ann"))
        assert "<h1 " in page.text
        assert "script-src 'self'" in page.headers["content-security-policy"]
        log = (await app.http.get(f"/api/documents/{job_id}/log", headers=app.as_user("ann"))).json()["logs"]
        assert any("Install the server" in line for line in log)


async def test_documents_are_their_owners_alone(tmp_path: Path, site: LanternSite) -> None:
    # S1-06
    async with docsnap(tmp_path, site.authority) as app:
        job_id = await app.finish(site.urls[4], "ann")
        for path in (f"/api/documents/{job_id}", f"/api/documents/{job_id}/log", f"/api/jobs/{job_id}"):
            assert (await app.http.get(path, headers=app.as_user("ann"))).status_code == 200
            assert (await app.http.get(path, headers=app.as_user("bob"))).status_code == 404
            anonymous = await app.http.get(path)
            assert anonymous.status_code == 401
            assert anonymous.json()["success"] is False
        mine = (await app.http.get("/api/documents", headers=app.as_user("ann"))).json()["documents"]
        assert [(one["id"], one["state"], one["report"]["pages"]) for one in mine] == [(job_id, "completed", 6)]
        assert (await app.http.get("/api/documents", headers=app.as_user("bob"))).json()["documents"] == []
        assert (await app.http.get("/api/jobs/stats", headers=app.as_user("ann"))).status_code == 403


async def test_without_a_valid_token_nothing_is_queued(tmp_path: Path) -> None:
    async with docsnap(tmp_path) as app:
        for headers in ({}, {"Authorization": "Bearer nonsense"}):
            answer = await app.http.post("/api/generate-docs", json={"depth": "x"}, headers=headers)
            assert answer.status_code == 401, "who asks is looked at before what is asked"
        assert (await app.http.get("/api/documents", headers=app.as_user("ann"))).json()["documents"] == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "url: Field required"),
        ({"url": "not an address"}, "url"),
        ({"url": "ftp://example.com/"}, "http"),
        ({"url": "https://example.com/", "depth": 99}, "depth"),
        ({"url": "https://example.com/", "max_pages": 0}, "max_pages"),
        ({"url": "https://example.com/", "dept": 1}, "dept: Extra inputs are not permitted"),
        ({"url": "http://user:hunter2@example.com/"}, "without user name and password"),
        ({"url": "http://127.0.0.1:22/"}, "127.0.0.1:22 is a loopback address"),
        ({"url": "http://[::ffff:10.0.0.1]/"}, "a private address"),
        ({"url": "https://169.254.169.254/latest/meta-data/"}, "a link-local address"),
    ],
)
async def test_a_wrong_order_is_refused_with_a_reason(tmp_path: Path, body: dict[str, Any], words: str) -> None:
    async with docsnap(tmp_path) as app:
        answer = await app.http.post("/api/generate-docs", json=body, headers=app.as_user("ann"))
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert words in error["message"]
    assert "hunter2" not in json.dumps(error)


async def test_a_name_that_leads_inside_fails_at_once(tmp_path: Path) -> None:
    async with docsnap(tmp_path) as app:
        job_id = (await app.order("http://localhost:9/")).json()["jobId"]
        await app.http.get(f"/api/jobs/{job_id}/events", headers=app.as_user("ann"))
        job = (await app.http.get(f"/api/jobs/{job_id}", headers=app.as_user("ann"))).json()["job"]
        assert (job["status"], job["attempts"]) == ("failed", 1)
        assert "only public sites are crawled" in job["failedReason"]
        document = await app.http.get(f"/api/documents/{job_id}", headers=app.as_user("ann"))
        assert (document.status_code, document.json()["error"]["code"]) == (404, "no_document")


async def test_a_site_that_stumbles_is_tried_again(tmp_path: Path) -> None:
    # S1-19
    def answer(path: str, site: HandmadeSite) -> bytes:
        if path == "/robots.txt":
            return http(b"", status="404 Not Found")
        first = site.asked.count("/") == 1
        return http(b"busy", status="503 Busy") if first else http(b"<h1>Back</h1><p>The page is back again.</p>")

    async with handmade_site(answer) as web, docsnap(tmp_path, web.authority) as app:
        job_id = await app.finish(web.url())
        job = (await app.http.get(f"/api/jobs/{job_id}", headers=app.as_user("ann"))).json()["job"]
        assert (job["status"], job["attempts"]) == ("completed", 2)


async def test_the_queue_can_be_renamed(tmp_path: Path, site: LanternSite) -> None:
    # S1-08: nothing but the setting names the queue.
    async with docsnap(tmp_path, site.authority, queue="docs-staging") as app:
        job_id = await app.finish(site.urls[4])
        job = (await app.http.get(f"/api/jobs/{job_id}", headers=app.as_user("ann"))).json()["job"]
        assert job["queue"] == "docs-staging"
        assert len((await app.http.get("/api/documents", headers=app.as_user("ann"))).json()["documents"]) == 1


async def test_two_applications_in_one_process_share_nothing(tmp_path: Path, site: LanternSite) -> None:
    async with docsnap(tmp_path / "a", site.authority) as one, docsnap(tmp_path / "b", site.authority) as two:
        job_id = await one.finish(site.urls[4])
        assert (await two.http.get(f"/api/documents/{job_id}", headers=two.as_user("ann"))).status_code == 404
