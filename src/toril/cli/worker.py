"""`toril worker`: run jobs until SIGTERM or Ctrl-C, in one process or in several."""

from __future__ import annotations

import asyncio
import logging
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
from toril.kernel.durations import seconds, size_bytes
from toril.settings import UNSET
from toril.worker.reload import watching
from toril.worker.shutdown import StopSignals
from toril.worker.supervisor import run, run_processes, worker_command
from toril.worker.tether import Tether
from toril.worker.wear import Wear, WearLimits
from toril.worker.worker import Worker


class LogLevel(StrEnum):
    """What is written to stderr while working."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


AppArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODULE:NAME]", envvar="TORIL_APP", help="The application, such as app:toril.", show_default=False
    ),
]
Processes = Annotated[int, typer.Option("--processes", "-p", min=1, help="How many worker processes.")]
Concurrency = Annotated[
    int | None,
    typer.Option("--concurrency", "-c", min=1, help="Slots per process; else TORIL_WORKER_CONCURRENCY, else 5."),
]
Queues = Annotated[
    str | None, typer.Option("--queues", "-q", metavar="A,B", help="Queues to serve; else those of all tasks.")
]
Patience = Annotated[
    str | None,
    typer.Option("--shutdown-timeout", metavar="DURATION", help='How long running jobs may go on, such as "30s".'),
]
Name = Annotated[str | None, typer.Option("--name", help="Begin of the worker's id; else the host's name.")]
Eco = Annotated[
    bool | None,
    typer.Option("--eco/--no-eco", help="Ask the store as little as possible while idle; else TORIL_WORKER_ECO."),
]
MaxJobs = Annotated[
    int | None, typer.Option("--max-jobs", min=1, help="Replace a process by a fresh one after so many runs of jobs.")
]
MaxAge = Annotated[
    str | None, typer.Option("--max-age", metavar="DURATION", help='Replace a process after so long, such as "12h".')
]
MaxRss = Annotated[
    str | None, typer.Option("--max-rss", metavar="SIZE", help='Replace a process that takes more, such as "512MiB".')
]
Reload = Annotated[bool, typer.Option("--reload", help="Restart when a .py file changes, for development.")]
ReloadDirs = Annotated[
    list[Path] | None, typer.Option("--reload-dir", help="Folders to watch; else the one you are in.")
]


def worker(
    app: AppArgument = None,
    processes: Processes = 1,
    concurrency: Concurrency = None,
    queues: Queues = None,
    shutdown_timeout: Patience = None,
    eco: Eco = None,
    name: Name = None,
    max_jobs: MaxJobs = None,
    max_age: MaxAge = None,
    max_rss: MaxRss = None,
    reload: Reload = False,
    reload_dir: ReloadDirs = None,
    log_level: Annotated[LogLevel, typer.Option("--log-level", help="What to write to stderr.")] = LogLevel.INFO,
) -> None:
    """Run the jobs of an application. SIGTERM or Ctrl-C stops in an orderly way, a second one at once.

    With several processes, with --max-… and with --reload a supervisor keeps the processes; SIGHUP makes it replace
    them one after another.
    """
    # Before the application is imported: the line is nobody else's, and its end must be seen from now on.
    tether = Tether.taken()
    if tether is not None:
        tether.watch()
    toril = needed_app(app, "toril worker")
    _log_to_stderr(log_level)
    # Checked before anything is started: it may come from the environment of a container.
    given = None if queues is None else [one.strip() for one in queues.split(",") if one.strip()]
    patience = None if shutdown_timeout is None else seconds(shutdown_timeout, "--shutdown-timeout")
    limits = _wear_limits(toril, max_jobs, max_age, max_rss)
    toril.discover()
    if not (given or toril.registry.queues()):
        raise ConfigError(
            f"{app} has no task, so there is no queue to serve. Import the modules with its tasks there, or name them "
            "in Toril(imports=[…])."
        )
    if tether is not None or not (processes > 1 or limits.any or reload):
        run(_serve(toril, given, concurrency, patience, eco, name, tether, limits))
        return
    changes = watching(reload_dir or [Path.cwd()]) if reload else None
    _needs_shared_store(toril)
    _banner(toril, None, given, concurrency, processes)
    options = {
        "--concurrency": None if concurrency is None else str(concurrency),
        "--queues": queues,
        "--shutdown-timeout": shutdown_timeout,
        "--name": name,
        "--max-jobs": None if max_jobs is None else str(max_jobs),
        "--max-age": max_age,
        "--max-rss": max_rss,
        "--log-level": log_level.value,
    }
    flags = () if eco is None else ("--eco" if eco else "--no-eco",)
    command = worker_command(str(app), *_words(options), *flags)
    limit_s = toril.settings.worker.shutdown_timeout if patience is None else patience
    raise typer.Exit(
        run_processes(command, processes, shutdown_timeout_s=limit_s, telemetry=toril.telemetry, changes=changes)
    )


def _words(options: dict[str, str | None]) -> list[str]:
    return [word for option, value in options.items() if value is not None for word in (option, value)]


def _wear_limits(toril: Toril, max_jobs: int | None, max_age: str | None, max_rss: str | None) -> WearLimits:
    worker = toril.settings.worker
    return WearLimits(
        max_jobs=worker.max_jobs if max_jobs is None else max_jobs,
        max_age_s=worker.max_age if max_age is None else seconds(max_age, "--max-age"),
        max_rss=worker.max_rss if max_rss is None else size_bytes(max_rss, "--max-rss"),
    )


def _needs_shared_store(toril: Toril) -> None:
    if not toril.engine.capabilities.shared:
        raise ConfigError(
            "A store in memory cannot be shared, nor handed on to a new process: use one process without --max-… and "
            "--reload, or a file such as sqlite:///toril.db."
        )


async def _serve(
    toril: Toril,
    queues: list[str] | None,
    concurrency: int | None,
    patience: float | None,
    eco: bool | None,
    name: str | None,
    tether: Tether | None,
    limits: WearLimits,
) -> None:
    one = toril.worker(queues, concurrency, shutdown_timeout=patience, eco=eco, name=name)
    asked: list[bool] = []

    def stop(*, now: bool = False) -> None:
        asked.append(now)
        one.ask_to_stop(now=now)

    async def is_well() -> bool:
        return (await toril.engine.health()).ok

    # From here on, not from the end of the start on: a container may be told to stop as soon as it runs.
    with StopSignals(stop):
        if tether is None:
            _banner(toril, one, queues, concurrency, 1)
        async with toril:
            await one.start()
            if asked:
                one.ask_to_stop(now=asked[-1])
            if tether is not None:
                attending = asyncio.create_task(tether.attend(is_well, Wear(limits, toril.telemetry)))
            await one.run_until_stopped(signals=False)
            if tether is not None:
                attending.cancel()


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


def _log_to_stderr(level: LogLevel) -> None:
    # Without effect where the application has set up logging itself.
    logging.basicConfig(
        stream=sys.stderr,
        level=level.value.upper(),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
    )
