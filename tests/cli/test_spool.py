"""`toril spool` and `toril outbox`: what waits, what was set aside, and what a person decides about it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.outbox.stores import job
from toril.cli.main import app
from toril.engine.ports.spool import Fate
from toril.engine.sqlite.spool import SqliteSpool
from toril.outbox.statements import create_sql

URL = "redis://127.0.0.1:1/0"


def run(*words: str, code: int = 0) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, list(words))
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A spool with one job that waits, and a batch of two that was set aside. Answers the batch's id."""
    monkeypatch.setenv("TORIL_JOBS_SPOOL_URL", f"sqlite:///{tmp_path}/spool.db")

    async def fill() -> str:
        spool = SqliteSpool(tmp_path / "spool.db", target="127.0.0.1:1/0 bull", limit=1_000_000)
        await spool.put("docs", [job("a"), job("b")], batch=None, until=0, now=1_000)
        [batch] = await spool.claim([], now=1_000)
        await spool.set_aside(batch, Fate.UNKNOWN, "nobody knows", now=1_000)
        await spool.put("docs", [job("c")], batch=None, until=0, now=1_000)
        await spool.close()
        return batch.id

    return asyncio.run(fill())


def test_the_spool_is_shown_without_its_store(spool: str) -> None:
    shown = run("spool", "show", "--url", URL)
    for word in ("1 job,", "2 jobs set aside", spool, "docs", "2 (a, …)", "unknown", "nobody knows"):
        assert word in shown, word
    found = json.loads(run("spool", "show", "--url", URL, "--json"))
    assert (found["jobs"], found["set_aside"], found["foreign"]) == (1, 2, 0)
    assert found["batches"][0]["jobs"] == ["a", "b"]
    assert "3 jobs of another store" in run("spool", "show", "--url", "redis://elsewhere")


def test_a_batch_is_sent_again_or_dropped(spool: str) -> None:
    run("spool", "resend", spool, "--url", URL)
    assert json.loads(run("spool", "show", "--url", URL, "--json"))["jobs"] == 3
    assert "No batch" in run("spool", "resend", spool, "--url", URL, code=2)
    assert "No batch" in run("spool", "drop", spool, "--url", URL, code=2)


def test_a_dropped_batch_is_gone(spool: str) -> None:
    run("spool", "drop", spool, "--url", URL)
    found = json.loads(run("spool", "show", "--url", URL, "--json"))
    assert (found["jobs"], found["set_aside"]) == (1, 0)


def test_there_is_none_on_an_embedded_store() -> None:
    assert "There is no spool" in run("spool", "show", "--url", "sqlite://", code=2)


def test_the_outbox_prints_its_table_and_shows_what_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "app.db"
    monkeypatch.setenv("TORIL_OUTBOX_URL", f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(run("outbox", "sql", "--dialect", "sqlite"))
        connection.execute(
            "INSERT INTO toril_outbox (job_id, queue, job, created, batch, fate, reason, lease) "
            "VALUES ('a', 'docs', '[]', 1000, 'o1', 'refused', 'not like this', 1000)"
        )
        connection.commit()
    assert run("outbox", "sql", "--table", "app.out") == create_sql("postgresql", "app.out")
    assert "oracle" in run("outbox", "sql", "--dialect", "oracle", code=2)
    shown = run("outbox", "show")
    for word in ("no job", "1 job set aside", "o1", "refused", "not like this"):
        assert word in shown.replace("0 jobs", "no job"), word
    assert json.loads(run("outbox", "show", "--json"))["batches"][0]["jobs"] == ["a"]
    looked = json.loads(run("doctor", "--url", f"sqlite:///{tmp_path}/toril.db", "--json"))
    [checked] = [one for one in looked["checks"] if one["name"] == "outbox"]
    assert (checked["level"], "1 job set aside" in checked["found"]) == ("warn", True)
    run("outbox", "drop", "o1")
    assert "No batch" in run("outbox", "resend", "o1", code=2)
    monkeypatch.delenv("TORIL_OUTBOX_URL")
    assert "has no database" in run("outbox", "show", code=2)
