"""What our own pages promise is kept: sizes, names of tests, and no address of a workplace in any text."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.layout.sources import ROOT, functions, python_files, shown, tree, walk
from toril.jobs.states import render

INTERNALS = ROOT / "docs" / "internals.md"
REQUIREMENTS = ROOT / "docs" / "requirements.md"

NAMED_TEST = re.compile(r"(?P<file>(?:tests|src/toril/testing)/[\w./-]+\.py)(?P<names>(?:::\w+)*)(?P<open>::|\[)?")
TEXT = {
    "",
    ".cfg",
    ".css",
    ".html",
    ".ini",
    ".js",
    ".json",
    ".md",
    ".py",
    ".sh",
    ".sql",
    ".toml",
    ".txt",
    ".yaml",
    ".yml",
}
# Spelled in halves, so that this file does not name them.
ADDRESSES = [
    "".join(halves)
    for halves in (
        ("pypi", ".org"),
        ("pythonhosted", ".org"),
        ("registry.npmjs", ".org"),
        ("deb.debian", ".org"),
        ("crates", ".io"),
        ("/work/", "shared"),
        ("/work/", "main"),
    )
]


@cache
def defined(path: Path) -> frozenset[str]:
    """Return the names of all classes and functions of a file."""
    classes = (node.name for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef))
    return frozenset((*classes, *(node.name for node in functions(path))))


@cache
def inheritable() -> frozenset[str]:
    """Return the names that a test class gets from the conformance suite."""
    return frozenset(name for path in python_files("src/toril/testing/conformance") for name in defined(path))


def unresolved(text: str) -> list[str]:
    """Return the tests that `text` names and that do not exist."""
    missing = []
    for match in NAMED_TEST.finditer(text):
        path = ROOT / match["file"]
        names = [name for name in match["names"].split("::") if name]
        inherits = len(names) > 1 and path.is_file() and names[0] in defined(path)
        if (
            not path.is_file()
            or match["open"] == "::"
            or not set(names) <= (defined(path) | inheritable() if inherits else defined(path))
        ):
            missing.append(match[0])
    return missing


def test_internals_fits_on_100_lines() -> None:
    assert len(INTERNALS.read_text(encoding="utf-8").splitlines()) <= 100


def test_the_states_page_shows_the_table_of_transitions() -> None:
    page = (ROOT / "docs" / "states.md").read_text(encoding="utf-8")
    table = page[page.index("| from |") :].rstrip()
    assert table == render(), "docs/states.md differs from jobs/states.py: paste what `states.render()` prints"


def test_requirements_name_only_tests_that_exist() -> None:
    text = REQUIREMENTS.read_text(encoding="utf-8")
    assert NAMED_TEST.search(text), "docs/requirements.md names no test as tests/file.py::test_name"
    assert unresolved(text) == []


@pytest.mark.parametrize(
    ("named", "resolves"),
    [
        ("tests/layout/test_documents.py::test_internals_fits_on_100_lines", True),
        ("tests/layout/test_documents.py", True),
        ("tests/layout/test_documents.py::test_internals_fits", False),
        ("tests/layout/test_nowhere.py::test_internals_fits_on_100_lines", False),
    ],
)
def test_a_named_test_is_resolved(named: str, resolves: bool) -> None:
    assert (unresolved(f"| S0-01 | `{named}` |") == []) is resolves


def test_no_text_names_a_registry_or_a_workplace() -> None:
    found = [
        f"{shown(path)}: {address}"
        for path in walk(ROOT)
        if path.suffix in TEXT and path.stat().st_size < 2_000_000
        for text in [path.read_text(encoding="utf-8", errors="replace")]
        for address in ADDRESSES
        if address in text
    ]
    assert found == []
