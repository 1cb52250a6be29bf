"""`toril demo`, whole: three processes, five jobs at once, exit codes, and no work lost by kill -9."""

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from docsnap.children import PACKAGE_HOME

# Three processes start from nothing, some twice: most of the time is Python importing, and CI machines are slow.
pytestmark = pytest.mark.timeout(60)

PROGRAM = """
import asyncio, sys
from pathlib import Path
from rich.console import Console
from docsnap.demo import run
from docsnap.lantern.server import Pace
from docsnap.rounds import exclusive

folder, once, pace = Path(sys.argv[1]), sys.argv[2] == "once", float(sys.argv[3])
with exclusive(folder):
    code = run(once=once, port=0, data_dir=folder, console=Console(width=150), pace=Pace(pace, pace))
    raise SystemExit(asyncio.run(code))
"""


async def start(folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    environ = {**os.environ, "PYTHONPATH": str(PACKAGE_HOME)}
    command = (sys.executable, "-c", PROGRAM, str(folder), *arguments)
    return await asyncio.create_subprocess_exec(
        *command, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )


async def finished(demo: asyncio.subprocess.Process) -> tuple[int | None, str]:
    output, _ = await demo.communicate()
    return demo.returncode, output.decode()


async def test_the_demo_does_five_jobs_and_ends_with_zero(tmp_path: Path) -> None:
    # S0-35
    code, output = await finished(await start(tmp_path, "once", "0.01"))
    assert code == 0, output
    assert "First result" in output
    jobs = json.loads((tmp_path / "demo.json").read_text())["jobs"]
    documents = {path.stem for path in (tmp_path / "documents").iterdir()}
    assert len(jobs) == 5
    assert set(jobs.values()) == documents


async def test_a_killed_demo_goes_on_at_the_next_start_and_does_nothing_twice(tmp_path: Path) -> None:
    # S0-03, S0-35
    demo = await start(tmp_path, "stay", "0.3")
    try:
        await asyncio.to_thread(wait_for_jobs, tmp_path / "demo.json")
    finally:
        demo.send_signal(signal.SIGKILL)
        await finished(demo)
    before = json.loads((tmp_path / "demo.json").read_text())["jobs"]
    code, output = await finished(await start(tmp_path, "once", "0.01"))
    assert code == 0, output
    assert "resuming 5 unfinished jobs" in output
    assert json.loads((tmp_path / "demo.json").read_text())["jobs"] == before
    assert {path.stem for path in (tmp_path / "documents").iterdir()} == set(before.values())


async def test_sigterm_ends_the_demo_with_zero(tmp_path: Path) -> None:
    demo = await start(tmp_path, "stay", "0.3")
    try:
        await asyncio.to_thread(wait_for_jobs, tmp_path / "demo.json")
    finally:
        demo.send_signal(signal.SIGTERM)
        code, output = await finished(demo)
    assert code == 0
    assert "What was not finished goes on at the next start" in output


def wait_for_jobs(note: Path) -> None:
    end = time.monotonic() + 30
    while not (note.exists() and note.read_text().count('/": ') == 5):
        assert time.monotonic() < end, "the five jobs were not submitted within 30 s"
        time.sleep(0.05)
