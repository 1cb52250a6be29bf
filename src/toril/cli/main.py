"""`toril`: the commands, and how their errors are told."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from toril.cli import breakers, cache, demo, doctor, jobs, outbox, queues, schedules, spool, stats, worker
from toril.cli.enqueue import enqueue_job
from toril.cli.screen import complain
from toril.errors import TorilError

USAGE = 2
"""Exit code for what the caller can put right: a wrong argument, a store that is not there."""
_INTERRUPTED = 130
_ORDER = ["worker", "jobs", "queues", "schedules", "cache", "breakers", "stats", "spool", "outbox", "doctor", "demo"]


class Commands(TyperGroup):
    """The root group: shows its commands in the order in which one needs them, and tells expected errors in one
    sentence, without a traceback.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=_ORDER.index)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TorilError as error:
            complain(str(error))
            raise typer.Exit(USAGE) from None
        except KeyboardInterrupt:
            raise typer.Exit(_INTERRUPTED) from None
        except BrokenPipeError:
            # Whoever read our output has gone (`| head`). The interpreter must not complain again when it flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None


app = typer.Typer(
    name="toril",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Background jobs that need nothing but a file.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"toril {version('toril')}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Background jobs that need nothing but a file."""


jobs.commands.command("enqueue")(enqueue_job)
app.command("worker", short_help="Run the jobs of an application.")(worker.worker)
app.add_typer(jobs.commands, name="jobs")
app.add_typer(queues.commands, name="queues")
app.add_typer(schedules.commands, name="schedules")
app.add_typer(cache.commands, name="cache")
app.add_typer(breakers.commands, name="breakers")
app.command("stats", short_help="Show queues, workers and speed.")(stats.stats)
app.add_typer(spool.commands, name="spool")
app.add_typer(outbox.commands, name="outbox")
app.command("doctor", short_help="Check that all is well, and say what to do.")(doctor.doctor)
app.command("demo", short_help="Watch real jobs run, with nothing to set up.")(demo.demo)


def main() -> None:
    """The entry point of the `toril` command."""
    app()
