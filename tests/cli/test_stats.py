"""`toril stats`: how many jobs are where, and who works on them."""

import asyncio
import json
import signal
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest

from tests.cli.stored import answer, spawn, toril, url_of
from toril.engine.sqlite.engine import SqliteEngine
from toril.kernel.clock import SystemClock


async def _announce(path: Path, *entries: tuple[str, bytes]) -> None:
    engine = SqliteEngine(path)
    await engine.start()
    await engine.keyvalue.set(entries, ttl_ms=60_000, now=SystemClock().now_ms())
    await engine.close()


def announce(path: Path, *, running: list[str], beat_ago_ms: int = 1_000, queues: Sequence[str] = ("docs",)) -> None:
    """Write the entry of a worker `w-1`."""
    now = SystemClock().now_ms()
    entry = {
        "id": "w-1",
        "host": "box",
        "pid": 4242,
        "queues": list(queues),
        "concurrency": 5,
        "running": running,
        # Half a minute short of the next: a test may take a while.
        "started": now - 5_430_000,
        "beat": now - beat_ago_ms,
    }
    broken = [("worker:odd", b"[1]"), ("worker:none", b"{}")]
    asyncio.run(_announce(path, ("worker:w-1", json.dumps(entry).encode()), *broken))


def test_json_has_the_shape_of_the_stats_route(url: str) -> None:  # S0-15, S0-16
    stats = answer("stats", "--url", url)
    assert stats["success"] is True
    assert stats["mode"] == "sqlite"
    assert stats["stats"] == {"waiting": 3, "active": 1, "completed": 1, "failed": 1, "delayed": 1, "total": 7}
    assert stats["stats"]["total"] == sum(count for name, count in stats["stats"].items() if name != "total")
    assert datetime.fromisoformat(stats["timestamp"]).tzinfo is not None
    assert [queue["name"] for queue in stats["queues"]] == ["docs"]
    assert stats["workers"] == []


def test_people_see_totals_queues_and_that_nobody_works(url: str) -> None:
    # S1-18
    shown = toril("stats", "--url", url).stdout
    for word in ("7 jobs", "3 waiting", "1 failed", "docs", "No worker is running"):
        assert word in shown, word


def test_live_workers_are_shown_and_odd_entries_are_not(url: str, path: Path) -> None:
    # S4-20
    announce(path, running=["a1"])
    [worker] = answer("stats", "--url", url)["workers"]
    assert (worker["id"], worker["pid"], worker["running"]) == ("w-1", 4242, ["a1"])
    shown = toril("stats", "--url", url).stdout
    for word in ("w-1", "4242", "1/5", "1 h 30 m ago"):
        assert word in shown, word


def test_an_empty_store_has_zeros(path: Path) -> None:
    asyncio.run(_announce(path, ("other", b"")))
    assert answer("stats", "--url", url_of(path))["stats"]["total"] == 0
    assert "No queues yet." in toril("stats", "--url", url_of(path)).stdout


@pytest.mark.parametrize(("options", "shown"), [((), "7 jobs"), (("--json",), '"total": 7')])
def test_watch_goes_on_until_it_is_interrupted(options: Sequence[str], shown: str, url: str) -> None:
    process = spawn("stats", "--watch", "--every", "0.1", "--url", url, *options, environ={})
    assert process.stdout is not None
    try:
        seen = ""
        while seen.count(shown) < 2:
            line = process.stdout.readline()
            assert line, seen
            seen += line
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, err
    assert err == ""
