"""The parts around the job: settings, what the demo remembers, its children, what the browser may do."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import httpx
import jwt
import pytest
from fastapi import FastAPI

from docsnap.board import Row
from docsnap.browser import DEMO_OWNER, SecurityHeaders, browser_routes
from docsnap.children import PACKAGE_HOME, Child, ChildFailed
from docsnap.rounds import FolderBusy, Round, RoundFile, exclusive, plan_round
from docsnap.settings import Settings, SettingsError, load_settings

SECRET = "a secret of at least thirty-two characters"


def test_the_queue_name_comes_from_the_environment() -> None:
    # S1-08
    assert load_settings({}).queue == "docs"
    assert load_settings({"DOCSNAP_QUEUE": "docs-staging"}).queue == "docs-staging"


def test_allowed_hosts_have_one_spelling() -> None:
    settings = load_settings({"DOCSNAP_ALLOW": " 127.0.0.1:8080, [::1]:81 ,Intranet.Example.:443"})
    assert settings.allow_private == {"127.0.0.1:8080", "::1:81", "intranet.example:443"}


@pytest.mark.parametrize("value", ["127.0.0.1", "localhost:", ":80", "host:0", "host:99999", "host:http"])
def test_a_wrong_allowed_host_names_the_variable(value: str) -> None:
    with pytest.raises(SettingsError, match="DOCSNAP_ALLOW: expected host:port pairs"):
        load_settings({"DOCSNAP_ALLOW": value})


def test_a_short_secret_is_refused_and_a_missing_one_is_random() -> None:
    with pytest.raises(SettingsError, match="DOCSNAP_SECRET: expected at least 32 characters, got 5"):
        load_settings({"DOCSNAP_SECRET": "short"})
    assert load_settings({}).secret != load_settings({}).secret


def browser(settings: Settings, client: str = "127.0.0.1") -> httpx.AsyncClient:
    app = FastAPI()
    app.add_middleware(SecurityHeaders)
    app.include_router(browser_routes(settings))
    transport = httpx.ASGITransport(app, client=(client, 50000))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000")


async def test_the_page_and_its_files_forbid_inline_script() -> None:
    async with browser(Settings(secret=SECRET)) as http:
        for path in ("/", "/documents/j1", "/static/main.js", "/static/api.js", "/static/jobs.js", "/static/style.css"):
            answer = await http.get(path)
            assert answer.status_code == 200
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
        page = (await http.get("/")).text
        assert "<script>" not in page
        assert " style=" not in page
        assert " on" not in "".join(part for part in page.split("<") if part.startswith("button"))
        assert (await http.get("/static/../settings.py")).status_code == 404
        assert (await http.get("/static/nothing.js")).status_code == 404


async def test_the_demo_token_is_for_the_demo_owner() -> None:
    settings = Settings(secret=SECRET, demo=True, allow_private=frozenset({"127.0.0.1:7000"}))
    async with browser(settings) as http:
        body = (await http.post("/demo/token")).json()
    assert jwt.decode(body["token"], SECRET, algorithms=["HS256"])["sub"] == DEMO_OWNER
    assert body["sites"][0] == {"title": "Getting started", "url": "http://127.0.0.1:7000/start/"}
    assert len(body["sites"]) == 5


async def test_no_token_outside_the_demo_or_this_machine() -> None:
    async with browser(Settings(secret=SECRET)) as http:
        assert (await http.post("/demo/token")).status_code == 404
    async with browser(Settings(secret=SECRET, demo=True), client="203.0.113.9") as http:
        assert (await http.post("/demo/token")).status_code == 403
    async with browser(Settings(secret=SECRET, demo=True)) as http:
        assert (await http.post("/demo/token", headers={"Host": "rebound.example"})).status_code == 403
        assert (await http.post("/demo/token", headers={"Sec-Fetch-Site": "cross-site"})).status_code == 403


def test_a_round_is_remembered_and_a_broken_note_starts_afresh(tmp_path: Path) -> None:
    file = RoundFile(tmp_path)
    current = Round(site_port=7000, jobs={"http://127.0.0.1:7000/faq/": "j1"})
    file.save(current)
    assert file.load() == current
    assert (tmp_path / "demo.json").stat().st_mode & 0o077 == 0
    (tmp_path / "demo.json").write_text("{broken")
    assert file.load().jobs == {}


URLS = [f"http://127.0.0.1:7000/{book}/" for book in ("a", "b", "c", "d", "e")]


def row(number: int, state: str, id: str = "") -> Row:
    return Row(id or f"j{number}", URLS[number], state, 0.0, "")


@pytest.mark.parametrize(
    ("noted", "rows", "kept", "unfinished"),
    [
        ([], [], [], 0),
        ([0, 1, 2, 3, 4], [row(n, "completed") for n in range(5)], [], 0),
        ([0, 1, 2, 3, 4], [row(n, "failed" if n else "completed") for n in range(5)], [], 0),
        ([0, 1, 2, 3, 4], [row(n, "active" if n > 2 else "completed") for n in range(5)], [0, 1, 2, 3, 4], 2),
        ([0, 1], [row(n, "completed") for n in range(2)], [0, 1], 0),
        ([0, 1], [row(n, "waiting") for n in range(3)], [0, 1, 2], 3),
        ([0, 1, 2, 3, 4], [row(0, "delayed")], [0], 1),
        ([], [row(0, "completed", "old")], [], 0),
    ],
    ids=[
        "first start",
        "all done, so a new round",
        "all finished, some badly, so a new round",
        "two unfinished",
        "killed while submitting, what was submitted is done",
        "killed between submitting and noting",
        "finished ones were pruned meanwhile",
        "a job of an older round",
    ],
)
def test_an_interrupted_round_goes_on_and_nothing_is_submitted_twice(
    noted: list[int], rows: list[Row], kept: list[int], unfinished: int
) -> None:
    plan = plan_round({URLS[n]: f"j{n}" for n in noted}, rows, URLS)
    assert plan.kept == {URLS[n]: f"j{n}" for n in kept}
    assert plan.missing == [url for n, url in enumerate(URLS) if n not in kept]
    assert plan.unfinished == unfinished


def test_one_folder_has_one_demo(tmp_path: Path) -> None:
    with exclusive(tmp_path), pytest.raises(FolderBusy, match="another demo runs in"), exclusive(tmp_path):
        pytest.fail("two demos got into one folder")
    with exclusive(tmp_path):
        assert (tmp_path / "demo.lock").exists()


async def test_a_child_that_ends_by_itself_is_reported_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise SystemExit('no such luck')")
    child = await Child.start("broken", ["broken"], {**os.environ, "PYTHONPATH": str(tmp_path)}, tmp_path)
    try:
        child.check()
    finally:
        code = await child.wait()
    assert code == 1
    with pytest.raises(ChildFailed, match=r"(?s)the broken process ended with code 1.*no such luck"):
        child.check()


PARENT = """
import asyncio, os, pathlib
from docsnap.children import Child

