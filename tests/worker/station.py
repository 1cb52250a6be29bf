"""A worker process for tests: `python -m tests.worker.station <url> <mode>`. Writes what happens to its output."""

import asyncio
import os
import sys
import threading
from pathlib import Path

from toril.app import Toril
from toril.kernel.clock import SystemClock
from toril.kernel.telemetry import WorkerStarted
from toril.tasks.context import Context
from toril.worker.options import QueuePolicy, WorkerOptions
from toril.worker.shutdown import StopSignals
from toril.worker.supervisor import run
from toril.worker.tether import Tether
from toril.worker.wear import Wear, WearLimits
from toril.worker.worker import Worker

URL, MODE = sys.argv[1:3] if len(sys.argv) > 2 else ("sqlite://", "")
toril = Toril(URL)


@toril.task()
async def hold(ctx: Context, seconds: float) -> str:
    say("started", ctx.job_id, ctx.starts)
    await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=seconds)
    return str(os.getpid())


@toril.task()
async def hold_first(ctx: Context) -> str:
    """The first run goes on for ever, a second one ends at once."""
    say("started", ctx.job_id, ctx.starts)
    if ctx.starts == 1:
        await asyncio.Event().wait()
    return str(os.getpid())


@toril.task()
async def stubborn(ctx: Context) -> None:
    say("started", ctx.job_id, ctx.starts)
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue


@toril.task()
def deaf(ctx: Context) -> None:
    say("started", ctx.job_id, ctx.starts)
    threading.Event().wait(60)


@toril.task()
async def count(number: int) -> int:
    say("ran", number)
    return number


@toril.task()
async def work(number: int, seconds: float) -> int:
    say("began", number)
    await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=seconds)
    say("ran", number)
    return number


def say(*words: object) -> None:
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


async def main() -> None:
    tether = Tether.taken()
    if tether is not None:
        tether.watch()
    options = WorkerOptions(
        concurrency=4,
        lock_ms=1_000,
        heartbeat_ms=250,
        recover_every_ms=200,
        shutdown_timeout_s=0.3 if MODE == "hasty" else 20.0,
        grace_s=0.2,
    )
    if MODE.startswith("wide:"):
        options = WorkerOptions(concurrency=int(MODE.removeprefix("wide:")), shutdown_timeout_s=60.0)
    async with toril:
        worker = Worker(
            engine=toril.engine,
            registry=toril.registry,
            queues=["default"],
            options=options,
            clock=SystemClock(),
            telemetry=toril.telemetry,
            policies={"default": QueuePolicy(completed=None, failed=None)},
        )
        toril.on_lock_lost(lambda lost: say("lost", lost.job_id, lost.running))
        toril.telemetry.subscribe(lambda _: say("up", os.getpid()), WorkerStarted)
        with StopSignals(worker.ask_to_stop):
            await worker.start()
            attending: asyncio.Task[None] | None = None
            if tether is not None:
                limits = WearLimits(max_jobs=20 if MODE == "wears" else None)
                attending = asyncio.create_task(tether.attend(always, Wear(limits, toril.telemetry)))
            await worker.run_until_stopped(signals=False)
            if attending is not None:
                attending.cancel()
    say("down", os.getpid())


async def always() -> bool:
    return True


if __name__ == "__main__":
    if MODE.startswith("unless:") and (obstacle := Path(MODE.removeprefix("unless:"))).exists():
        sys.exit(int(obstacle.read_text(encoding="utf-8")))
    run(main())
