"""From stored jobs to what is shown of them. What it leaves out on purpose: arguments, options, stack traces."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from toril.engine.ports.inspect import QueueInfo
from toril.jobs.model import Counts, Job
from toril.jobs.options import RunOptions, decode
from toril.jobs.states import State
from toril.kernel import codec
from toril.web.api.schemas import JobModel, QueueStats, Stats, Status

_NO_OPTIONS = decode("{}")
_LAST_MS = 253_402_300_799_999

STATUS: dict[State, Status] = {
    State.WAITING: "waiting",
    State.PRIORITIZED: "waiting",
    State.DELAYED: "delayed",
    State.WAITING_CHILDREN: "delayed",
    State.ACTIVE: "active",
    State.COMPLETED: "completed",
    State.FAILED: "failed",
}


def options_of(job: Job) -> RunOptions:
    """The job's options; those of another producer that cannot be read count as none."""
    try:
        return decode(job.opts)
    except ValueError:
        return _NO_OPTIONS


def job_model(job: Job) -> JobModel:
    """A job as its owner sees it."""
    return JobModel(
        id=job.id,
        queue=job.queue,
        name=job.name,
        status=STATUS[job.state],
        state=job.state,
        progress=progress(job.progress_number),
        progress_message=job.progress_message or None,
        created_at=moment(job.timestamp),
        updated_at=moment(job.updated),
        started_at=None if job.processed is None else moment(job.processed),
        finished_at=None if job.finished is None else moment(job.finished),
        due_at=None if job.due is None else moment(job.due),
        attempts=job.attempts_made,
        max_attempts=options_of(job).attempts,
        result=_result(job.result),
        failed_reason=job.failed_reason,
        cancelled=job.cancelled,
    )


def stats_of(queues: Iterable[QueueInfo]) -> Stats:
    """The counts of all queues in the five words of a job's status, so that their sum is the total."""
    sums = dict.fromkeys(STATUS.values(), 0)
    for queue in queues:
        for state, status in STATUS.items():
            sums[status] += queue.counts.of(state)
    return Stats(**sums, total=sum(sums.values()))


def queue_stats(counts: Counts, *, paused: bool) -> QueueStats:
    """The counts of one queue."""
    return QueueStats(paused=paused, **counts._asdict())


def moment(ms: int) -> datetime:
    """Milliseconds as an aware time; another producer's impossible ones are brought into range."""
    return datetime.fromtimestamp(min(max(ms, 0), _LAST_MS) / 1000, UTC)


def progress(value: float) -> int | float:
    """A number that JSON can carry."""
    return value if math.isfinite(value) else 0


def _result(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return codec.decode(text)
    except ValueError:
        return text
