"""Tests do not sleep to let time pass: clocks are injected, and what happens is awaited.

`sleep_allowed.txt` names the files that must wait for a real process or thread, each with its reason.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.layout.sources import ROOT, listed, python_files, shown, tree

ALLOWED = Path(__file__).with_name("sleep_allowed.txt")
MODULES = {"anyio", "asyncio", "time", "trio"}


def sleeps(module: ast.Module) -> Iterator[int]:
    """Yield the line of everything that waits, called or handed on; `asyncio.sleep(0)` only lets others run."""
    imported = {
        alias.asname or alias.name
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and node.module in MODULES
        for alias in node.names
        if alias.name == "sleep"
    }
    harmless = {
        id(node.func)
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and [ast.dump(argument) for argument in node.args] == [ast.dump(ast.Constant(0))]
    }
    for node in ast.walk(module):
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr="sleep") if owner in MODULES and id(node) not in harmless:
                yield node.lineno
            case ast.Name(id=name) if name in imported and id(node) not in harmless:
                yield node.lineno


def test_no_test_sleeps_outside_the_list() -> None:
    allowed = set(listed(ALLOWED))
    sleeping = [
        shown(path, line)
        for path in (*python_files("tests"), *python_files("src/toril/testing"))
        if shown(path) not in allowed
        for line in sleeps(tree(path))
    ]
    assert sleeping == []


def test_the_list_names_only_files_that_sleep() -> None:
    stale = [name for name in listed(ALLOWED) if not (ROOT / name).is_file() or not list(sleeps(tree(ROOT / name)))]
    assert stale == []


def test_the_list_gives_a_reason_for_each_file() -> None:
    lines = [line for line in ALLOWED.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not line.partition("#")[2].strip()] == []


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("import asyncio\nasyncio.sleep(1)", [2]),
        ("from time import sleep as nap\nnap(0.1)", [2]),
        ("import asyncio, time\nasyncio.to_thread(time.sleep, 1)", [2]),
        ("import asyncio\nasyncio.sleep(0)", []),
        ("clock.sleep(5)", []),
    ],
)
def test_a_sleep_is_recognised(source: str, lines: list[int]) -> None:
    assert list(sleeps(ast.parse(source))) == lines
