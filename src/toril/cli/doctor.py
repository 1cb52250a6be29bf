"""`toril doctor`: is everything as it should be, and if not, what to do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape

from toril.app import Toril
from toril.cli import checks
from toril.cli.checks import Check, Level
from toril.cli.loading import load_app
from toril.cli.options import AppOption, JsonOption, UrlOption
from toril.cli.presence import live_workers
from toril.cli.screen import console, say, show_json
from toril.errors import TorilError
from toril.jobs.states import State

_MARKS = {Level.PASS: "[green]pass[/]", Level.WARN: "[yellow]warn[/]", Level.FAIL: "[bold red]FAIL[/]"}


def doctor(app: AppOption = None, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Check configuration, store, disk, clock, workers and queues. Exit code 1 when something fails."""
    found = asyncio.run(_examine(app, url, quiet=as_json))
    worst = {one.level for one in found}
    if as_json:
        show_json({"ok": Level.FAIL not in worst, "checks": [one._asdict() for one in found]})
    else:
        counted = {level: sum(one.level is level for one in found) for level in Level}
        say(f"\n{len(found)} checks: {counted[Level.PASS]} pass, {counted[Level.WARN]} warn, {counted[Level.FAIL]} fail.")
    if Level.FAIL in worst:
        raise typer.Exit(1)


async def _examine(app: str | None, url: str | None, *, quiet: bool) -> list[Check]:
    """All checks; each is shown as soon as it is known, since a damaged store may make the next one slow."""
    found = []
    async for check in _checks(app, url):
        found.append(check)
        if not quiet:
            _show(check)
    return found


def _show(check: Check) -> None:
    target = console()
    target.print(f"{_MARKS[check.level]}  [bold]{escape(check.name)}[/]: {escape(check.found)}", soft_wrap=True)
    if check.todo:
        target.print(f"      → {escape(check.todo)}", soft_wrap=True)


async def _checks(app: str | None, url: str | None) -> AsyncIterator[Check]:
    try:
        toril = load_app(app) if app is not None else Toril(url)
        engine = toril.engine
    except TorilError as error:
        yield Check("configuration", Level.FAIL, str(error), "correct it, then run toril doctor again")
        return
    yield _configuration(toril, app, url)
    embedded = engine.name == "sqlite" and engine.capabilities.shared
    if embedded:
        database = Path(engine.location)
        here = checks.folder(database.parent)
        yield here
        if here.level is Level.FAIL:
            return
        yield checks.space(database.parent)
        if not database.exists():
            todo = "nothing, if no application has run yet; else look at the path above"
            yield Check("database", Level.WARN, f"{database} is not there yet", todo)
            return
    try:
        await engine.start()
    except TorilError as error:
        yield Check("store", Level.FAIL, str(error), _todo(error))
        return
    try:
        async for check in _open_checks(toril, database if embedded else None):
            yield check
    except TorilError as error:
        yield Check("store", Level.FAIL, str(error), _todo(error))
    finally:
        await toril.close()
