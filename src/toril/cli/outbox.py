"""`toril outbox`: the table of jobs that come true with a transaction, and what lies in it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from toril.app import Toril
from toril.cli.checks import Check, Level
from toril.cli.loading import load_app
from toril.cli.moments import ago, jobs
from toril.cli.options import AppOption, JsonOption
from toril.cli.screen import plain, say, show, show_json
from toril.cli.spool import Batch, aside_json, aside_table
from toril.errors import ConfigError, TorilError
from toril.outbox.outbox import Outbox
from toril.outbox.statements import create_sql
from toril.settings import Settings

commands = typer.Typer(no_args_is_help=True, help="Look at jobs that are stored with transactions of your database.")

_LATE_MS = 60_000

Dialect = Annotated[str, typer.Option("--dialect", "-d", help="postgresql, mysql or sqlite.")]
TableName = Annotated[str | None, typer.Option("--table", help="The table; else that of TORIL_OUTBOX_TABLE.")]


@commands.command("sql")
def print_sql(dialect: Dialect = "postgresql", table: TableName = None) -> None:
    """Print the SQL that makes the outbox's table, for a migration of yours."""
    print(create_sql(dialect, table or Settings().outbox.table), end="")


@commands.command("show")
def show_outbox(app: AppOption = None, as_json: JsonOption = False) -> None:
    """Show how many jobs wait in the outbox, and what was set aside."""

    async def work(outbox: Outbox, now: int) -> None:
        stats, aside = await outbox.stats(), await outbox.listed()
        if as_json:
            show_json({**stats._asdict(), "batches": [aside_json(one) for one in aside]})
            return
        oldest = f", the oldest from {ago(stats.oldest, now)}" if stats.jobs else ""
        say(f"[bold]{plain(stats.location)}[/]: {jobs(stats.jobs)}{oldest}; {jobs(stats.set_aside)} set aside")
        if aside:
            show(aside_table(aside, now))

    _with_outbox(app, work)


@commands.command("resend")
def resend(batch: Batch, app: AppOption = None) -> None:
    """Send a batch that was set aside once more. If the store had it, its jobs run a second time."""

    async def work(outbox: Outbox, _: int) -> None:
        if not await outbox.again(batch):
            raise _nothing(batch)
        say("It is sent by a worker.")

    _with_outbox(app, work)


@commands.command("drop")
def drop(batch: Batch, app: AppOption = None) -> None:
    """Delete a batch that was set aside. If the store did not have it, its jobs never run."""

    async def work(outbox: Outbox, _: int) -> None:
        if not await outbox.drop(batch):
            raise _nothing(batch)
        say("It is deleted.")

    _with_outbox(app, work)


async def check(toril: Toril) -> Check | None:
    """What `toril doctor` says. None where no database is named."""
    if toril.outbox.relay is None:
        return None
    try:
        stats = await toril.outbox.stats()
    except TorilError as error:
        return Check("outbox", Level.FAIL, str(error), "until then no job of it reaches the store")
    oldest = f", the oldest from {ago(stats.oldest, toril.clock.now_ms())}" if stats.jobs else ""
    found = f"{stats.location}: {jobs(stats.jobs)} waiting{oldest}, {jobs(stats.set_aside)} set aside"
    if stats.set_aside:
        return Check("outbox", Level.WARN, found, "decide about them: toril outbox show, resend, drop")
    if stats.jobs and stats.oldest is not None and toril.clock.now_ms() - stats.oldest > _LATE_MS:
        return Check("outbox", Level.WARN, found, "see that a worker runs that names this database")
    return Check("outbox", Level.PASS, found)


def _with_outbox(app: str | None, work: Callable[[Outbox, int], Awaitable[None]]) -> None:
    async def run() -> None:
        toril = load_app(app) if app is not None else Toril()
        try:
            await work(toril.outbox, toril.clock.now_ms())
        finally:
            await toril.outbox.close()

    asyncio.run(run())


def _nothing(batch: str) -> ConfigError:
    return ConfigError(f"No batch {batch!r} was set aside: see toril outbox show.")
