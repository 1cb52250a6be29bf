"""The tests that docs/requirements.md names say themselves which rows they prove."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.docs.pages import DOCS
from tests.layout.sources import ROOT, python_files, tree

PAGE = DOCS / "requirements.md"
ROW = re.compile(r"^\| (?P<id>[AS]\d+(?:-\d+)?) \| (?P<asked>[^|]+) \| (?P<tests>[^|]+) \|", re.MULTILINE)
TEST = re.compile(r"`(?P<file>tests/[\w/]+\.py)::(?P<names>[\w:]+)`")

Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def rows() -> Iterator[tuple[str, list[tuple[Path, str]]]]:
    for row in ROW.finditer(PAGE.read_text(encoding="utf-8")):
        yield row["id"], [(ROOT / test["file"], test["names"]) for test in TEST.finditer(row["tests"])]


def with_what_stands_above(path: Path, name: str) -> str | None:
    """A test's own text and the two lines above it, where its ids may stand too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, Named) and node.name == name:
            first = min(node.lineno, *(one.lineno for one in node.decorator_list), node.lineno)
            lines = path.read_text(encoding="utf-8").splitlines()
            return "\n".join(lines[max(0, first - 3) : node.end_lineno])
    return None


@cache
def text_of(path: Path, names: str) -> str:
    *_, name = names.split("::")
    found = with_what_stands_above(path, name)
    if found is None:
        # A case that a class inherits from the conformance suite.
        cases = (with_what_stands_above(one, name) for one in python_files("src/toril/testing/conformance"))
        found = next((case for case in cases if case is not None), "")
    return found


def test_each_row_is_named_by_its_tests() -> None:
    silent = [
        f"{id}: {path.name}::{names}"
        for id, tests in rows()
        for path, names in tests
        if not re.search(rf"\b{id}\b", text_of(path, names))
    ]
    assert silent == []


def test_each_row_has_a_test_and_stands_once() -> None:
    found = [(id, len(tests)) for id, tests in rows()]
    assert [id for id, tests in found if not tests] == []
    assert len(dict(found)) == len(found) >= 89


def test_what_is_open_is_not_among_what_is_met() -> None:
    met = {id for id, _ in rows()}
    _, _, below = PAGE.read_text(encoding="utf-8").partition("## Open")
    assert set(re.findall(r"\b[AS]\d+(?:-\d+)?\b", below)) & met == set()
