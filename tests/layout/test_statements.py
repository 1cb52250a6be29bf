"""Every SQL statement in `engine/sqlite/sql/` is used, every use exists, and no SQL hides in Python."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.layout.sources import PACKAGE, python_files, shown, tree
from toril.engine.sqlite.statements import load, migrations

FOLDER = PACKAGE / "engine" / "sqlite"
FILES = sorted(path.stem for path in (FOLDER / "sql").glob("*.sql"))
LOOKS_LIKE_SQL = re.compile(
    r"^\s*(?:SELECT\s.*\sFROM|INSERT\s+(?:OR\s+\w+\s+)?INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM)\s", re.DOTALL
)
# It asks whether the file is a database of ours before any statement of ours can be trusted.
ASKS_FIRST = FOLDER / "migrate.py"

Statement = tuple[str, str]


def mappings(module: ast.Module) -> dict[str, str]:
    """Return the variables of a module that hold `load("file")`, with the file's name."""
    held = {}
    for node in ast.walk(module):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Call() as call):
                pass
            case _:
                continue
        match call:
            case ast.Call(func=ast.Name(id="load") | ast.Attribute(attr="load"), args=[ast.Constant(value=str(file))]):
                held[name] = file
    return held


def looped(module: ast.Module) -> dict[str, ast.Tuple]:
    """Return the loop variables that run over a tuple written on the spot."""
    loops = {}
    for node in ast.walk(module):
        match node:
            case ast.For(target=ast.Name(id=variable), iter=ast.Tuple() as names):
                loops[variable] = names
    return loops


def spelled(key: ast.expr, loops: dict[str, ast.Tuple]) -> Iterator[str | None]:
    """Yield the names that a key stands for; None for a computed one, which nobody can search for."""
    match key:
        case ast.Constant(value=str(name)):
            yield name
        case ast.IfExp(body=one, orelse=other):
            yield from spelled(one, loops)
            yield from spelled(other, loops)
        case ast.Name(id=variable) if variable in loops:
            for element in loops[variable].elts:
                yield from spelled(element, {})
        case _:
            yield None


def used(module: ast.Module) -> Iterator[tuple[int, Statement | None]]:
    """Yield line and (file, name) of each use of a statement; None for a name that is computed."""
    held, loops = mappings(module), looped(module)
    for node in ast.walk(module):
        match node:
            case ast.Subscript(value=ast.Name(id=variable), slice=key) if variable in held:
                for name in spelled(key, loops):
                    yield node.lineno, None if name is None else (held[variable], name)


def stored() -> set[Statement]:
    return {(file, name) for file in FILES for name in load(file)}


def uses() -> list[tuple[Path, int, Statement | None]]:
    return [(path, *use) for path in python_files("src/toril/engine/sqlite") for use in used(tree(path))]


def test_there_are_statements_and_uses() -> None:
    assert FILES
    assert uses()


def test_every_statement_is_used() -> None:
    assert sorted(stored() - {statement for _, _, statement in uses() if statement}) == []


def test_every_use_exists_and_is_spelled_out() -> None:
    known = stored()
    assert [f"{shown(path, line)}: {statement}" for path, line, statement in uses() if statement not in known] == []


def test_no_sql_hides_in_python() -> None:
    hidden = [
        shown(path, node.lineno)
        for path in python_files("src")
        if path != ASKS_FIRST
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and LOOKS_LIKE_SQL.match(node.value)
    ]
    assert hidden == []


def test_each_file_says_what_it_is_for() -> None:
    first_lines = {
        file: (FOLDER / "sql" / f"{file}.sql").read_text(encoding="utf-8").split("\n", 1)[0] for file in FILES
    }
    assert {file: line for file, line in first_lines.items() if not re.match(r"-- (?!name:)\S", line)} == {}


@pytest.mark.parametrize("file", FILES)
def test_no_statement_is_empty_or_stands_under_two_names(file: str) -> None:
    texts = Counter(load(file).values())
    assert [text for text, times in texts.items() if times > 1 or not text.strip()] == []


def test_migrations_are_numbered_without_a_gap() -> None:
    numbers = [number for number, _ in migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('S = load("jobs")\nS["add"]', [(2, ("jobs", "add"))]),
        ('S: Any = load("jobs")\nS["a" if x else "b"]', [(2, ("jobs", "a")), (2, ("jobs", "b"))]),
        ('S = load("jobs")\nfor n in ("a", "b"):\n  S[n]', [(3, ("jobs", "a")), (3, ("jobs", "b"))]),
        ('S = load("jobs")\nS[name]', [(2, None)]),
        ('T = {}\nT["add"]', []),
    ],
)
def test_a_use_is_recognised(source: str, found: list[tuple[int, Statement | None]]) -> None:
    assert list(used(ast.parse(source))) == found
