"""`Context`: what a handler sees of its job."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from toril.errors import ConfigError
from toril.jobs.model import TakenJob
from toril.kernel import codec
from toril.tasks.children import ChildJobs, ChildReader

LONGEST_LOG_LINE = 10_000
MOST_LOG_LINES = 1_000
MOST_LOG_CHARS = 1_000_000
LONGEST_PROGRESS_MESSAGE = 1_000


class Reporter(Protocol):
    """Takes what running jobs report. Called from any thread, must not block; the worker stores it later in bulk."""

    def progress(self, job: TakenJob, token: str, value: str) -> None:
        """Progress of `job`, as JSON text."""
        ...

    def log(self, job: TakenJob, token: str, line: str, keep: int) -> None:
        """A line for the log of `job`, which keeps its newest `keep` lines."""
        ...


class Context:
    """A handler's view of the job that it runs; the worker makes one per run.

    `attempt` counts from 1 (finished attempts + 1), `starts` are the times the job was started, this start included;
    both differ after a worker vanished. `worker` is the id of the running worker, empty when the task was called
    directly.
    """

    __slots__ = (
        "_children",
        "_enqueued_ms",
        "_is_cancelled",
        "_job",
        "_logged",
        "_reporter",
        "_started_ms",
        "_token",
        "attempt",
        "job_id",
        "name",
        "queue",
        "starts",
        "worker",
    )

    job_id: str
    queue: str
    name: str
    attempt: int
    starts: int
    worker: str

    def __init__(
        self,
        job: TakenJob,
        *,
        queue: str,
        token: str,
        worker: str,
        started_ms: int,
        reporter: Reporter,
        is_cancelled: Callable[[], bool],
        children: ChildReader | None = None,
    ) -> None:
        self.job_id = job.id
        self.queue = queue
        self.name = job.name
        self.attempt = job.attempts_made + 1
        self.starts = job.starts
        self.worker = worker
        self._job = job
        self._token = token
        self._enqueued_ms = job.timestamp
        self._started_ms = started_ms
        self._reporter = reporter
        self._is_cancelled = is_cancelled
        self._children = children
        self._logged: _Logged | None = None

    def __repr__(self) -> str:
        return f"<Context {self.name} {self.job_id} attempt {self.attempt}>"

    @property
    def enqueued_at(self) -> datetime:
        """When the job was enqueued, in UTC."""
        return datetime.fromtimestamp(self._enqueued_ms / 1000, UTC)

    @property
    def started_at(self) -> datetime:
        """When this run began, in UTC."""
        return datetime.fromtimestamp(self._started_ms / 1000, UTC)

    @property
    def is_cancelled(self) -> bool:
        """True once somebody has asked to cancel the job. Async handlers are stopped anyway; a plain function, which
        cannot be stopped from outside, should look here from time to time and return.
        """
        return self._is_cancelled()

    async def children(self) -> ChildJobs:
        """The jobs that this one waited for, as parent of a flow: their results and failures; none for a job that is no
        parent. Raises EngineUnavailable, and ConfigError where the task was called directly.
        """
        return ChildJobs(await self._reader().read(self.queue, self.job_id))

    def children_sync(self) -> ChildJobs:
        """`children` for plain functions in threads; in processes it raises ConfigError."""
        return ChildJobs(self._reader().read_sync(self.queue, self.job_id))

    def _reader(self) -> ChildReader:
        if self._children is None:
            raise ConfigError(
                "children: expected a job that a worker runs in its loop or in a thread, found a task that was called "
                'directly, or runs with pool="process". Read the children there and pass what is needed on.'
            )
        return self._children

    async def progress(self, value: float, message: str | None = None) -> None:
        """Report how far the job is: a number (0 to 100 by custom) and, if given, a message of up to 1,000
        characters.

        Cheap: reports are stored in bulk shortly after, and only the newest matters. Raises ConfigError when `value`
        is no finite number.
        """
        self.progress_sync(value, message)

    async def log(self, line: str) -> None:
        """Add a line to the job's log. Lines above 10,000 characters are cut; a job keeps its newest 1,000 lines, fewer
        when those of a run have more than a million characters.
        """
        self.log_sync(line)

    def progress_sync(self, value: float, message: str | None = None) -> None:
        """`progress` for plain functions."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigError(f"progress: expected a finite number, got {value!r}.")
        if message is None:
            self._reporter.progress(self._job, self._token, codec.encode(value))
        else:
            text = _printable(message, LONGEST_PROGRESS_MESSAGE)
            value_json = codec.encode({"progress": value, "message": text})
            self._reporter.progress(self._job, self._token, value_json)

    def log_sync(self, line: str) -> None:
        """`log` for plain functions."""
        text = _printable(line, LONGEST_LOG_LINE)
        if self._logged is None:
            self._logged = _Logged()
        self._reporter.log(self._job, self._token, text, self._logged.add(len(text)))


def detached(name: str, queue: str, now_ms: int) -> Context:
    """A context for a task that is called directly: it belongs to no job, and what it is told goes nowhere."""
    job = TakenJob(
        id="detached",
        name=name,
        data="{}",
        opts="{}",
        timestamp=now_ms,
        attempts_made=0,
        starts=1,
        stalls=0,
        deferred_failure=None,
    )
    return Context(
        job, queue=queue, token="", worker="", started_ms=now_ms, reporter=_NOWHERE, is_cancelled=_never_cancelled
    )


class _Logged:
    """How long the newest log lines of a run are."""

    def __init__(self) -> None:
        self._lengths: deque[int] = deque()
        self._chars = 0
        self._cut = False

    def add(self, length: int) -> int:
        """One more line. Answers how many lines the job may keep."""
        self._lengths.append(length)
        self._chars += length
        while self._chars > MOST_LOG_CHARS or len(self._lengths) > MOST_LOG_LINES:
            self._chars -= self._lengths.popleft()
            self._cut = True
        # Lines of earlier runs stay for as long as this one alone is within the bounds.
        return len(self._lengths) if self._cut else MOST_LOG_LINES


class _Nowhere:
    def progress(self, job: TakenJob, token: str, value: str) -> None:
        pass

    def log(self, job: TakenJob, token: str, line: str, keep: int) -> None:
        pass


_NOWHERE = _Nowhere()


def _never_cancelled() -> bool:
    return False


def _printable(text: str, longest: int) -> str:
    """`text`, shortened, and without what UTF-8 cannot carry: a report must never fail its job."""
    text = str(text)
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    return text.encode("utf-8", "replace").decode("utf-8")
