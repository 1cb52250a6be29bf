"""One measure of one contestant in a process of its own: `python -m bench.child CONTESTANT MEASURE FOLDER JOBS`.

The last line on stdout is a JSON object: the figures, or `{"error": …}`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.contestants.protocol import Contestant
from bench.measures import MEASURES, serve

MODULES = ("toril_queue", "huey_queue", "litequeue_queue", "raw_sqlite")


def contestants() -> tuple[Contestant, ...]:
    """All contestants whose library is installed, Toril first."""
    found: list[Contestant] = []
    for module in MODULES:
        found.extend(import_module(f"bench.contestants.{module}").CONTESTANTS)
    return tuple(found)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run on uvloop when it is installed, as Toril's own worker does; every contestant gets the same loop."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def main(name: str, measure: str, folder: str, jobs: str) -> None:
    """Run it and print the figures."""
    contestant = {one.name: one for one in contestants()}[name]
    if measure == "serve":
        run(serve(contestant, Path(folder), int(jobs)))
        return
    chosen = {one.name: one for one in MEASURES}[measure]
    print(json.dumps(run(chosen.run(contestant, Path(folder), int(jobs)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
