"""SQL lives in `sql/*.sql`, each statement under a line `-- name: …`. This loads it by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

_HEADER = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


def load(file: str) -> Mapping[str, str]:
    """The statements of `sql/<file>.sql` by name. Raises ValueError when a name stands there twice."""
    text = (files("toril.engine.sqlite") / "sql" / f"{file}.sql").read_text(encoding="utf-8")
    parts = _HEADER.split(text)
    found: dict[str, str] = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        if name in found:
            raise ValueError(f"sql/{file}.sql: expected each name once, found {name!r} twice.")
        found[name] = body.strip().rstrip(";")
    return MappingProxyType(found)


def migrations() -> tuple[tuple[int, str], ...]:
    """Number and text of every migration, in order."""
    folder = files("toril.engine.sqlite") / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return tuple((int(name[:4]), (folder / name).read_text(encoding="utf-8")) for name in names)
