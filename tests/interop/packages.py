"""The Node packages of `node/`: installed once, into an ignored folder. Their absence skips loudly, and fails in CI."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

FOLDER = Path(__file__).with_name("node")
PACKAGES = {5: "bullmq5", 6: "bullmq6"}

_INSTALL_S = 240


def problem() -> str:
    """Install what is missing. An empty text when all is there, else what is in the way and what to do."""
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
