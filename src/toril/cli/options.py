"""Options that several commands share, and what they mean together: which application, which store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from toril.app import Toril
from toril.cli.loading import load_app
from toril.errors import ConfigError

AppOption = Annotated[
    str | None,
    typer.Option("--app", "-A", envvar="TORIL_APP", metavar="MODULE:NAME", help="The application, such as app:toril."),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="The store, such as sqlite:///toril.db. Else TORIL_URL, else toril.db here."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
QueueOption = Annotated[
    str | None, typer.Option("--queue", "-q", metavar="QUEUE", help="The queue; else all are searched.")
]


def needed_app(app: str | None, purpose: str) -> Toril:
    """The application, for a command that cannot do without its tasks. Raises ConfigError."""
    if app is None:
        raise ConfigError(f"{purpose} needs the application: name it with --app module:attribute or in TORIL_APP.")
    return load_app(app)


@asynccontextmanager
async def store(app: str | None, url: str | None) -> AsyncIterator[Toril]:
    """What was asked for, opened: the store at `url`, else the application's, else the one of the environment.

    A store that is not there yet is not made: whoever looks into the wrong folder should learn so. Raises ConfigError
    and EngineError.
    """
    toril = load_app(app) if app is not None and url is None else Toril(url)
    require_existing(toril)
    async with toril:
        yield toril


def require_existing(toril: Toril) -> None:
    """Raise ConfigError unless there is a store that another process can have written."""
    location = toril.engine.location
    if not toril.engine.capabilities.shared:
        raise ConfigError(
            "A store in memory lives inside its own process: expected a file, such as sqlite:///toril.db."
        )
    if toril.engine.name == "sqlite" and not Path(location).exists():
        raise ConfigError(
            f"There is no database {location} yet. Run this where your application runs, or say which with "
            "--url sqlite:///path/to/toril.db."
        )
