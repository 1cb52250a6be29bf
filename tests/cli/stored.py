"""A store with a job in every state, and the `toril` command on it."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from toril.cli.main import app
from toril.engine.ports.jobs import Finish, LogLine, Progress
from toril.engine.protocol import Engine
from toril.engine.sqlite.engine import SqliteEngine
from toril.jobs.model import NewJob
from toril.jobs.options import JobOptions, encode
from toril.jobs.outcome import Done, Failed
from toril.kernel.clock import SystemClock
from toril.kernel.ids import JobIds

HOUR_MS = 3_600_000
ROOT = Path(__file__).resolve().parents[2]


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def toril(*arguments: str, typed: str | None = None) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, list(arguments), input=typed)


def answer(*arguments: str) -> Any:
    """Run the command with --json and read what it prints."""
    result = toril(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def spawn(*arguments: str, environ: dict[str, str], cwd: Path = ROOT) -> subprocess.Popen[str]:
    """Start the real command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "toril", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT))), **environ},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def fill(path: Path) -> None:
    """Queue `docs`: waiting `w1 w2`, prioritized `p1`, delayed `d1`, active `a1`, completed `c1`, failed `f1`."""
    asyncio.run(_with(path, _fill))


def add(path: Path, queue: str, name: str, *, delay_ms: int = 0, age_ms: int = 0, **arguments: object) -> str:
    """Add one job, as if that long ago, and answer its id."""
    now = SystemClock().now_ms() - age_ms
    job = NewJob(JobIds().new(), name, json.dumps(arguments), encode(JobOptions()), now, delay_ms)

    async def work(engine: Engine) -> None:
        await engine.jobs.add(queue, [job], batch=job.id, now=now)

    asyncio.run(_with(path, work))
    return job.id


async def _with(path: Path, work: Any) -> None:
    engine = SqliteEngine(path)
    await engine.start()
    try:
        await work(engine)
    finally:
        await engine.close()


async def _fill(engine: Engine) -> None:
    now = SystemClock().now_ms() - 2 * HOUR_MS
    await _add(engine, ["c1", "f1", "a1"], now, JobOptions(owner="ann", tags=("night",)))
    taken = await engine.jobs.exchange(
        "docs", worker="w-1", seq=1, token="w-1:1", finished=(), want=3, lock_ms=24 * HOUR_MS, now=now
    )
    assert [job.id for job in taken.jobs] == ["c1", "f1", "a1"]
    lines = [LogLine("f1", "w-1:1", f"line {number}", now) for number in range(30)]
    await engine.jobs.report("docs", [Progress("a1", "w-1:1", '{"progress": 40, "message": "page 4"}', now)], lines)
    done = Finish("c1", "w-1:1", Done('{"pages": 12}'), now, now + 1500)
    broken = Finish(
        "f1", "w-1:1", Failed("ValueError: no such page", "ValueError: no such page\n  at line 3"), now, now + 20
    )
    await engine.jobs.exchange(
        "docs", worker="w-1", seq=2, token="w-1:2", finished=(done, broken), want=0, lock_ms=15_000, now=now + 2000
    )
    await _add(engine, ["w1", "w2"], now, JobOptions())
    await _add(engine, ["p1"], now, JobOptions(priority=5))
    await _add(engine, ["d1"], now, JobOptions(delay="4h 30s"))


async def _add(engine: Engine, ids: Sequence[str], now: int, options: JobOptions) -> None:
    delay = options.delay_ms(now)
    opts = encode(options, delay_ms=delay)
    jobs = [
        NewJob(one, "generate", '{"url": "https://example.com", "depth": 2}', opts, now, delay, options.priority)
        for one in ids
    ]
    await engine.jobs.add("docs", jobs, batch=f"batch-{ids[0]}", now=now)
