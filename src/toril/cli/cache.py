"""`toril cache`: how well the cache works, what it has for a key, and emptying it."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from toril.cache.stats import CacheStats, NameStats
from toril.cli.moments import size
from toril.cli.options import AppOption, JsonOption, UrlOption, store
from toril.cli.screen import complain, plain, say, show, show_json

commands = typer.Typer(no_args_is_help=True, help="Look at the cache, and empty it.")

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, for scripts.")]


@commands.command("stats")
def cache_stats(app: AppOption = None, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Show hits and misses by name, of all processes of the last minute."""

    async def work() -> None:
        async with store(app, url) as toril:
            stats = await toril.cache.stats()
            stored = await toril.cache.count()
        if as_json:
            names = {name: {**asdict(one), "hit_rate": one.hit_rate} for name, one in stats.names.items()}
            show_json({**stats._asdict(), "names": names, "stored": stored})
            return
        if stats.names:
            show(_table(stats))
        rate = "no look-ups yet" if stats.hit_rate is None else f"hit rate {stats.hit_rate:.1%}"
        say(
            f"{rate}; {stored:,} values in the store; {stats.keys:,} values, {size(stats.bytes)} in the memory of "
            f"{stats.processes} process{'' if stats.processes == 1 else 'es'}"
        )

    asyncio.run(work())


@commands.command("get")
def cache_get(
    key: Annotated[str, typer.Argument(help="The key of a value.")], app: AppOption = None, url: UrlOption = None
) -> None:
    """Show a value as JSON. Exit code 1 when there is none."""

    async def work() -> bool:
        async with store(app, url) as toril:
            found = await toril.cache.get_many([key])
        if key in found:
            show_json(found[key])
        else:
            complain(f"The cache has no value {key!r}.")
        return key in found

    if not asyncio.run(work()):
        raise typer.Exit(1)


@commands.command("clear")
def cache_clear(
    prefix: Annotated[str, typer.Option("--prefix", help="Only keys that begin so.")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Only values with this tag; may be repeated.")] = None,
    yes: YesOption = False,
    app: AppOption = None,
    url: UrlOption = None,
) -> None:
    """Delete values: all, by the begin of their keys, or by tags."""
    if not (yes or prefix or tag):
        if not sys.stdin.isatty():
            complain("This empties the cache: say --yes, or choose with --prefix or --tag.")
            raise typer.Exit(1)
        if not typer.confirm("Empty the whole cache?"):
            raise typer.Exit(1)

    async def work() -> None:
        async with store(app, url) as toril:
            if tag:
                await toril.cache.invalidate(*tag)
                say(f"Gave up all values with the tag {', '.join(plain(one) for one in tag)}.")
            if prefix or not tag:
                number = await toril.cache.delete_prefix(prefix)
                say(f"Deleted {number:,} value{'' if number == 1 else 's'}.")

    asyncio.run(work())


def _table(stats: CacheStats) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("name")
    for title in ("memory", "store", "stale", "misses", "hit rate", "made", "failed", "time to make"):
        table.add_column(title, justify="right")
    for name, one in stats.names.items():
        table.add_row(plain(name), *_cells(one))
    return table


def _cells(one: NameStats) -> list[str]:
    rate = "" if one.hit_rate is None else f"{one.hit_rate:.1%}"
    made = f"{one.load_ms / one.loads:.0f} ms" if one.loads else ""
    numbers = [f"{number:,}" for number in (one.local, one.store, one.stale, one.misses)]
    return [*numbers, rate, f"{one.loads:,}", f"{one.load_errors:,}", made]
