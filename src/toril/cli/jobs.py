"""`toril jobs`: look at stored jobs, and what an operator does to them."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

import typer

from toril.app import Toril
from toril.cli.job_view import history_json, job_json, job_lines, job_page
from toril.cli.moments import jobs as counted
from toril.cli.options import AppOption, JsonOption, QueueOption, UrlOption, store
from toril.cli.screen import console, plain, say, show, show_json
from toril.engine.ports.inspect import Changed
from toril.engine.ports.jobs import CancelAnswer
from toril.errors import ConfigError, JobNotFound
from toril.jobs.model import Job
from toril.jobs.states import State

commands = typer.Typer(no_args_is_help=True, help="Look at jobs, retry, cancel, remove and add them.")

Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of jobs.", show_default=False)]
Change = Callable[[str, list[str]], Awaitable[Sequence[Changed]]]

_SAID = {
    Changed.OK: "[green]{done}[/]",
    Changed.MISSING: "[red]there is no such job[/]",
    Changed.LOCKED: "[red]a worker is running it, nothing was changed[/]",
    Changed.REFUSED: "[red]its state does not allow that, nothing was changed[/]",
}
_CANCEL_SAID = {
    CancelAnswer.CANCELLED: "[green]cancelled[/]",
    CancelAnswer.REQUESTED: "[yellow]running: its worker has been told to stop it[/]",
    CancelAnswer.FOREIGN: "[red]a worker that is not Toril's runs it and cannot be told, nothing was changed[/]",
    CancelAnswer.FINISHED: "[red]has finished already, nothing was changed[/]",
    CancelAnswer.MISSING: "[red]there is no such job[/]",
}


@commands.command("list")
def list_jobs(
    queue: Annotated[
        str | None, typer.Argument(help="The queue; all queues when left out.", show_default=False)
    ] = None,
    state: Annotated[
        list[State] | None, typer.Option("--state", "-s", help="Only this state; may be given several times.")
    ] = None,
    task: Annotated[str | None, typer.Option("--task", "-t", help="Only jobs of this task.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="Most jobs per queue.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="Go on where the last page of this queue ended.")] = None,
    oldest: Annotated[bool, typer.Option("--oldest", help="Oldest first, instead of newest first.")] = False,
    app: AppOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first inside each state."""
    if cursor is not None and queue is None:
        raise ConfigError("--cursor goes on in one queue: expected that queue's name as an argument.")

    async def work() -> None:
        async with store(app, url) as toril:
            names = [queue] if queue is not None else [one.name for one in await toril.engine.inspect.queues()]
            pages = {
                name: await toril.engine.inspect.list(
                    name, state or tuple(State), limit=limit, cursor=cursor, newest_first=not oldest, name=task
                )
                for name in names
            }
            if as_json:
                jobs = [job_json(job) for page in pages.values() for job in page.jobs]
                show_json({"jobs": jobs, "cursors": {name: page.cursor for name, page in pages.items()}})
                return
            now = toril.clock.now_ms()
            filled = [(name, page) for name, page in pages.items() if page.jobs]
            for index, (name, page) in enumerate(filled):
                say(("\n" if index else "") + f"[bold]{plain(name)}[/]")
                show(job_lines(page.jobs, now, console().width))
                if page.cursor is not None:
                    say(f"[dim]more: toril jobs list {plain(name)} --cursor {page.cursor}[/]")
            if not filled:
                say("No jobs" + (f" in the queue {plain(queue)}." if queue else "."))

    asyncio.run(work())


