"""Imports stand at the top of a file, where the import contracts of `.importlinter` and the reader see them.

What may be loaded late is listed here, one reason per line: a file, and what it may import inside a function.
"""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.layout.sources import PACKAGE, functions, python_files, shown, tree

LAZY = {
    # A backend and its driver are loaded only when a URL asks for them.
    "src/toril/engine/open.py": ("toril.engine.*",),
    # `toril --help` must not pay for a web server or for the demo's libraries; the speed extra may be missing.
    "src/toril/cli/*.py": ("toril.*", "docsnap.*", "uvicorn", "uvloop", "fastapi.*"),
    # Only who names sentinels needs the library behind it, which takes a quarter of a second to load.
    "src/toril/engine/redis/engine.py": ("toril.engine.redis.sentinel",),
    # SQLAlchemy is an extra, and only who hands in an object of it has loaded it.
    "src/toril/outbox/*.py": ("toril.outbox.alchemy",),
    # uvloop is an extra: the worker runs without it.
    "src/toril/worker/supervisor.py": ("uvloop",),
    # Only who encrypts sessions needs the library, which is in the extra of the web.
    "src/toril/sessions/sessions.py": ("toril.sessions.sealing",),
    # What watches files is an extra, too: nobody needs it in production.
    "src/toril/worker/reload.py": ("watchfiles",),
}


def imported(node: ast.AST) -> list[str]:
    """Return the modules that an import statement or an `import_module("...")` call names."""
    match node:
        case ast.Import(names=names):
            return [name.name for name in names]
        case ast.ImportFrom(module=str(module)):
            return [module]
        case ast.Call(func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module")):
            named = node.args[0] if node.args else None
            # A module named by the user at run time (`toril worker app:toril`) says nothing about our layers.
            return [named.value] if isinstance(named, ast.Constant) and isinstance(named.value, str) else []
    return []


def late_imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and module of each import inside a function, once."""
    inside = (node for function in functions(path) for node in ast.walk(function))
    lines = ((node.lineno, name) for node in inside if isinstance(node, ast.stmt | ast.expr) for name in imported(node))
    yield from sorted(set(lines))


def allowed(path: Path, module: str) -> bool:
    """Whether the list above lets this file import this module late."""
    return any(
        fnmatch(shown(path), file) and any(fnmatch(module, name) or fnmatch(f"{module}.x", name) for name in modules)
        for file, modules in LAZY.items()
    )


def test_no_import_hides_inside_a_function() -> None:
    hidden = [
        f"{shown(path, line)} imports {module}"
        for path in python_files("src", "examples")
        for line, module in late_imports(path)
        if not allowed(path, module)
    ]
    assert hidden == []


def test_nothing_is_imported_for_the_type_checker_only() -> None:
    dodges = [
        shown(path, node.lineno)
        for path in python_files("src", "tests", "examples")
        for node in ast.walk(tree(path))
        if (isinstance(node, ast.Name) and node.id == "TYPE_CHECKING")
        or (isinstance(node, ast.Attribute) and node.attr == "TYPE_CHECKING")
    ]
    assert dodges == []


def test_nothing_inside_imports_the_package_root() -> None:
    through_root = [
        shown(path, node.lineno)
        for path in python_files("src")
        if path != PACKAGE / "__init__.py"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Import | ast.ImportFrom) and "toril" in imported(node)
    ]
    assert through_root == []


def test_an_optional_import_is_guarded_in_one_place_only() -> None:
    """A `try: import x` outside the list above is a second way to load an extra."""
    guarded = [
        shown(path, node.lineno)
        for path in python_files("src")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Try)
        for statement in node.body
        if (names := imported(statement)) and not all(allowed(path, name) for name in names)
    ]
    assert guarded == []


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("import a.b", ["a.b"]),
        ("from a import b", ["a"]),
        ("importlib.import_module('a.b')", ["a.b"]),
        ("import_module(name)", []),
        ("call('a.b')", []),
    ],
)
def test_an_import_is_recognised(source: str, modules: list[str]) -> None:
    [statement] = ast.parse(source).body
    node = statement.value if isinstance(statement, ast.Expr) else statement
    assert imported(node) == modules
