"""What the layout tests look at: our own files, read from disk and parsed once."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "toril"
CODE_FOLDERS = ("src", "tests", "examples", "bench", "scripts")
SKIPPED = {".git", ".venv", "__pycache__", "build", "dist", "node_modules", "site"}
MADE_BY_TOOLS = re.compile(r"^\.coverage(\..*)?$|\.egg-info$|\.hypothesis$|_cache$")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def walk(folder: Path) -> Iterator[Path]:
    """Yield every file below `folder` that a person wrote, in a stable order."""
    for path in sorted(folder.iterdir()):
        if path.name in SKIPPED or MADE_BY_TOOLS.search(path.name):
            continue
        if path.is_dir():
            yield from walk(path)
        elif path.is_file():
            yield path


@cache
def python_files(*folders: str) -> tuple[Path, ...]:
    """Return the Python files below the named folders of the repository; all code folders when none is named."""
    starts = [ROOT / folder for folder in folders or CODE_FOLDERS]
    return tuple(path for start in starts if start.is_dir() for path in walk(start) if path.suffix == ".py")


@cache
def tree(path: Path) -> ast.Module:
    """Return the parsed file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions(path: Path) -> Iterator[Function]:
    """Yield every function and method of a file, nested ones too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, Function):
            yield node


def shown(path: Path, line: int | None = None) -> str:
    """Name a file the way an editor opens it."""
    name = path.relative_to(ROOT).as_posix()
    return name if line is None else f"{name}:{line}"


def listed(path: Path) -> list[str]:
    """Return the lines of a checked-in list without blank lines and `#` comments."""
    lines = (line.split("#", 1)[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]
