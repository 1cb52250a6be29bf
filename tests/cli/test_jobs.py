"""`toril jobs` on a store with a job in every state."""

import json
from pathlib import Path

import pytest

from tests.cli.stored import answer, toril, url_of


def test_list_shows_every_job_of_every_queue(url: str) -> None:
    result = toril("jobs", "list", "--url", url)
    assert result.exit_code == 0
    ids = ("w1", "w2", "p1", "d1", "a1", "c1", "f1")
    for word in (*ids, "docs", "generate", "in 2 h", "no such page", "40 % page 4"):
        assert word in result.stdout, word


def test_list_narrows_by_state_and_goes_on_at_a_cursor(url: str) -> None:
    assert [job["id"] for job in answer("jobs", "list", "docs", "-s", "failed", "--url", url)["jobs"]] == ["f1"]
    first = answer("jobs", "list", "docs", "-s", "waiting", "-n", "1", "--oldest", "--url", url)
    assert [job["id"] for job in first["jobs"]] == ["w1"]
    cursor = first["cursors"]["docs"]
    rest = answer("jobs", "list", "docs", "-s", "waiting", "-n", "1", "--oldest", "--cursor", cursor, "--url", url)
    assert [job["id"] for job in rest["jobs"]] == ["w2"]
    assert answer("jobs", "list", "--task", "other", "--url", url)["jobs"] == []


def test_list_of_nothing_says_so(url: str) -> None:
    assert "No jobs in the queue nowhere." in toril("jobs", "list", "nowhere", "--url", url).stdout


def test_show_tells_all_of_one_job(url: str) -> None:
    result = toril("jobs", "show", "f1", "--url", url)
    assert result.exit_code == 0
    for word in (
        "generate",
        "docs",
        "failed",
        "1 of 3",
        "ann",
        "night",
        "https://example.com",
        "ValueError",
        "at line 3",
        "w-1",
    ):
        assert word in result.stdout, word
    assert "last 20 of 30" in result.stdout
    assert "line 29" in result.stdout
    assert "line 9\n" not in result.stdout


def test_show_as_json_has_values_history_and_log(url: str) -> None:
    job = answer("jobs", "show", "c1", "--url", url)
    assert job["arguments"] == {"url": "https://example.com", "depth": 2}
    assert job["result"] == {"pages": 12}
    assert [one["outcome"] for one in job["history"]] == ["done"]
    assert job["finishedAt"].endswith("+00:00")
    assert answer("jobs", "show", "f1", "--logs", "2", "--url", url)["logs"] == ["line 28", "line 29"]
    assert answer("jobs", "show", "f1", "--logs", "0", "--url", url)["logs"] == []


def test_retry_puts_finished_jobs_back_in_line(url: str) -> None:
    result = toril("jobs", "retry", "f1", "c1", "--url", url)
    assert result.exit_code == 0
    assert "back in line" in result.stdout
    assert answer("jobs", "show", "f1", "--url", url)["state"] == "waiting"


def test_retry_of_all_failed_jobs_of_a_queue(url: str) -> None:
    assert answer("jobs", "retry", "--failed", "docs", "--url", url) == {"queue": "docs", "retried": 1}
    assert answer("jobs", "list", "docs", "-s", "failed", "--url", url)["jobs"] == []


def test_what_could_not_be_changed_is_said_and_is_exit_code_1(url: str) -> None:
    result = toril("jobs", "retry", "w1", "f1", "missing", "--url", url)
    assert result.exit_code == 1
    assert "w1  its state does not allow that" in result.stdout
    assert "f1  back in line" in result.stdout
    assert "missing  there is no such job" in result.stdout


def test_promote_puts_a_delayed_job_in_line(url: str) -> None:
    assert toril("jobs", "promote", "d1", "--url", url).exit_code == 0
    assert answer("jobs", "show", "d1", "--url", url)["state"] == "waiting"


def test_remove_deletes_what_does_not_run(url: str) -> None:
    result = toril("jobs", "remove", "w1", "a1", "--url", url)
    assert result.exit_code == 1
    assert "a1  a worker is running it" in result.stdout
    assert toril("jobs", "show", "w1", "--url", url).exit_code == 2


def test_cancel_keeps_who_and_why(url: str) -> None:
    result = toril("jobs", "cancel", "w1", "a1", "c1", "nothing", "--reason", "not needed", "--url", url)
    assert result.exit_code == 1
    assert "w1  cancelled" in result.stdout
    assert "a1  running: its worker has been told" in result.stdout
    assert "c1  has finished already" in result.stdout
    assert "nothing  there is no such job" in result.stdout
    job = answer("jobs", "show", "w1", "--url", url)
    assert job["cancelled"]
    assert job["failedReason"] == "cancelled: not needed"


def test_an_unknown_job_is_one_sentence(url: str) -> None:
    result = toril("jobs", "show", "nope", "--url", url)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "There is no job 'nope' in any queue" in result.stderr


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    missing = tmp_path / "elsewhere.db"
    result = toril("jobs", "list", "--url", url_of(missing))
    assert result.exit_code == 2
    assert f"There is no database {missing}" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_store_in_memory_has_nothing_to_show() -> None:
    result = toril("jobs", "list", "--url", "sqlite://")
    assert result.exit_code == 2
    assert "lives inside its own process" in result.stderr


def test_a_damaged_store_is_one_sentence(path: Path) -> None:
    path.write_bytes(b"this is no database, but it is long enough to look like one" * 100)
    result = toril("jobs", "list", "--url", url_of(path))
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert str(path) in result.stderr


@pytest.mark.parametrize("arguments", [["retry"], ["retry", "f1", "--failed", "docs"], ["list", "--cursor", "x"]])
def test_arguments_that_make_no_sense_together_are_refused(arguments: list[str], url: str) -> None:
    result = toril("jobs", *arguments, "--url", url)
    assert result.exit_code == 2
    assert "xpected" in result.stderr


def test_output_fits_80_columns(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in (["jobs", "list"], ["queues", "list"], ["stats"]):
        lines = toril(*command, "--url", url).stdout.splitlines()
        assert max(len(line) for line in lines if "/" not in line) <= 80, command


def test_json_in_a_pipe_is_one_line(url: str) -> None:
    out = toril("jobs", "list", "--json", "--url", url).stdout
    assert out.count("\n") == 1
    assert json.loads(out)["jobs"]


def test_show_a_running_a_delayed_and_a_cancelled_job(url: str) -> None:
    running = toril("jobs", "show", "a1", "--url", url).stdout
    assert "40 % page 4" in running
    assert "0 of 3 (1 starts)" in running
    delayed = toril("jobs", "show", "d1", "--url", url).stdout
    assert "(in 2 h)" in delayed
    toril("jobs", "cancel", "a1", "p1", "-r", "too late", "--url", url)
    cancelled = toril("jobs", "show", "p1", "--url", url).stdout
    assert "docs  cancelled" in cancelled
    assert ": too late" in cancelled
    assert "priority" in cancelled


def test_a_reason_without_room_stands_below_its_job(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = toril("jobs", "list", "-s", "failed", "--url", url).stdout.splitlines()
    assert lines[-1] == "  ValueError: no such page"
    monkeypatch.setenv("COLUMNS", "120")
    lines = toril("jobs", "list", "-s", "failed", "--url", url).stdout.splitlines()
    assert lines[-1].startswith("f1")
    assert lines[-1].endswith("ValueError: no such page")
