"""Where a command writes: tables and sentences for people on a `Console`, JSON for scripts, errors on stderr."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape

# A pipe or a file has no width: wide enough that nothing is cut which somebody may want to grep.
_WIDTH_OF_A_PIPE = 160


def console(*, stderr: bool = False) -> Console:
    """A console on the present stdout or stderr; 80 columns and more in a terminal, wide lines in a pipe."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else _WIDTH_OF_A_PIPE
    return Console(file=stream, width=width, highlight=False, soft_wrap=False)


def show(*parts: RenderableType) -> None:
    """Write for people, to stdout."""
    target = console()
    for part in parts:
        target.print(part)


def say(text: str) -> None:
    """Write a sentence to stdout, unwrapped so that it can be searched; markup is understood."""
    console().print(text, soft_wrap=True)


def show_json(value: Any) -> None:
    """Write one JSON document to stdout: indented in a terminal, one line in a pipe."""
    print(json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False, default=str), flush=True)


def complain(message: str) -> None:
    """Write what went wrong to stderr."""
    console(stderr=True).print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)


def warn(message: str) -> None:
    """Write what somebody should know to stderr."""
    console(stderr=True).print(f"[yellow]note:[/] {escape(message)}", soft_wrap=True)


def clean(text: object) -> str:
    """Somebody else's text without the characters that steer a terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in str(text))


def plain(text: object) -> str:
    """The same, safe to stand in markup too."""
    return escape(clean(text))
