"""The command as a whole: help, version, pipes, and the words it writes."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.cli.stored import spawn, toril, url_of
from toril.cli.moments import ago, jobs, moment, size, took
from toril.cli.screen import clean, plain


def test_help_lists_the_commands_in_the_order_of_need() -> None:
    shown = toril("--help").stdout
    places = [
        shown.index(f"│ {name} ") for name in ("worker", "jobs", "queues", "schedules", "stats", "doctor", "demo")
    ]
    assert places == sorted(places)


def test_version() -> None:
    assert toril("--version").stdout == f"toril {version('toril')}\n"


def test_help_loads_neither_a_web_framework_nor_the_demo() -> None:
    code = "import sys, toril.cli.main; print([m for m in sys.modules if m in ('fastapi', 'starlette', 'docsnap')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_reader_that_has_gone_is_no_traceback(url: str) -> None:
    process = spawn("jobs", "list", "--url", url, environ={})
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.wait(timeout=8)
    process.stderr.close()
    assert err == ""


@pytest.mark.timeout(40)
def test_output_for_people_has_no_colours_in_a_pipe(url: str) -> None:
    for command in (["jobs", "list"], ["jobs", "show", "f1"], ["queues", "list"], ["stats"], ["doctor"]):
        out, _ = spawn(*command, "--url", url, environ={}).communicate(timeout=20)
        assert out
        assert "\x1b" not in out, command


@pytest.mark.parametrize(
    ("at", "shown"),
    [(None, "-"), (100_000, "now"), (95_000, "5 s ago"), (95_400, "5 s ago"), (4_000_000, "in 1 h 5 m")],
)
def test_ago(at: int | None, shown: str) -> None:
    assert ago(at, 100_000) == shown


def test_moments_lengths_sizes_and_numbers_of_jobs() -> None:
    assert moment(None, 0) == "-"
    assert moment(95_000, 100_000).endswith("(5 s ago)")
    assert [took(0, end) for end in (None, 12, 1_500, 90_000)] == ["-", "12 ms", "1.5 s", "1 m 30 s"]
    assert [size(count) for count in (0, 999, 4_200_000, 271_000_000_000)] == ["0 B", "999 B", "4.2 MB", "271 GB"]
    assert [jobs(1), jobs(0), jobs(12_000, "failed")] == ["1 job", "0 jobs", "12,000 failed jobs"]


def test_text_of_others_cannot_steer_the_terminal() -> None:
    assert clean("a\x1b[31mb\nc") == "a\N{REPLACEMENT CHARACTER}[31mb\nc"
    assert plain("[bold]x") == r"\[bold]x"


def test_a_folder_with_a_database_needs_no_option(url: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    assert url == url_of(path)
    assert "f1" in toril("jobs", "list").stdout
