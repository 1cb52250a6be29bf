"""What `toril doctor` looks at. Each check answers what it found, and what to do about it when it is not well."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from toril.cli.moments import ago, jobs, size
from toril.cli.presence import WorkerInfo
from toril.cli.rules import rules_of
from toril.engine.ports.inspect import QueueInfo
from toril.engine.protocol import Engine
from toril.jobs.model import Job
from toril.jobs.states import State
from toril.kernel.durations import human

_LITTLE_SPACE = 1_000_000_000
_NO_SPACE = 50_000_000
_BIG_WAL = 256 * 1024 * 1024
# A beat tells when the next one comes; this much later something is wrong.
_LATE_MS = 5_000
_BEAT_MS = 5_000
_OVERDUE_MS = 60_000
_AHEAD_MS = 60_000
# Locks last 15 s and are looked after every 10 s: after this a job of a vanished worker should be back in line.
_ORPHAN_MS = 30_000


class Level(StrEnum):
    """How a check went."""

    PASS = "pass"  # noqa: S105 - no password
    WARN = "warn"
    FAIL = "fail"


class Check(NamedTuple):
    """One line of the doctor's answer. `todo` is what to do, empty when all is well."""

    name: str
    level: Level
    found: str
    todo: str = ""


def folder(path: Path) -> Check:
    """Whether the database's folder is there and can be written."""
    if not path.is_dir():
        return Check("folder", Level.FAIL, f"{path} does not exist", f"mkdir -p {path}, or choose another TORIL_URL")
    if not os.access(path, os.W_OK | os.X_OK):
        todo = "let the user that runs the application write to it, or choose another TORIL_URL"
        return Check("folder", Level.FAIL, f"{path} cannot be written by this user", todo)
    return Check("folder", Level.PASS, f"{path} can be written")


def space(path: Path) -> Check:
    """Room on the disk."""
    usage = shutil.disk_usage(path)
    found = f"{size(usage.free)} free of {size(usage.total)}"
    if usage.free < _NO_SPACE:
        return Check("disk space", Level.FAIL, found, "free some space: jobs cannot be stored soon")
    if usage.free < _LITTLE_SPACE:
        return Check("disk space", Level.WARN, found, "free some space, or shorten the retention of finished jobs")
    return Check("disk space", Level.PASS, found)


def files(database: Path) -> Check:
    """The size of the database and of its write-ahead log."""
    wal = Path(f"{database}-wal")
    wal_size = wal.stat().st_size if wal.exists() else 0
    found = f"database {size(database.stat().st_size)}, write-ahead log {size(wal_size)}"
    if wal_size > _BIG_WAL:
        todo = "look for a process that keeps a read transaction open: the log cannot be folded back while it does"
        return Check("files", Level.WARN, found, todo)
    return Check("files", Level.PASS, found)


def clock(workers: Sequence[WorkerInfo], newest: Sequence[Job], now: int) -> Check:
    """Whether this clock agrees with the ones that wrote to the store."""
    ahead = max([one.beat for one in workers] + [job.updated for job in newest], default=0) - now
    if ahead > _AHEAD_MS:
        found = f"the store holds times {human(ahead / 1000)} in the future"
        return Check("clock", Level.WARN, found, "set this machine's clock (NTP): delays and retention go by it")
    return Check("clock", Level.PASS, "agrees with the times in the store")


def alive(workers: Sequence[WorkerInfo], queues: Sequence[QueueInfo], now: int) -> Iterator[Check]:
    """One line per worker, or one for their absence."""
    if not workers:
        waiting = sum(one.counts.waiting + one.counts.prioritized + one.counts.delayed for one in queues)
        level = Level.WARN if waiting else Level.PASS
        todo = "start one: toril worker app:toril" if waiting else ""
        found = f"none is running, and {jobs(waiting)} {'waits' if waiting == 1 else 'wait'}"
        yield Check("workers", level, found if waiting else "none is running", todo)
    for one in workers:
        running = ", ".join(one.running[:5]) + (" …" if len(one.running) > 5 else "")
        found = (
            f"{one.id} on {one.host} (pid {one.pid}): {len(one.running)}/{one.concurrency} slots busy, "
            f"queues {', '.join(one.queues)}, heartbeat {ago(one.beat, now)}" + (f", runs {running}" if running else "")
        )
        if now - one.beat > (one.every or _BEAT_MS) + _LATE_MS:
            todo = f"look whether process {one.pid} hangs or is stopped; its jobs are taken over when their locks end"
            yield Check("worker", Level.WARN, found, todo)
        else:
            yield Check("worker", Level.PASS, found)


async def queue(engine: Engine, one: QueueInfo, workers: Sequence[WorkerInfo], now: int) -> Check:
    """Whether a queue moves: nobody serves it, it is paused, its jobs are overdue, or their worker has gone."""
    counts, name = one.counts, f"queue {one.name}"
    line = counts.waiting + counts.prioritized
    found = f"{line:,} in line, {counts.delayed:,} delayed, {counts.active:,} active, {counts.failed:,} failed"
    rules = (await rules_of(engine, [one.name], now))[one.name]
    if said := rules.sentence():
        found += f"; {said}"
    if rules.maintainer is not None:
        found += f"; maintained by {rules.maintainer}"
    orphans = await _orphans(engine, one, workers, now)
    if orphans:
        todo = "start a worker for the queue: it takes them over within seconds"
        return Check(name, Level.WARN, f"{found}; {orphans:,} active without a live worker", todo)
    if one.paused:
        level = Level.WARN if line else Level.PASS
        return Check(name, level, f"{found}; paused", f"toril queues resume {one.name}" if line else "")
    served = any(one.name in worker.queues for worker in workers)
    if workers and not served and line + counts.delayed:
        todo = f"start one: toril worker app:toril --queues {one.name}"
        return Check(name, Level.WARN, f"{found}; no worker serves it", todo)
    late = await _overdue_ms(engine, one, now) if served and counts.delayed else 0
    if late > _OVERDUE_MS:
        todo = "give the workers more slots, or look what keeps them busy: toril stats"
        return Check(name, Level.WARN, f"{found}; the next delayed job is {human(late / 1000)} late", todo)
    return Check(name, Level.PASS, found)


async def _orphans(engine: Engine, one: QueueInfo, workers: Sequence[WorkerInfo], now: int) -> int:
    """Active jobs (of the first 1,000) whose worker has not been heard of for longer than a lock lasts."""
    if not one.counts.active:
        return 0
    known = {worker.id for worker in workers}
    page = await engine.inspect.list(one.name, [State.ACTIVE], limit=1000)
    return sum(job.worker not in known and now - (job.processed or 0) > _ORPHAN_MS for job in page.jobs)


async def _overdue_ms(engine: Engine, one: QueueInfo, now: int) -> int:
    page = await engine.inspect.list(one.name, [State.DELAYED], limit=1)
    return max((now - job.due for job in page.jobs if job.due is not None), default=0)
