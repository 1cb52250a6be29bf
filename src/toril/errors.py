"""Every error that Toril raises, in one tree.

    TorilError
    ├── ConfigError                 an option, URL or declaration is wrong
    │   ├── CrossSlotFlow           the queues of a flow lie in different slots of a Redis Cluster
    │   ├── TaskExists              two tasks under one name
    │   └── AuthRequired            an open mount outside loopback
    ├── PayloadError                what the caller handed in cannot be stored
    │   ├── UnknownTask             no task of that name is registered
    │   ├── InvalidArguments        arguments do not match the task's signature
    │   ├── InvalidResult           a result does not match the task's return annotation
    │   └── PayloadTooLarge         arguments or result above the limit
    ├── EngineError                 the store
    │   ├── EngineUnavailable       away, or not answering within the deadline (retryable)
    │   ├── EngineClosed            used after close, or before start
    │   ├── StoreCorrupt            the database is damaged or is no database
    │   ├── StoreReadOnly           the database or its folder cannot be written
    │   ├── StoreFull               no space left (retryable)
    │   ├── SpoolFull               the store is away, and so many jobs wait for it that no more are taken (retryable)
    │   ├── StoreTooNew             written by a newer Toril
    │   └── UnsupportedFileSystem   SQLite on a network file system
    ├── LimitExceeded               a rate limit refuses (retryable)
    ├── IdempotencyMismatch         a key was used for something else
    ├── IdempotencyRunning          the work of a key is still being done (retryable)
    ├── BreakerOpen                 a circuit breaker refuses (retryable)
    ├── CallTimeout                 a call through a breaker took too long (retryable)
    ├── JobError                    one job
    │   ├── JobNotFound
    │   ├── JobNotFinished          the operation needs a finished job
    │   ├── JobLocked               the operation cannot touch a running job
    │   ├── JobFailed               the job ended in `failed`
    │   ├── JobCancelled            the job was cancelled
    │   ├── ResultTimeout           no result within the given time (retryable)
    │   ├── ResultExpired           the job was pruned before its result was read
    │   ├── JobTimeout              the handler ran longer than its timeout (retryable)
    │   ├── FlowConflict            a job of a flow has another parent, or stands in it twice
    │   └── LockLost                the worker's right to finish the job has run out
    └── Signal                      raised by a handler to steer its job; see toril.jobs.signals
        ├── Retry                   run again, counted as an attempt
        ├── Snooze                  run again later, not counted as an attempt
        ├── NeverRetry              fail at once, whatever attempts are left
        └── RateLimited             run again first of all, when the whole queue has waited

`code` is the snake_case class name and stable; `retryable` says whether the same call may succeed later.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

__all__ = [
    "AuthRequired",
    "BreakerOpen",
    "CallTimeout",
    "ConfigError",
    "CrossSlotFlow",
    "EngineClosed",
    "EngineError",
    "EngineUnavailable",
    "FlowConflict",
    "IdempotencyMismatch",
    "IdempotencyRunning",
    "InvalidArguments",
    "InvalidResult",
    "JobCancelled",
    "JobError",
    "JobFailed",
    "JobLocked",
    "JobNotFinished",
    "JobNotFound",
    "JobTimeout",
    "LimitExceeded",
    "LockLost",
    "NeverRetry",
    "PayloadError",
    "PayloadTooLarge",
    "ResultExpired",
    "ResultTimeout",
    "Signal",
    "SpoolFull",
    "StoreCorrupt",
    "StoreFull",
    "StoreReadOnly",
    "StoreTooNew",
    "TaskExists",
    "TorilError",
    "UnknownTask",
    "UnsupportedFileSystem",
]

_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")


class TorilError(Exception):
    """Root of everything that Toril raises."""

    code: ClassVar[str] = "toril_error"
    retryable: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.code = _WORD.sub("_", cls.__name__).lower()


class ConfigError(TorilError):
    """An option, a URL, an environment variable or a declaration is wrong."""


class CrossSlotFlow(ConfigError):
    """The queues of a flow lie in different slots of a Redis Cluster, where no step can be taken in both."""


class TaskExists(ConfigError):
    """Two tasks were declared under one name in one `Toril`."""


class AuthRequired(ConfigError):
    """Routes without auth would be served outside loopback."""


class PayloadError(TorilError):
    """What the caller handed in cannot be stored."""


class UnknownTask(PayloadError):
    """No task of that name is registered."""


class InvalidArguments(PayloadError):
    """Arguments do not match the task's signature.

    `fields` lists one entry per problem: `{"field": dotted path, "message": text, "type": pydantic's error type}`.
    """

    def __init__(self, message: str, fields: list[dict[str, str]] | None = None) -> None:
        super().__init__(message)
        self.fields = fields or []


class InvalidResult(PayloadError):
    """A result does not match the task's return annotation, or is no JSON value."""


