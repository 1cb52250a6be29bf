"""Tasks for processes: another process imports this module to find them."""

import os
import threading

from toril.app import Toril
from toril.errors import NeverRetry
from toril.jobs.retry import Fixed
from toril.jobs.signals import RateLimited, Retry, Snooze
from toril.tasks.context import Context

toril = Toril("sqlite://")


@toril.task(pool="process")
def where(number: int) -> dict[str, int]:
    return {"pid": os.getpid(), "number": number}


@toril.task(pool="process")
def talk(ctx: Context) -> str:
    ctx.progress_sync(50, "half")
    ctx.log_sync("a line from a process")
    return f"{ctx.attempt} {ctx.queue}"


@toril.task(pool="process", attempts=2, backoff=Fixed(1))
def end(how: str) -> None:
    match how:
        case "error":
            raise LookupError("in a process")
        case "never":
            raise NeverRetry("no way")
        case "snooze":
            raise Snooze(60)
        case "limited":
            raise RateLimited("1m")
        case "retry":
            raise Retry("in a minute", in_=60)
        case "exit":
            raise SystemExit(3)
        case "crash":
            os._exit(9)


@toril.task(pool="process", attempts=1, timeout="200ms")
def busy() -> None:
    while True:
        threading.Event().wait(0.01)


@toril.task(pool="process")
def deaf(ctx: Context) -> None:
    """Swallows whatever is done to it."""
    ctx.log_sync("begun")
    while True:
        try:
            threading.Event().wait(0.01)
        except BaseException:  # noqa: BLE001 - that is what the test is about
            continue


@toril.task(pool="process")
def polite(ctx: Context) -> str:
    ctx.log_sync(f"pid {os.getpid()}")
    while not ctx.is_cancelled:
        threading.Event().wait(0.005)
    return "stopped by itself"
