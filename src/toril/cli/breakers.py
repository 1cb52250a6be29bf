"""`toril breakers`: which circuit breakers are open and why, and deciding otherwise."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer
from rich.table import Table

from toril.app import Toril
from toril.breaker.record import CLOSED, Record
from toril.cli.checks import Check, Level
from toril.cli.moments import ago, iso
from toril.cli.options import AppOption, JsonOption, UrlOption, store
from toril.cli.screen import plain, say, show, show_json

commands = typer.Typer(no_args_is_help=True, help="Look at circuit breakers, open and close them.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the breaker.")]
_BY = "toril breakers"


@commands.command("list")
def list_breakers(app: AppOption = None, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """List breakers: those of the application, and all that the store knows because something happened to them."""

    async def work() -> None:
        async with store(app, url) as toril:
            found, now = await known(toril), toril.clock.now_ms()
        if as_json:
            show_json([_as_json(name, group, record) for name, (group, record) in found.items()])
        elif found:
            show(_table(found, now))
        else:
            say("No breakers yet.")

    asyncio.run(work())


@commands.command("open")
def open_breaker(name: Name, app: AppOption = None, url: UrlOption = None) -> None:
    """Refuse all calls, in every process, until it is closed or reset."""

    async def work() -> None:
        async with store(app, url) as toril:
            await toril.breakers.named(name).open(by=_BY)
        say(f"Breaker {name} is open until you close or reset it.")

    asyncio.run(work())


@commands.command("close")
def close_breaker(name: Name, app: AppOption = None, url: UrlOption = None) -> None:
    """Let all calls through, whatever fails, until it is opened or reset."""

    async def work() -> None:
        async with store(app, url) as toril:
            await toril.breakers.named(name).close(by=_BY)
        say(f"Breaker {name} is closed, whatever fails, until you open or reset it.")

    asyncio.run(work())


@commands.command("reset")
def reset_breaker(name: Name, app: AppOption = None, url: UrlOption = None) -> None:
    """Forget what was forced, changed and counted: it is closed, and watches again."""

    async def work() -> None:
        async with store(app, url) as toril:
            await toril.breakers.named(name).reset(by=_BY)
        say(f"Breaker {name} is closed, and watches again.")

    asyncio.run(work())


async def known(toril: Toril) -> dict[str, tuple[str, Record]]:
    """Every breaker by name: its group, and its shared state."""
    stored = await toril.breakers.stored()
    groups = {breaker.name: breaker.group for breaker in toril.breakers}
    return {name: (groups.get(name, ""), stored.get(name, CLOSED)) for name in sorted({*stored, *groups})}


async def check(toril: Toril) -> Check:
    """Whether breakers are open, or forced to be what they are."""
    found = await known(toril)
    if not found:
        return Check("breakers", Level.PASS, "none yet")
    forced = [f"{name} ({record.forced})" for name, (_, record) in found.items() if record.forced is not None]
    refusing = {name: record for name, (_, record) in found.items() if record.effective != "closed"}
    if refusing:
        told = "; ".join(f"{name}: {record.error or 'opened by an operator'}" for name, record in refusing.items())
        todo = "look at what they call: keys, quotas, the network; then toril breakers reset NAME"
        return Check("breakers", Level.WARN, f"{len(refusing)} of {len(found)} open: {told}", todo)
    if forced:
        todo = "toril breakers reset NAME, when that is over"
        return Check("breakers", Level.WARN, f"forced: {', '.join(forced)}", todo)
    return Check("breakers", Level.PASS, f"{len(found)}, all closed")


def _table(found: dict[str, tuple[str, Record]], now: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("breaker", "group", "state", "since", "tries again", "last error"):
        table.add_column(title, no_wrap=title in ("breaker", "state"))
    for name, (group, record) in found.items():
        is_closed = record.effective == "closed"
        state = f"{record.effective}{' (forced)' if record.forced else ''}"
        tries = "-" if is_closed or record.forced else ago(record.until, now)
        since = "-" if is_closed else ago(record.opened or None, now)
        table.add_row(*(plain(text) for text in (name, group or "-", state, since, tries, record.error or "-")))
    return table


def _as_json(name: str, group: str, record: Record) -> dict[str, Any]:
    return {
        "name": name,
        "group": group or None,
        "state": record.effective,
        "forced": record.forced,
        "openedAt": iso(record.opened or None),
        "triesAgainAt": iso(record.until or None),
        "lastError": record.error or None,
        "lastErrorAt": iso(record.error_at or None),
        "changed": dict(record.patch),
    }