class PayloadTooLarge(PayloadError):
    """Arguments or a result are larger than the limit (bytes of their JSON)."""

    def __init__(self, message: str, *, size: int = 0, limit: int = 0) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


class EngineError(TorilError):
    """The store could not do what was asked."""


class EngineUnavailable(EngineError):
    """The store is away or did not answer within the deadline.

    `ambiguous` is true when the command may have been stored before the answer was lost; `id` then names the job.
    `partial` is true when other parts of the store answer: one node of a cluster is away.
    """

    retryable = True

    def __init__(self, message: str, *, ambiguous: bool = False, id: str | None = None, partial: bool = False) -> None:
        super().__init__(message)
        self.ambiguous = ambiguous
        self.id = id
        self.partial = partial


class EngineClosed(EngineError):
    """The engine was used before it was started or after it was closed."""


class StoreCorrupt(EngineError):
    """The database file is damaged or is no database."""


class StoreReadOnly(EngineError):
    """The database file or its folder cannot be written."""


class StoreFull(EngineError):
    """The disk that holds the database is full."""

    retryable = True


class SpoolFull(EngineError):
    """The store is away, and the local spool holds as many bytes of jobs as it may: the job was not taken."""

    retryable = True


class StoreTooNew(EngineError):
    """The database was written by a newer version of Toril."""


class UnsupportedFileSystem(EngineError):
    """The database lies on a network file system, where SQLite's locks cannot be trusted."""


class LimitExceeded(TorilError):
    """A rate limit refuses. `retry_after` is how many seconds until there is room, None when there never will be."""

    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class IdempotencyMismatch(TorilError):
    """A key that stands for one call was used for another one."""


class IdempotencyRunning(TorilError):
    """The work of a key is still being done by another caller."""

    retryable = True


class BreakerOpen(TorilError):
    """A circuit breaker refuses the call. `breaker` is its name, `retry_after` how many seconds until a call may get
    through.
    """

    retryable = True

    def __init__(self, message: str, *, breaker: str = "", retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.breaker = breaker
        self.retry_after = retry_after


class CallTimeout(TorilError):
    """A call through a circuit breaker took longer than its timeout, and was stopped."""

    retryable = True


class JobError(TorilError):
    """Something about one job. `job_id` names it."""

    def __init__(self, message: str, *, job_id: str | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id


class JobNotFound(JobError):
    """No job of that id is stored."""


class JobNotFinished(JobError):
    """The operation needs a finished job, and this one is not."""


class JobLocked(JobError):
    """The operation cannot touch a job that a worker is running."""


class JobFailed(JobError):
    """The job ended in `failed`. `reason` is its failed reason, `stack` the last stack trace (may be empty)."""

    def __init__(self, message: str, *, job_id: str | None = None, reason: str = "", stack: str = "") -> None:
        super().__init__(message, job_id=job_id)
        self.reason = reason
        self.stack = stack


class JobCancelled(JobError):
    """The job was cancelled. `reason` and `by` are what the canceller said, if anything."""

    def __init__(self, message: str, *, job_id: str | None = None, reason: str = "", by: str = "") -> None:
        super().__init__(message, job_id=job_id)
        self.reason = reason
        self.by = by


class ResultTimeout(JobError):
    """The job did not finish within the time that the caller wanted to wait."""

    retryable = True


class ResultExpired(JobError):
    """The job was pruned, and its result with it, before it was read."""


class JobTimeout(JobError):
    """The handler ran longer than the job's timeout."""

    retryable = True


class FlowConflict(JobError):
    """A job of a flow is stored already under another parent, or stands in the flow twice."""


class LockLost(JobError):
    """The worker's right to finish the job has run out; another run may have begun."""


class Signal(TorilError):
    """Raised by a handler to steer its job."""


class NeverRetry(Signal):
    """Fail the job at once, whatever attempts are left. The message becomes the failed reason."""
