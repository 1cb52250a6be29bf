"""`toril queues`: look at queues, pause and resume them, and delete jobs in bulk."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated

import typer
from rich.table import Table

from toril.app import Toril
from toril.cli.moments import jobs
from toril.cli.options import AppOption, JsonOption, UrlOption, store
from toril.cli.rules import QueueRules, rules_of
from toril.cli.screen import complain, plain, say, show, show_json
from toril.engine.ports.inspect import QueueInfo
from toril.errors import ConfigError
from toril.jobs.states import State
from toril.kernel.durations import milliseconds

commands = typer.Typer(no_args_is_help=True, help="Look at queues, pause and resume them, delete jobs in bulk.")

_PAGE = 1000
Name = Annotated[str, typer.Argument(metavar="QUEUE", help="Name of the queue.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, for scripts.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say how many jobs it would delete.")]
Delete = Callable[[Toril], Awaitable[int]]


@commands.command("list")
def list_queues(app: AppOption = None, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """List all queues and how many jobs are in which state."""

    async def work() -> None:
        async with store(app, url) as toril:
            queues = await toril.engine.inspect.queues()
            rules = await rules_of(toril.engine, (one.name for one in queues), toril.clock.now_ms())
        if as_json:
            show_json([queue_json(one, rules[one.name]) for one in queues])
        elif queues:
            show(queue_table(queues, rules))
        else:
            say("No queues yet.")

    asyncio.run(work())


@commands.command("pause")
def pause_queue(queue: Name, app: AppOption = None, url: UrlOption = None) -> None:
    """Let workers take nothing more from a queue. Running jobs go on."""

    async def work() -> None:
        async with store(app, url) as toril:
            await _require(toril, queue)
            await toril.engine.inspect.pause(queue, now=toril.clock.now_ms())
        say(f"{plain(queue)} is [yellow]paused[/]. Running jobs go on; resume with: toril queues resume {plain(queue)}")

    asyncio.run(work())


@commands.command("resume")
def resume_queue(queue: Name, app: AppOption = None, url: UrlOption = None) -> None:
    """End a pause."""

    async def work() -> None:
        async with store(app, url) as toril:
            await _require(toril, queue)
            await toril.engine.inspect.resume(queue, now=toril.clock.now_ms())
        say(f"{plain(queue)} [green]runs[/].")

    asyncio.run(work())


@commands.command("drain")
def drain_queue(
    queue: Name,
    delayed: Annotated[bool, typer.Option("--delayed", help="The delayed jobs too.")] = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    app: AppOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete the jobs that wait in line. Running and finished ones stay."""

    async def count(toril: Toril) -> int:
        counts = (await _require(toril, queue)).counts
        return counts.waiting + counts.prioritized + (counts.delayed if delayed else 0)

    async def delete(toril: Toril) -> int:
        return await toril.queue(queue).drain(delayed=delayed)

    _delete_jobs(queue, "waiting", count, delete, yes=yes, dry_run=dry_run, app=app, url=url, as_json=as_json)


@commands.command("clean")
def clean_queue(
    queue: Name,
    state: Annotated[State, typer.Option("--state", "-s", help="Jobs of this state.")] = State.COMPLETED,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="DURATION", help='Finished (or created) longer ago, such as "7d".')
    ] = "0s",
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    app: AppOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete jobs of one state, by age."""
    age_ms = milliseconds(older_than, "--older-than")

    async def count(toril: Toril) -> int:
        await _require(toril, queue)
        before, total, cursor = toril.clock.now_ms() - age_ms, 0, None
        while True:
            page = await toril.engine.inspect.list(queue, [state], limit=_PAGE, cursor=cursor)
            total += sum((job.finished or job.timestamp) <= before for job in page.jobs)
            cursor = page.cursor
            if cursor is None:
                return total

    async def delete(toril: Toril) -> int:
        return await toril.queue(queue).clean(state, older_than=age_ms / 1000)

    _delete_jobs(queue, state.value, count, delete, yes=yes, dry_run=dry_run, app=app, url=url, as_json=as_json)


@commands.command("obliterate")
def obliterate_queue(
    queue: Name,
    force: Annotated[bool, typer.Option("--force", help="Although workers are running some of its jobs.")] = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    app: AppOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a queue with every job, result and event that belongs to it."""

    async def count(toril: Toril) -> int:
        return (await _require(toril, queue)).counts.total

    async def delete(toril: Toril) -> int:
        total = await count(toril)
        await toril.queue(queue).obliterate(force=force)
        return total

    _delete_jobs(
        queue,
        "",
        count,
        delete,
        yes=yes,
        dry_run=dry_run,
        app=app,
        url=url,
        as_json=as_json,
    )


