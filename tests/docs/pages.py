"""What is in a page: its Python, its files, its commands with what they print.

Python blocks of a page run from top to bottom as one program, in which `await` may stand anywhere. A block with a
title is a file of that name instead. What a reader need not see stands in a comment: `<!-- run … -->`. Commands are
`$ …` lines of a console block, followed by what they print.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.layout.sources import ROOT

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md"])
PART = re.compile(
    r"^```(?P<kind>\w+)(?: title=\"(?P<title>[^\"]+)\")?[^\n]*\n(?P<text>.*?)^```$"
    r"|^<!-- run\n(?P<hidden>.*?)^-->$",
    re.MULTILINE | re.DOTALL,
)


class Part(NamedTuple):
    """One block. `kind` is its language, `run` for a comment; `line` is the one before its first."""

    kind: str
    title: str
    text: str
    line: int


class Command(NamedTuple):
    """A command line, and what the page says that it prints."""

    line: str
    prints: list[str]


def parts(path: Path) -> list[Part]:
    """Every block of a page, in order."""
    page = path.read_text(encoding="utf-8")
    return [
        Part(
            "run" if found["hidden"] is not None else found["kind"],
            found["title"] or "",
            found["hidden"] or found["text"] or "",
            page.count("\n", 0, found.start()) + 1,
        )
        for found in PART.finditer(page)
    ]


def commands(path: Path) -> Iterator[Command]:
    """Every command of a page."""
    for part in parts(path):
        if part.kind == "console":
            for block in re.split(r"^\$ ", part.text, flags=re.MULTILINE)[1:]:
                line, *prints = block.rstrip().splitlines()
                yield Command(line.partition("  #")[0].strip(), prints)
