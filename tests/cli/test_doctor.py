"""`toril doctor` finds what is wrong and says what to do."""

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.cli.stored import add, toril, url_of
from tests.cli.test_stats import announce
from toril.cli import checks
from toril.cli.checks import Level


def diagnose(url: str, exit_code: int = 0) -> dict[str, Any]:
    """The checks by name, as (level, found, todo)."""
    result = toril("doctor", "--json", "--url", url)
    assert result.exit_code == exit_code, result.output
    report = json.loads(result.stdout)
    assert report["ok"] is (exit_code == 0)
    return {one["name"]: one for one in report["checks"]}


def test_a_healthy_store_passes(url: str, path: Path) -> None:
    # S3-51
    announce(path, running=["a1"])
    found = diagnose(url)
    assert {name: one["level"] for name, one in found.items()} == {
        "configuration": "pass",
        "folder": "pass",
        "disk space": "pass",
        "store": "pass",
        "file system": "pass",
        "files": "pass",
        "integrity": "pass",
        "clock": "pass",
        "worker": "pass",
        "queue docs": "pass",
        "channels": "pass",
        "cache": "pass",
        "rate limits": "pass",
        "idempotency": "pass",
        "breakers": "pass",
    }
    assert url in found["configuration"]["found"]
    assert "--url" in found["configuration"]["found"]
    assert "journal mode wal" in found["store"]["found"]
    assert "runs a1" in found["worker"]["found"]


def test_people_get_a_line_per_check(url: str, path: Path) -> None:
    announce(path, running=["a1"])
    shown = toril("doctor", "--url", url).stdout
    assert "pass  integrity: quick check found no damage" in shown
    assert shown.rstrip().endswith("15 pass, 0 warn, 0 fail")


def test_the_variable_that_decided_is_named(url: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # S3-51
    monkeypatch.setenv("TORIL_URL", url)
    checks_by_name = {one["name"]: one for one in json.loads(toril("doctor", "--json").stdout)["checks"]}
    assert "decided by: TORIL_URL" in checks_by_name["configuration"]["found"]
    monkeypatch.setenv("TORIL_WORKER_CONCURENCY", "3")
    assert "did you mean TORIL_WORKER_CONCURRENCY" in toril("doctor").stdout


def test_nobody_takes_the_jobs(url: str) -> None:
    # S3-51
    found = diagnose(url)
    assert found["workers"]["level"] == "warn"
    assert "toril worker" in found["workers"]["todo"]
    # Its lock has run out two hours ago, and no live worker has it.
    assert found["queue docs"]["level"] == "warn"
    assert "1 active without a live worker" in found["queue docs"]["found"]


def test_a_late_heartbeat_is_told(url: str, path: Path) -> None:
    # S3-51
    announce(path, running=["a1"], beat_ago_ms=12_000)
    assert diagnose(url)["worker"]["level"] == "warn"


def test_a_clock_behind_the_store_is_told(url: str, path: Path) -> None:
    announce(path, running=["a1"], beat_ago_ms=-3_600_000)
    found = diagnose(url)["clock"]
    assert found["level"] == "warn"
    assert "1 h" in found["found"] or "59 m" in found["found"]


def test_a_paused_queue_with_jobs_in_line_is_told(url: str, path: Path) -> None:
    announce(path, running=["a1"])
    toril("queues", "pause", "docs", "--url", url)
    found = diagnose(url)["queue docs"]
    assert found["level"] == "warn"
    assert found["todo"] == "toril queues resume docs"


def test_a_database_that_is_not_there_yet_is_not_made(path: Path) -> None:
    assert diagnose(url_of(path))["database"]["level"] == "warn"
    assert not path.exists()


def test_a_missing_folder_fails(tmp_path: Path) -> None:
    found = diagnose(url_of(tmp_path / "none" / "toril.db"), exit_code=1)
    assert found["folder"]["level"] == "fail"
    assert "mkdir -p" in found["folder"]["todo"]


def test_a_foreign_database_fails(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE theirs (id INTEGER)")
    database.close()
    found = diagnose(url_of(path), exit_code=1)
    assert found["store"]["level"] == "fail"
    assert "another program's database" in found["store"]["found"]


def test_damage_inside_fails(url: str, path: Path) -> None:
    announce(path, running=[])
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [root] = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'jobs_place'").fetchone()
        [size] = database.execute("PRAGMA page_size").fetchone()
    database.close()
    with path.open("r+b") as file:
        file.seek((root - 1) * size + size - 64)
        file.write(os.urandom(64))
    found = diagnose(url, exit_code=1)
    failed = [one for one in found.values() if one["level"] == "fail"]
    assert failed
    assert all(one["todo"] for one in failed)


def test_a_wrong_url_fails_in_one_sentence() -> None:
    found = diagnose("redis://user:hidden@localhost/zero", exit_code=1)
    assert found["configuration"]["level"] == "fail"
    assert "hidden" not in str(found)


@pytest.mark.parametrize(
    ("free", "level"), [(40_000_000, Level.FAIL), (500_000_000, Level.WARN), (50_000_000_000, Level.PASS)]
)
def test_little_space_is_told(free: int, level: Level, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = (100_000_000_000, 100_000_000_000 - free, free)
    monkeypatch.setattr("toril.cli.checks.shutil.disk_usage", lambda _: _Usage(*usage))
    assert checks.space(tmp_path).level is level


class _Usage:
    def __init__(self, total: int, used: int, free: int) -> None:
        self.total, self.used, self.free = total, used, free


def test_a_log_that_grows_is_told(path: Path) -> None:
    path.write_bytes(b"")
    assert checks.files(path).level is Level.PASS
    with Path(f"{path}-wal").open("wb") as file:
        file.truncate(300 * 1024 * 1024)
    assert checks.files(path).level is Level.WARN


def test_a_queue_that_nobody_serves_is_told(url: str, path: Path) -> None:
    # S3-51
    announce(path, running=["a1"], queues=["other"])
    found = diagnose(url)["queue docs"]
    assert found["level"] == "warn"
    assert found["todo"] == "start one: toril worker app:toril --queues docs"


def test_delayed_jobs_that_are_late_are_told(path: Path) -> None:
    add(path, "docs", "generate", delay_ms=1, age_ms=3_600_000)
    announce(path, running=[])
    found = diagnose(url_of(path))["queue docs"]
    assert found["level"] == "warn"
    assert "the next delayed job is" in found["found"]


@pytest.mark.parametrize(
    ("secret", "secure", "level"), [("x" * 40, "true", "pass"), ("x" * 40, "false", "warn"), ("short", "true", "fail")]
)
def test_sessions_are_looked_at_when_there_is_a_secret(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch, secret: str, secure: str, level: str
) -> None:
    # S3-34
    announce(path, running=["a1"])
    assert "sessions" not in diagnose(url)
    monkeypatch.setenv("TORIL_SESSIONS_SECRET", secret)
    monkeypatch.setenv("TORIL_SESSIONS_SECURE", secure)
    found = diagnose(url, exit_code=int(level == "fail"))["sessions"]
    assert found["level"] == level
    assert secret not in found["found"]
