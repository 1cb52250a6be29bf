"""The packages of `node/` and `python/`: installed once, into ignored folders. Their absence skips loudly, and fails
in CI.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).with_name("node")
PACKAGES = {5: "bullmq5", 6: "bullmq6"}
PYTHON_FOLDER = Path(__file__).with_name("python")
# Beside the project's own environment: what that package needs must not decide what Toril is tested with.
PYTHON = PYTHON_FOLDER / ".venv" / "bin" / "python"

_INSTALL_S = 240


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process installs into this folder: tests may run in several at once."""
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def problem() -> str:
    """Install what is missing. An empty text when all is there, else what is in the way and what to do."""
    with _alone(FOLDER):
        return _problem()


def _problem() -> str:
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "expected node and npm on the PATH, found none: run `make test`, or install them"
    wanted = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))["dependencies"]
    if all((FOLDER / "node_modules" / name / "package.json").is_file() for name in wanted):
        return ""
    done = subprocess.run(
        ["npm", "install", "--silent"], cwd=FOLDER, capture_output=True, text=True, timeout=_INSTALL_S, check=False
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        return "npm install failed in tests/interop/node: " + (lines[-1] if lines else f"code {done.returncode}")
    return ""


def python_problem() -> str:
    """The same for the package of PyPI."""
    with _alone(PYTHON_FOLDER):
        return "" if _python_version() else _python_problem()


def _python_problem() -> str:
    wanted = str(PYTHON_FOLDER / "requirements.txt")
    for command in (
        [sys.executable, "-m", "venv", str(PYTHON_FOLDER / ".venv")],
        [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", wanted],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()
            return "pip install failed in tests/interop/python: " + (lines[-1] if lines else f"code {done.returncode}")
    return ""


def python_versions() -> str:
    """What of PyPI is installed."""
    return f"bullmq {_python_version() or 'none'}"


def _python_version() -> str:
    """The installed version of the package, or nothing."""
    if not PYTHON.exists():
        return ""
    ask = "from importlib.metadata import version; print(version('bullmq'))"
    done = subprocess.run([str(PYTHON), "-c", ask], capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    return done.stdout.strip()


def versions() -> str:
    """What is installed, for the head of a test report."""
    found = []
    for name in ("bullmq5", "bullmq6", "@bull-board/api"):
        path = FOLDER / "node_modules" / name / "package.json"
        if path.is_file():
            found.append(f"{name} {json.loads(path.read_text(encoding='utf-8'))['version']}")
    return ", ".join(found) or "none"


def must_be_there() -> bool:
    """True where a missing package fails the tests."""
    return os.environ.get("CI") == "true"
