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

MODULES = {"toril": "toril_queue", "huey": "huey_queue", "litequeue": "litequeue_queue", "raw": "raw_sqlite"}


def contestants(library: str | None = None) -> tuple[Contestant, ...]:
    """All contestants, Toril first, or those of one library: a process loads only what it measures."""
    found: list[Contestant] = []
    for module in [MODULES[library]] if library else MODULES.values():
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
    contestant = {one.name: one for one in contestants(name.partition("-")[0])}[name]
    if measure == "serve":
        run(serve(contestant, Path(folder), int(jobs)))
        return
    chosen = {one.name: one for one in MEASURES}[measure]
    print(json.dumps(run(chosen.run(contestant, Path(folder), int(jobs)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
