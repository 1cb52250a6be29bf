"""`toril spool`: what waits here for a store that was away, and what to do about jobs of unknown fate."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer
from rich.table import Table

from toril.app import Toril
from toril.cli.checks import Check, Level
from toril.cli.loading import load_app
from toril.cli.moments import ago, iso, jobs, size
from toril.cli.options import AppOption, JsonOption, UrlOption
from toril.cli.screen import plain, say, show, show_json
from toril.engine.ports.spool import SetAside, Spool, SpoolStats
from toril.errors import ConfigError, TorilError

commands = typer.Typer(no_args_is_help=True, help="Look at jobs that wait here for a store that was away.")

Batch = Annotated[str, typer.Argument(metavar="BATCH", help="Id of the batch, as `toril spool show` says it.")]

_LATE_MS = 60_000
_NEARLY_FULL = 0.8


@commands.command("show")
def show_spool(app: AppOption = None, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Show how many jobs wait, and what was set aside. Asks nothing of the store."""

    async def work(toril: Toril, spool: Spool) -> None:
        stats, aside, now = await spool.stats(), await spool.listed(), toril.clock.now_ms()
        if as_json:
            show_json({**stats._asdict(), "batches": [aside_json(one) for one in aside]})
            return
        say(f"[bold]{plain(stats.location)}[/]: {line(stats, now)}")
        if aside:
            show(aside_table(aside, now))

    _with_spool(app, url, work)


@commands.command("resend")
def resend(batch: Batch, app: AppOption = None, url: UrlOption = None) -> None:
    """Send a batch that was set aside once more. If the store had it, its jobs run a second time."""

    async def work(toril: Toril, spool: Spool) -> None:
        if not await spool.again(batch, now=toril.clock.now_ms()):
            raise _nothing(batch)
        say("It is sent by whoever has the spool open: a worker, or the application.")

    _with_spool(app, url, work)


@commands.command("drop")
def drop(batch: Batch, app: AppOption = None, url: UrlOption = None) -> None:
    """Delete a batch that was set aside. If the store did not have it, its jobs never run."""

    async def work(_: Toril, spool: Spool) -> None:
        if not await spool.drop(batch):
            raise _nothing(batch)
        say("It is deleted.")

    _with_spool(app, url, work)


def line(stats: SpoolStats, now: int) -> str:
    """How a spool is, in words."""
    if not stats.jobs:
        text = "nothing waits"
    else:
        text = (
            f"{jobs(stats.jobs)}, {size(stats.bytes)} of {size(stats.limit)}, the oldest from {ago(stats.oldest, now)}"
        )
        if stats.sent:
            text += f"; {stats.sent:,} of them were sent and not answered"
    if stats.set_aside:
        text += f"; {jobs(stats.set_aside)} set aside"
    if stats.foreign:
        text += f"; {jobs(stats.foreign)} of another store"
    return text


async def check(toril: Toril) -> Check | None:
    """What `toril doctor` says. None where there is no spool."""
    if toril.spool is None:
        return None
    spool, now = toril.spool.spool, toril.clock.now_ms()
    try:
        stats = await spool.stats()
    except TorilError as error:
        return Check(
            "spool", Level.FAIL, str(error), "jobs that are added while the store is away are refused until then"
        )
    finally:
        await toril.spool.close()
    found = f"{stats.location}: {line(stats, now)}"
    if stats.bytes > stats.limit * _NEARLY_FULL:
        return Check("spool", Level.FAIL, found, "bring the store back, or raise TORIL_JOBS_SPOOL_LIMIT")
    if stats.set_aside:
        return Check("spool", Level.WARN, found, "decide about them: toril spool show, resend, drop")
    if stats.foreign:
        return Check("spool", Level.WARN, found, "start the application once with the address of that store")
    if stats.oldest is not None and now - stats.oldest > _LATE_MS:
        return Check(
            "spool", Level.WARN, found, "see that the store answers and that an application or worker runs here"
        )
    problem = await asyncio.to_thread(spool.problem)
    if problem is not None:
        return Check("spool", Level.WARN, problem, "until then jobs are refused while the store is away")
    return Check("spool", Level.PASS, found)


def _with_spool(app: str | None, url: str | None, work: Callable[[Toril, Spool], Awaitable[None]]) -> None:
    async def run() -> None:
        toril = load_app(app) if app is not None and url is None else Toril(url)
        if toril.spool is None:
            raise ConfigError(
                "There is no spool: expected a Redis as store and TORIL_JOBS_ON_OUTAGE=spool, found "
                f"{toril!r} and {toril.settings.jobs.on_outage!r}."
            )
        try:
            await work(toril, toril.spool.spool)
        finally:
            await toril.spool.spool.close()

    asyncio.run(run())


def _nothing(batch: str) -> ConfigError:
    return ConfigError(f"No batch {batch!r} was set aside: see toril spool show.")


def aside_json(one: SetAside) -> dict[str, Any]:
    return {
        "id": one.id,
        "queue": one.queue,
        "jobs": list(one.job_ids),
        "fate": one.fate.value,
        "reason": one.reason,
        "since": iso(one.since),
    }


def aside_table(aside: tuple[SetAside, ...], now: int) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    # To be copied: it stays in one piece.
    table.add_column("BATCH", no_wrap=True)
    for name in ("QUEUE", "JOBS", "FATE", "SINCE", "REASON"):
        table.add_column(name, overflow="fold")
    for one in aside:
        first = one.job_ids[0] if one.job_ids else ""
        named = first if len(one.job_ids) == 1 else f"{len(one.job_ids)} ({first}, …)"
        table.add_row(
            plain(one.id), plain(one.queue), plain(named), one.fate.value, ago(one.since, now), plain(one.reason)
        )
    return table
