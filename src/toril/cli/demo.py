"""`toril demo`: DocSnap, the example application, from the installed package or from a checkout."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from toril.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent.parent


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the five jobs, instead of staying up.")] = False,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="Port of the page; 0 takes a free one.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", "--data-dir", help="Folder for its database and documents.")
    ] = None,
) -> None:
    """Watch real jobs run: five web sites become documentation, on the embedded store."""
    folder = find_docsnap()
    parent = str(folder.parent)
    if parent not in sys.path:
        sys.path.insert(0, parent)
    try:
        run = import_module("docsnap.demo").main
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The demo needs the package {error.name!r}. Install what it uses: pip install 'toril[demo]'."
        ) from error
    raise typer.Exit(run(once=once, port=port, **({} if data is None else {"data_dir": data})))


def find_docsnap(package: Path = _PACKAGE) -> Path:
    """The folder of the example application. Raises ConfigError."""
    shipped, checkout = package / "demo" / "docsnap", package.parent.parent / "examples" / "docsnap"
    for folder in (shipped, checkout):
        if (folder / "demo.py").is_file():
            return folder
    raise ConfigError(
        f"The demo is not here: expected it in {shipped} or {checkout}. Install Toril again, or clone it."
    )