async def main():
    here = pathlib.Path({folder!r})
    child = await Child.start("sleeper", ["sleeper"], dict(os.environ, PYTHONPATH={folder!r}), here)
    (here / "pid").write_text(str(child.pid))
    await asyncio.Event().wait()

asyncio.run(main())
"""

SLEEPER = """
import pathlib, signal, threading
here = pathlib.Path({folder!r})
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
(here / "up").touch()
while not ended.wait(0.02):
    pass
(here / "clean").touch()
"""


async def test_children_end_in_order_when_their_parent_is_killed(tmp_path: Path) -> None:
    # S0-03: kill -9 of the demo leaves no process behind that works against the next one.
    (tmp_path / "sleeper.py").write_text(SLEEPER.format(folder=str(tmp_path)))
    program = PARENT.format(folder=str(tmp_path))
    environ = {**os.environ, "PYTHONPATH": str(PACKAGE_HOME)}
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, env=environ)
    try:
        await appears(tmp_path / "up")
    finally:
        parent.send_signal(signal.SIGKILL)
        await parent.wait()
    await appears(tmp_path / "clean")


async def appears(path: Path) -> None:
    await asyncio.to_thread(wait_for_file, path, 5.0)


def wait_for_file(path: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} did not appear within {seconds} s"
        time.sleep(0.02)
