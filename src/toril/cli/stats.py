"""`toril stats`: how many jobs are where, who works on them, and how fast."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from toril.app import Toril
from toril.cli import spool
from toril.cli.moments import ago, iso, jobs
from toril.cli.options import AppOption, JsonOption, UrlOption, store
from toril.cli.presence import WorkerInfo, live_workers
from toril.cli.queues import queue_json, queue_table
from toril.cli.rules import QueueRules, rules_of
from toril.cli.screen import console, plain, show, show_json, warn
from toril.engine.ports.inspect import QueueInfo
from toril.engine.ports.spool import SpoolStats
from toril.errors import EngineUnavailable
from toril.jobs.model import Counts


class Snapshot(NamedTuple):
    """Everything that stats show, of one moment (`at`, milliseconds)."""

    mode: str
    location: str
    queues: tuple[QueueInfo, ...]
    workers: list[WorkerInfo]
    at: int
    rules: Mapping[str, QueueRules]
    spool: SpoolStats | None = None

    @property
    def totals(self) -> Counts:
        """All queues together."""
        return Counts(*(sum(column) for column in zip(*(one.counts for one in self.queues), strict=True)))


def stats(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay, and show it anew; Ctrl-C ends.")] = False,
    every: Annotated[float, typer.Option("--every", min=0.1, metavar="SECONDS", help="How often --watch looks.")] = 1.0,
    app: AppOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show queues, workers and, with --watch, jobs per second."""

    async def work() -> None:
        async with store(app, url) as toril:
            if not watch:
                snapshot = await _look(toril)
                if as_json:
                    show_json(stats_json(snapshot))
                else:
                    show(_page(snapshot, None))
            elif as_json:
                await _watch_json(toril, every)
            else:
                await _watch(toril, every)

    # Ctrl-C is how --watch is meant to end.
    with suppress(KeyboardInterrupt) if watch else nullcontext():
        asyncio.run(work())


def stats_json(snapshot: Snapshot) -> dict[str, Any]:
    """The shape of `GET /api/jobs/stats`, with queues and workers beside it."""
    totals = snapshot.totals
    return {
        "success": True,
        "mode": snapshot.mode,
        "location": snapshot.location,
        "stats": {
            "waiting": totals.waiting + totals.prioritized + totals.waiting_children,
            "active": totals.active,
            "completed": totals.completed,
            "failed": totals.failed,
            "delayed": totals.delayed,
            "total": totals.total,
        },
        "queues": [queue_json(one, snapshot.rules[one.name]) for one in snapshot.queues],
        "workers": [one.to_json() for one in snapshot.workers],
        "spool": None if snapshot.spool is None else snapshot.spool._asdict(),
        "timestamp": iso(snapshot.at),
    }


async def _look(toril: Toril) -> Snapshot:
    try:
        found = await toril.stats()
    except EngineUnavailable:
        if toril.spool is not None:
            warn(f"in the spool: {spool.line(await toril.spool.stats(), toril.clock.now_ms())}")
        raise
    workers, now = live_workers(found.workers), toril.clock.now_ms()
    rules = await rules_of(toril.engine, (one.name for one in found.queues), now)
    return Snapshot(found.mode, found.location, found.queues, workers, now, rules, found.spool)


async def _watch(toril: Toril, every: float) -> None:
    target, snapshot = console(), await _look(toril)
    if not target.is_terminal:
        # Nothing can be drawn over in a pipe: one page after the other.
        show(_page(snapshot, None))
        while True:
            await asyncio.sleep(every)
            before, snapshot = snapshot, await _look(toril)
            show("", _page(snapshot, before))
    with Live(_page(snapshot, None), console=target, auto_refresh=False, screen=True) as live:
        while True:
            await asyncio.sleep(every)
            before, snapshot = snapshot, await _look(toril)
            live.update(_page(snapshot, before), refresh=True)


async def _watch_json(toril: Toril, every: float) -> None:
    while True:
        show_json(stats_json(await _look(toril)))
        await asyncio.sleep(every)


def _page(snapshot: Snapshot, before: Snapshot | None) -> RenderableType:
    head = Text.assemble((snapshot.mode, "bold"), "  ", (snapshot.location, "dim"))
    totals = snapshot.totals
    line = Text.assemble(
        f"{jobs(totals.total)}: ",
        (f"{totals.waiting + totals.prioritized:,} waiting", "cyan"),
        ", ",
        (f"{totals.delayed:,} delayed", "blue"),
        ", ",
        (f"{totals.active:,} active", "yellow"),
        ", ",
        (f"{totals.completed:,} completed", "green"),
        ", ",
        (f"{totals.failed:,} failed", "red"),
    )
    parts: list[RenderableType] = [head, line]
    if before is not None:
        parts.append(_rates(snapshot, before))
    if snapshot.spool is not None and (snapshot.spool.jobs or snapshot.spool.set_aside):
        parts.append(Text(f"In the spool: {spool.line(snapshot.spool, snapshot.at)}", style="yellow"))
    parts += [
        Text(""),
        queue_table(snapshot.queues, snapshot.rules) if snapshot.queues else Text("No queues yet.", style="dim"),
    ]
    parts += [Text(""), worker_table(snapshot.workers, snapshot.at) if snapshot.workers else _nobody()]
    return Group(*parts)


def _nobody() -> Text:
    return Text("No worker is running. Start one: toril worker app:toril", style="yellow")


def _rates(snapshot: Snapshot, before: Snapshot) -> Text:
    """Jobs per second since the last look. Finished jobs that were pruned meanwhile are missing from it."""
    seconds = max(0.001, (snapshot.at - before.at) / 1000)
    now, then = snapshot.totals, before.totals
    ended = max(0, now.completed + now.failed - then.completed - then.failed)
    waiting = now.waiting + now.prioritized - then.waiting - then.prioritized
    trend = (
        "steady" if not waiting else f"{'growing' if waiting > 0 else 'shrinking'} by {abs(waiting) / seconds:,.0f}/s"
    )
    return Text.assemble((f"{ended / seconds:,.0f} finished/s", "bold"), f", line {trend}")


def worker_table(workers: list[WorkerInfo], now: int) -> Table:
    """One line per live worker."""
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    table.add_column("WORKER", overflow="fold")
    table.add_column("PID", justify="right", no_wrap=True)
    table.add_column("BUSY", justify="right", no_wrap=True)
    table.add_column("QUEUES", overflow="fold")
    table.add_column("STARTED", no_wrap=True)
    table.add_column("HEARTBEAT", no_wrap=True)
    for one in workers:
        busy = f"{len(one.running)}/{one.concurrency}{' stopping' if one.stopping else ''}"
        queues = plain(", ".join(one.queues))
        table.add_row(plain(one.id), str(one.pid), busy, queues, ago(one.started, now), ago(one.beat, now))
    return table