@commands.command("show")
def show_job(
    id: Annotated[str, typer.Argument(metavar="ID", help="Id of a job.")],
    queue: QueueOption = None,
    logs: Annotated[int, typer.Option("--logs", "-l", min=0, help="Most lines of its log, newest.")] = 20,
    app: AppOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show everything that is known of one job."""

    async def work() -> None:
        async with store(app, url) as toril:
            job = await _find(toril, id, queue)
            inspect = toril.engine.inspect
            total = (await inspect.logs(job.queue, id, limit=1)).total
            page = await inspect.logs(job.queue, id, start=max(0, total - logs), limit=max(1, logs))
            if as_json:
                lines = list(page.lines) if logs else []
                show_json({**job_json(job), "history": history_json(job), "logs": lines, "logLines": total})
            else:
                show(job_page(job, page, toril.clock.now_ms()))

    asyncio.run(work())


@commands.command("retry")
def retry_jobs(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="Ids of finished jobs.")] = None,
    failed: Annotated[str | None, typer.Option("--failed", metavar="QUEUE", help="All failed jobs of a queue.")] = None,
    queue: QueueOption = None,
    app: AppOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put finished jobs back in line, with all their attempts before them."""
    if bool(ids) == bool(failed):
        raise ConfigError("Expected either ids of jobs or --failed QUEUE.")

    async def work() -> bool:
        async with store(app, url) as toril:
            if failed is None:
                return await _change(toril, ids or [], queue, "back in line", _retry(toril), as_json)
            count = await toril.queue(failed).retry_failed()
            if as_json:
                show_json({"queue": failed, "retried": count})
            else:
                say(f"Put {counted(count, 'failed')} of {plain(failed)} back in line.")
            return True

    _exit(asyncio.run(work()))


@commands.command("promote")
def promote_jobs(
    ids: Ids, queue: QueueOption = None, app: AppOption = None, url: UrlOption = None, as_json: JsonOption = False
) -> None:
    """Put delayed jobs in line now."""

    async def work() -> bool:
        async with store(app, url) as toril:
            inspect, now = toril.engine.inspect, toril.clock.now_ms()
            return await _change(
                toril, ids, queue, "in line now", lambda name, some: inspect.promote(name, some, now=now), as_json
            )

    _exit(asyncio.run(work()))


@commands.command("remove")
def remove_jobs(
    ids: Ids, queue: QueueOption = None, app: AppOption = None, url: UrlOption = None, as_json: JsonOption = False
) -> None:
    """Delete jobs that no worker is running, with their results and logs."""

    async def work() -> bool:
        async with store(app, url) as toril:
            inspect, now = toril.engine.inspect, toril.clock.now_ms()
            return await _change(
                toril, ids, queue, "removed", lambda name, some: inspect.remove(name, some, now=now), as_json
            )

    _exit(asyncio.run(work()))


@commands.command("cancel")
def cancel_jobs(
    ids: Ids,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; kept with the job.")] = "",
    queue: QueueOption = None,
    app: AppOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cancel jobs: waiting ones will not run, a running one is stopped by its worker."""

    async def work() -> bool:
        answers: dict[str, CancelAnswer] = {}
        async with store(app, url) as toril:
            for job_id in ids:
                job = await toril.engine.inspect.get(job_id, queue)
                answers[job_id] = CancelAnswer.MISSING
                if job is not None:
                    answers[job_id] = await toril.engine.jobs.cancel(
                        job.queue, job_id, by=_user(), reason=reason, now=toril.clock.now_ms()
                    )
        if as_json:
            show_json({one: answer.value for one, answer in answers.items()})
        else:
            for one, answer in answers.items():
                say(f"{plain(one)}  {_CANCEL_SAID[answer]}")
        return all(answer in {CancelAnswer.CANCELLED, CancelAnswer.REQUESTED} for answer in answers.values())

    _exit(asyncio.run(work()))


def _exit(all_well: bool) -> None:
    if not all_well:
        raise typer.Exit(1)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "command line"


async def _find(toril: Toril, id: str, queue: str | None) -> Job:
    job = await toril.engine.inspect.get(id, queue)
    if job is None:
        where = f"in the queue {queue!r}" if queue else "in any queue"
        raise JobNotFound(f"There is no job {id!r} {where} of {toril.engine.location}.", job_id=id)
    return job


def _retry(toril: Toril) -> Change:
    return lambda name, some: toril.engine.inspect.retry(name, some, now=toril.clock.now_ms())


async def _change(
    toril: Toril, ids: Sequence[str], queue: str | None, done: str, change: Change, as_json: bool
) -> bool:
    """Apply `change` queue by queue, and say for each job what became of it. True when all were changed."""
    found = {one: await toril.engine.inspect.get(one, queue) for one in ids}
    answers = dict.fromkeys(ids, Changed.MISSING)
    for name in sorted({job.queue for job in found.values() if job is not None}):
        some = [one for one, job in found.items() if job is not None and job.queue == name]
        answers.update(zip(some, await change(name, some), strict=True))
    if as_json:
        show_json({one: answer.value for one, answer in answers.items()})
    else:
        for one, answer in answers.items():
            say(f"{plain(one)}  {_SAID[answer].format(done=done)}")
    return all(answer is Changed.OK for answer in answers.values())
