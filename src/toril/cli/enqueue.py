"""`toril jobs enqueue`: add a job from the command line."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from toril.app import Toril
from toril.cli.options import AppOption, JsonOption, UrlOption, needed_app
from toril.cli.screen import plain, say, show_json
from toril.errors import ConfigError, InvalidArguments
from toril.jobs.options import OptionsPatch
from toril.kernel import codec
from toril.tasks.task import Task


def enqueue_job(
    task: Annotated[str, typer.Argument(help="Name of the task.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=TEXT | NAME:=JSON]...", help="Its arguments, such as url=https://… depth:=3"),
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="All arguments as one JSON object instead.")] = None,
    id: Annotated[str | None, typer.Option("--id", help="An id of your own.")] = None,
    delay: Annotated[str | None, typer.Option("--delay", help='Wait before the first attempt, such as "10m".')] = None,
    priority: Annotated[int, typer.Option("--priority", help="1 runs first; 0 is none.")] = 0,
    wait: Annotated[
        float | None, typer.Option("--wait", metavar="SECONDS", help="Wait for the result, and print it.")
    ] = None,
    app: AppOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a job of a task. Arguments are checked as in code."""
    if url is not None:
        raise ConfigError("enqueue uses the application's own store: leave out --url, or set TORIL_URL for both.")
    toril = needed_app(app, "toril jobs enqueue")
    given = _named(arguments or [], data)
    patch: OptionsPatch = {}
    if id is not None:
        patch["id"] = id
    if delay is not None:
        patch["delay"] = delay
    if priority:
        patch["priority"] = priority
    asyncio.run(_enqueue(toril, toril.registry[task], given, patch, wait, as_json))


async def _enqueue(
    toril: Toril,
    task: Task[..., Any],
    given: dict[str, Any],
    patch: OptionsPatch,
    wait: float | None,
    as_json: bool,
) -> None:
    async with toril:
        job = await task.with_options(**patch).enqueue(**given)
        if not as_json:
            say(f"[green]{job.id}[/]  {plain(task.name)} in {plain(job.queue)}")
        if wait is None:
            if as_json:
                show_json({"id": job.id, "queue": job.queue, "name": task.name})
            return
        result = task.signature.dump_result(await job.result(timeout=wait))
        if as_json:
            show_json({"id": job.id, "queue": job.queue, "name": task.name, "result": codec.decode(result)})
        else:
            say(plain(result))


def _named(arguments: list[str], data: str | None) -> dict[str, Any]:
    """Arguments by name, from `NAME=TEXT` and `NAME:=JSON` words or from one JSON object."""
    if data is not None:
        if arguments:
            raise ConfigError("Expected either NAME=VALUE arguments or --data, found both.")
        return codec.decode_object(data, "--data")
    named: dict[str, Any] = {}
    for word in arguments:
        name, equals, value = word.partition("=")
        is_json = name.endswith(":")
        name = name.removesuffix(":")
        if not equals or not name.isidentifier():
            raise ConfigError(f"Expected arguments as NAME=TEXT or NAME:=JSON, found {word!r}.")
        if name in named:
            raise ConfigError(f"The argument {name!r} is given twice.")
        try:
            named[name] = codec.decode(value) if is_json else value
        except ValueError as error:
            raise InvalidArguments(f"{name}: expected JSON after ':=', found {value!r} ({error}).") from None
    return named
