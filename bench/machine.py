"""On what it was measured."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def describe(folder: Path, packages: set[str]) -> dict[str, str]:
    """Machine, disk and versions, for a reader who wants to compare."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "file system": _file_system(folder),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "load before": f"{os.getloadavg()[0]:.2f}",
    } | {name: _version(name) for name in sorted(packages)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    if sys.platform.startswith("linux"):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _file_system(folder: Path) -> str:
    """The type of the file system that holds `folder`, as far as the system tells."""
    best = ("", "unknown")
    mounts = Path("/proc/self/mounts")
    if mounts.exists():
        for line in mounts.read_text(encoding="utf-8").splitlines():
            _, point, kind, *_ = line.split()
            if folder.resolve().is_relative_to(point) and len(point) >= len(best[0]):
                best = (point, kind)
    return best[1]
