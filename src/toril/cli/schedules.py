"""`toril schedules`: look at what runs again and again, run it now, remove it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer
from rich.table import Table

from toril.app import Toril
from toril.cli.moments import ago, iso, moment
from toril.cli.options import AppOption, JsonOption, QueueOption, UrlOption, store
from toril.cli.screen import plain, say, show, show_json
from toril.errors import ConfigError
from toril.jobs.schedule import Schedule
from toril.kernel import codec

commands = typer.Typer(no_args_is_help=True, help="Look at schedules, run them now, remove them.")

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the schedule.")]


@commands.command("list")
def list_schedules(
    queue: QueueOption = None, app: AppOption = None, url: UrlOption = None, as_json: JsonOption = False
) -> None:
    """List schedules, the one that is due next first."""

    async def work() -> None:
        async with store(app, url) as toril:
            schedules, now = await toril.schedules.list(queue), toril.clock.now_ms()
        if as_json:
            show_json([schedule_json(one) for one in schedules])
        elif schedules:
            show(_table(schedules, now))
        else:
            say("No schedules yet.")

    asyncio.run(work())


@commands.command("show")
def show_schedule(
    id: Id, queue: QueueOption = None, app: AppOption = None, url: UrlOption = None, as_json: JsonOption = False
) -> None:
    """Show one schedule."""

    async def work() -> None:
        async with store(app, url) as toril:
            schedule, now = await _find(toril, id, queue), toril.clock.now_ms()
        if as_json:
            show_json(schedule_json(schedule))
            return
        repeat = schedule.repeat
        table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)
        for name, value in (
            ("schedule", schedule.id),
            ("queue", schedule.queue),
            ("task", schedule.name),
            ("arguments", schedule.data),
            ("due", schedule.when),
            ("next run", moment(schedule.next, now)),
            ("its job", schedule.run_id),
            ("runs planned", f"{schedule.count:,}" + ("" if repeat.limit is None else f" of {repeat.limit:,}")),
            ("not before", moment(repeat.start, now)),
            ("not after", moment(repeat.end, now)),
        ):
            table.add_row(f"[dim]{name}[/]", plain(value))
        show(table)

    asyncio.run(work())


@commands.command("run")
def run_schedule(
    id: Id, queue: QueueOption = None, app: AppOption = None, url: UrlOption = None, as_json: JsonOption = False
) -> None:
    """Run what is scheduled once more, now. The schedule goes on as planned."""

    async def work() -> None:
        async with store(app, url) as toril:
            schedule = await _find(toril, id, queue)
            handle = await toril.schedules.run(id, schedule.queue)
        if as_json:
            show_json({"schedule": id, "queue": schedule.queue, "jobId": handle.id})
        else:
            say(f"Job {plain(handle.id)} is in the line of {plain(schedule.queue)}.")

    asyncio.run(work())


@commands.command("remove")
def remove_schedule(
    id: Id, queue: QueueOption = None, app: AppOption = None, url: UrlOption = None, as_json: JsonOption = False
) -> None:
    """Delete a schedule and its planned run. A run that is in line or active is still run.

    What a task declares comes back when a worker starts: take it out of the code.
    """

    async def work() -> None:
        async with store(app, url) as toril:
            schedule = await _find(toril, id, queue)
            await toril.schedules.remove(id, schedule.queue)
        if as_json:
            show_json({"schedule": id, "queue": schedule.queue, "removed": True})
        else:
            say(f"{plain(id)} is removed from {plain(schedule.queue)}.")

    asyncio.run(work())


def schedule_json(schedule: Schedule) -> dict[str, Any]:
    """A schedule for scripts."""
    repeat = schedule.repeat
    return {
        "id": schedule.id,
        "queue": schedule.queue,
        "task": schedule.name,
        "arguments": codec.decode(schedule.data),
        "cron": repeat.pattern,
        "tz": repeat.tz,
        "everyMs": repeat.every,
        "start": iso(repeat.start),
        "end": iso(repeat.end),
        "limit": repeat.limit,
        "next": iso(schedule.next),
        "count": schedule.count,
        "jobId": schedule.run_id,
    }


def _table(schedules: list[Schedule], now: int) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    for name in ("SCHEDULE", "QUEUE", "TASK", "DUE", "NEXT RUN", "RUNS"):
        table.add_column(name, overflow="fold", justify="right" if name == "RUNS" else "left")
    for one in schedules:
        most = "" if one.repeat.limit is None else f"/{one.repeat.limit:,}"
        table.add_row(
            plain(one.id),
            plain(one.queue),
            plain(one.name),
            plain(one.when),
            ago(one.next, now),
            f"{one.count:,}{most}",
        )
    return table


async def _find(toril: Toril, id: str, queue: str | None) -> Schedule:
    """The schedule. Raises ConfigError when there is none of that id."""
    found = await toril.schedules.get(id, queue)
    if found is None:
        known = ", ".join(one.id for one in (await toril.schedules.list(queue))[:20]) or "none yet"
        raise ConfigError(f"There is no schedule {id!r} in {toril.engine.location}. Known schedules: {known}.")
    return found
