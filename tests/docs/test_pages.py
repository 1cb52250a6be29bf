"""The documentation is true: its programs run, its commands exist, its generated pages are those of the code."""

import ast
import importlib.util
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from tests.docs.pages import DOCS, PAGES, Part, commands, parts
from tests.layout.sources import ROOT, shown
from toril.cli.main import app

PROGRAM = """
import ast, asyncio, inspect, json, sys, types

async def run(blocks):
    page = sys.modules["page"] = types.ModuleType("page")
    for name, text in blocks:
        result = eval(compile(text, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), page.__dict__)
        if inspect.iscoroutine(result):
            await result

asyncio.run(run(json.loads(sys.argv[1])))
"""
# Shown in a page, and not part of the packages that tests install.
FRAMEWORKS = {"django", "flask"}


def program(path: Path) -> list[Part]:
    """The blocks of a page that run; README's second and third example are fragments and are only read."""
    found = [part for part in parts(path) if part.kind in {"python", "run"} and not part.title]
    return found[:1] if path.name == "README.md" else found


def imported(text: str) -> set[str]:
    nodes = list(ast.walk(ast.parse(text)))
    plain = {alias.name.partition(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {(node.module or "").partition(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}


def missing(text: str) -> set[str]:
    return {name for name in imported(text) & FRAMEWORKS if importlib.util.find_spec(name) is None}


def write_files(path: Path, folder: Path) -> None:
    for part in parts(path):
        if part.title and not part.title.startswith("examples/"):
            (folder / part.title).write_text(part.text, encoding="utf-8")


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("TORIL_", "REDIS_"))}
    return subprocess.run(
        command,
        cwd=folder,
        env={**environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=80,
    )


def shown_pages(*kinds: str) -> list[Any]:
    return [pytest.param(path, id=shown(path)) for path in PAGES if any(part.kind in kinds for part in parts(path))]


@pytest.mark.timeout(90)
@pytest.mark.parametrize("path", shown_pages("python", "run"))
def test_the_programs_of_a_page_run(path: Path, tmp_path: Path) -> None:
    # S1-26, A13
    write_files(path, tmp_path)
    # Empty lines before it, so that an error names the line of the page.
    blocks = [(shown(path), "\n" * part.line + part.text) for part in program(path) if not missing(part.text)]
    if path.name == "README.md":
        (tmp_path / "ten_lines.py").write_text(blocks[0][1], encoding="utf-8")
        ran = run([sys.executable, "-W", "error", "ten_lines.py"], tmp_path)
        assert (ran.returncode, ran.stdout) == (0, "Hello, Toril!\n"), ran.stderr  # S2-35, S3-39, A09
        return
    ran = run([sys.executable, "-W", "error", "-c", PROGRAM, json.dumps(blocks)], tmp_path)
    assert ran.returncode == 0, ran.stderr


def test_every_piece_of_python_can_be_read() -> None:
    for path in PAGES:
        for part in parts(path):
            if part.kind in {"python", "run"}:
                text = "\n" * part.line + part.text
                compile(text, shown(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


@pytest.mark.timeout(90)
@pytest.mark.parametrize("path", shown_pages("console"))
def test_the_commands_of_a_page_are_as_shown(path: Path, tmp_path: Path) -> None:
    write_files(path, tmp_path)
    for command in commands(path):
        words = shlex.split(command.line, comments=True)
        for start in [0, *(index + 1 for index, word in enumerate(words) if word in {"&&", "|"})]:
            check_toril(words[start:])
        if words[0] == "python" and words[1].endswith(".py"):
            ran = run([sys.executable, "-W", "error", *words[1:]], tmp_path)
            assert ran.returncode == 0, ran.stderr
            assert ran.stdout.splitlines() == command.prints


def check_toril(words: list[str]) -> None:
    """Raise unless `toril …` names a command with options that it has."""
    while words and "=" in words[0]:
        words = words[1:]
    if not words or words[0] != "toril":
        return
    end = next((index for index, word in enumerate(words) if word in {"&&", "|", "&", ">"}), len(words))
    command: Any = get_command(app)
    rest = words[1:end]
    while getattr(command, "commands", None) and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"toril has no command {rest[0]!r}: {' '.join(words)}"
        command, rest = command.commands[rest[0]], rest[1:]
    if rest != ["--help"] and rest != ["--version"]:
        # Not resilient: an unknown option or a missing argument raises.
        command.make_context(command.name, list(rest))


def test_a_wrong_command_is_found() -> None:
    for wrong in ("toril jobs retry --all-failed", "toril worek app:toril", "toril queues pause"):
        with pytest.raises(BaseException, match=r"(?i)no such option|no command|missing"):
            check_toril(shlex.split(wrong))


def reference_pages() -> Any:
    spec = importlib.util.spec_from_file_location("reference_pages", ROOT / "scripts" / "reference_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_those_of_the_code() -> None:
    written = reference_pages().pages()
    stale = [name for name, text in written.items() if (DOCS / name).read_text(encoding="utf-8") != text]
    assert stale == [], "run: python scripts/reference_pages.py"


def test_no_figure_is_shown_without_its_result() -> None:
    writer = reference_pages()
    page = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    assert page == writer.benchmarks(writer.shown_result())
    assert (writer.RESULTS / writer.shown_result()).with_suffix(".json").is_file(), "the samples belong to the table"


def test_examples_in_pages_are_those_on_disk() -> None:
    wrong = [
        f"{shown(path)}: {part.title}"
        for path in PAGES
        for part in parts(path)
        if part.title.startswith("examples/") and part.text not in (ROOT / part.title).read_text(encoding="utf-8")
    ]
    assert wrong == []


def test_the_pages_that_were_asked_for_are_there() -> None:
    # S1-26
    wanted = ("reference/http.md", "how-to/deploy.md", "how-to/monitor.md", "how-to/troubleshoot.md")
    assert [name for name in wanted if len((DOCS / name).read_text(encoding="utf-8")) < 1_000] == []