def queue_table(queues: tuple[QueueInfo, ...], rules: Mapping[str, QueueRules]) -> Table:
    """One line per queue, with a column per state, and columns for what holds for some of them."""
    maintained = any(rules[one.name].maintainer for one in queues)
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    table.add_column("QUEUE", overflow="fold")
    for name in ("WAITING", "PRIO", "DELAYED", "ACTIVE", "COMPLETED", "FAILED"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    if maintained:
        table.add_column("MAINTAINED BY", overflow="fold")
    for one in queues:
        counts, rule = one.counts, rules[one.name]
        said = plain(rule.sentence())
        table.add_row(
            plain(one.name),
            f"{counts.waiting:,}",
            f"{counts.prioritized:,}",
            f"{counts.delayed + counts.waiting_children:,}",
            f"[yellow]{counts.active:,}[/]" if counts.active else "0",
            f"[green]{counts.completed:,}[/]" if counts.completed else "0",
            f"[red]{counts.failed:,}[/]" if counts.failed else "0",
            f"[yellow]paused[/]{said and ', '}{said}" if one.paused else said,
            *((plain(rule.maintainer or ""),) if maintained else ()),
        )
    return table


def queue_json(queue: QueueInfo, rules: QueueRules) -> dict[str, object]:
    """A queue for scripts."""
    counts = {state.value: queue.counts.of(state) for state in State}
    return {"name": queue.name, "paused": queue.paused, **counts, "total": queue.counts.total, **rules.to_json()}


async def _require(toril: Toril, queue: str) -> QueueInfo:
    """The queue. Raises ConfigError when it is unknown: a misspelt name must not look like an empty queue."""
    known = {one.name: one for one in await toril.engine.inspect.queues()}
    if queue not in known:
        names = ", ".join(known) or "none yet"
        raise ConfigError(f"There is no queue {queue!r} in {toril.engine.location}. Known queues: {names}.")
    return known[queue]


def _delete_jobs(
    queue: str,
    what: str,
    count: Delete,
    delete: Delete,
    *,
    yes: bool,
    dry_run: bool,
    app: str | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Say what would go, have it confirmed, delete, say what went."""

    async def work() -> None:
        async with store(app, url) as toril:
            total = await count(toril)
            if dry_run:
                if as_json:
                    show_json({"queue": queue, "wouldDelete": total})
                else:
                    say(f"Would delete {jobs(total, what)} of {plain(queue)}. Nothing was changed.")
                return
            if not yes:
                _confirm(queue, f"This deletes {jobs(total, what)} of {queue} in {toril.engine.location}.")
            gone = await delete(toril)
            if as_json:
                show_json({"queue": queue, "deleted": gone})
            else:
                say(f"Deleted {jobs(gone, what)} of {plain(queue)}.")

    asyncio.run(work())


def _confirm(queue: str, warning: str) -> None:
    """Have the queue's name typed. Leaves with exit code 1 when it is not."""
    print(warning, file=sys.stderr)
    print(f"It cannot be undone. Type the queue's name ({queue}) to go on: ", end="", file=sys.stderr, flush=True)
    typed = sys.stdin.readline().strip()
    if typed != queue:
        complain("Not confirmed, nothing was changed. Scripts pass --yes.")
        raise typer.Exit(1)
