"""The recorded states of the real package, in `vectors/`: one file per scenario and major version.

`v6` has all scenarios, `v5` those whose states differ from `v6`. Each step holds what was asked, what was answered, and
what it changed in Redis.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).with_name("vectors")
START_MS = 1_700_000_000_000

Value = dict[str, Any]
"""One key as it is recorded: `type`, `value` and, when it expires, `ttl` in ms."""
Dump = dict[str, Value]
"""All keys."""


class Scenario(NamedTuple):
    """One recorded run. `major` is 5 or 6."""

    id: str
    major: int
    title: str
    library: str
    steps: tuple[dict[str, Any], ...]
    final: Dump

    @property
    def number(self) -> str:
        """The first part of the id, by which the tables name it."""
        return self.id.partition("-")[0]


def scenarios() -> Iterator[Scenario]:
    """All of them, those of v6 first."""
    for major in (6, 5):
        for path in sorted((FOLDER / f"v{major}").glob("*.json")):
            whole = json.loads(path.read_text(encoding="utf-8"))
            yield Scenario(
                whole["id"], major, whole["title"], f"bullmq:{whole['bullmq']}", tuple(whole["steps"]), whole["final"]
            )


def advanced(dump: Dump, step: dict[str, Any]) -> Dump:
    """The keys after a step, from those before it."""
    after = {key: value for key, value in dump.items() if key not in step.get("removed", ())}
    for key, value in step.get("changed", {}).items():
        if "appended" in value:
            earlier = dump[key]["value"] if key in dump else []
            value = {"type": "stream", "value": [*earlier, *value["appended"]]}
        after[key] = value
    return after
