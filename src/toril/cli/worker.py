"""`toril worker`: run jobs until SIGTERM or Ctrl-C, in one process or in several."""

from __future__ import annotations

import logging
import os
import sys
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from toril.app import Toril
from toril.cli.options import needed_app
from toril.cli.screen import plain, say
from toril.engine.protocol import Engine
from toril.errors import ConfigError
from toril.kernel.durations import seconds
from toril.settings import UNSET
from toril.worker.shutdown import StopSignals, stop_with_parent
from toril.worker.supervisor import PARENT_VARIABLE, run, run_processes, worker_command
from toril.worker.worker import Worker


class LogLevel(StrEnum):
    """What is written to stderr while working."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def worker(
    app: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODULE:NAME]", envvar="TORIL_APP", help="The application, such as app:toril.", show_default=False
        ),
    ] = None,
    processes: Annotated[int, typer.Option("--processes", "-p", min=1, help="How many worker processes.")] = 1,
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", "-c", min=1, help="Slots per process; else TORIL_WORKER_CONCURRENCY, else 5."),
    ] = None,
    queues: Annotated[
        str | None, typer.Option("--queues", "-q", metavar="A,B", help="Queues to serve; else those of all tasks.")
    ] = None,
    shutdown_timeout: Annotated[
        str | None,
        typer.Option("--shutdown-timeout", metavar="DURATION", help='How long running jobs may go on, such as "30s".'),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Begin of the worker's id; else the host's name.")] = None,
    log_level: Annotated[LogLevel, typer.Option("--log-level", help="What to write to stderr.")] = LogLevel.INFO,
) -> None:
    """Run the jobs of an application. SIGTERM or Ctrl-C stops in an orderly way, a second one at once."""
    toril = needed_app(app, "toril worker")
    _log_to_stderr(log_level)
    # Checked before anything is started: it may come from the environment of a container.
    given = None if queues is None else [one.strip() for one in queues.split(",") if one.strip()]
    patience = None if shutdown_timeout is None else seconds(shutdown_timeout, "--shutdown-timeout")
    toril.discover()
    if not (given or toril.registry.queues()):
        raise ConfigError(
            f"{app} has no task, so there is no queue to serve. Import the modules with its tasks there, or name them "
            "in Toril(imports=[…])."
        )
    if processes > 1:
        if not toril.engine.capabilities.shared:
            raise ConfigError(
                "A store in memory cannot be shared: use one process, or a file such as sqlite:///toril.db."
            )
        _banner(toril, None, given, concurrency, processes)
        arguments = _arguments(concurrency, queues, shutdown_timeout, name, log_level)
        limit = toril.settings.worker.shutdown_timeout if patience is None else patience
        command = worker_command(str(app), *arguments)
        raise typer.Exit(run_processes(command, processes, shutdown_timeout_s=limit, telemetry=toril.telemetry))
    run(_serve(toril, given, concurrency, patience, name))


async def _serve(
    toril: Toril, queues: list[str] | None, concurrency: int | None, patience: float | None, name: str | None
) -> None:
    parent = os.environ.get(PARENT_VARIABLE, "")
    # Only a child of a supervisor has it for a parent; a grandchild inherits the variable, but is none.
    supervised = parent.isdigit() and int(parent) == os.getppid()
    if supervised:
        stop_with_parent(int(parent))
    one = toril.worker(queues, concurrency, shutdown_timeout=patience, name=name)
    asked: list[bool] = []

    def stop(*, now: bool = False) -> None:
        asked.append(now)
        one.ask_to_stop(now=now)

    # From here on, not from the end of the start on: a container may be told to stop as soon as it runs.
    with StopSignals(stop):
        if not supervised:
            _banner(toril, one, queues, concurrency, 1)
        async with toril:
            await one.start()
            if asked:
                one.ask_to_stop(now=asked[-1])
            await one.run_until_stopped(signals=False)


def _banner(
    toril: Toril, one: Worker | None, queues: list[str] | None, concurrency: int | None, processes: int
) -> None:
    engine, served = toril.engine, queues or sorted(toril.registry.queues())
    tasks = {queue: [task.name for task in toril.registry if task.queue == queue] for queue in served}
    slots = toril.settings.worker.concurrency if concurrency is None else concurrency
    each = f"{slots} in each of {processes} processes, {slots * processes} together" if processes > 1 else str(slots)
    facts = [
        ("worker", escape(one.id) if one is not None else f"{processes} processes"),
        ("mode", engine.name if engine.name == "redis" else f"{engine.name}, {_kept(engine)}"),
        ("store", f"{plain(engine.location)}  [dim]({_why(toril)})[/]"),
        *((("queues" if not index else ""), _queue(queue, tasks[queue])) for index, queue in enumerate(served)),
        ("slots", each),
    ]
    say(f"[bold]Toril[/] {version('toril')}")
    for label, value in facts:
        # No table: it would break a long path in two, which nobody can search for.
        say(f"[dim]{label:6}[/]  {value}")
    if engine.name == "sqlite" and engine.capabilities.durable and _is_empty(Path(engine.location)):
        say("[yellow]This is a new, empty database: if you expected jobs in it, look at the path above.[/]")
    if not engine.capabilities.durable:
        say("[yellow]Jobs in memory end with this process, and no other process can add any.[/]")
    sys.stdout.flush()


def _kept(engine: Engine) -> str:
    return "embedded file" if engine.capabilities.durable else "in memory"


def _why(toril: Toril) -> str:
    decided_by = toril.address.decided_by
    return decided_by if decided_by.endswith(UNSET) else f"from {decided_by}"


def _queue(queue: str, tasks: list[str]) -> str:
    shown = ", ".join(plain(task) for task in sorted(tasks)[:4]) + (" …" if len(tasks) > 4 else "")
    return f"{plain(queue)}  [dim]({shown or 'none of its tasks is known here'})[/]"


def _is_empty(database: Path) -> bool:
    return not database.exists() or database.stat().st_size == 0


def _arguments(
    concurrency: int | None, queues: str | None, shutdown_timeout: str | None, name: str | None, log_level: LogLevel
) -> list[str]:
    """The options of one child."""
    given = {
        "--concurrency": None if concurrency is None else str(concurrency),
        "--queues": queues,
        "--shutdown-timeout": shutdown_timeout,
        "--name": name,
        "--log-level": log_level.value,
    }
    return [part for option, value in given.items() if value is not None for part in (option, value)]


def _log_to_stderr(level: LogLevel) -> None:
    # Without effect where the application has set up logging itself.
    logging.basicConfig(
        stream=sys.stderr,
        level=level.value.upper(),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
    )
