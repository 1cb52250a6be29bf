"""Toril: the backbone of a Python web backend behind one object, on an embedded SQLite file by default."""

from toril.app import AppStats, Toril
from toril.breaker.breaker import Breaker
from toril.breaker.stats import BreakerStats
from toril.engine.ports.bus import Event
from toril.errors import (
    BreakerOpen,
    CallTimeout,
    ConfigError,
    EngineError,
    EngineUnavailable,
    FlowConflict,
    IdempotencyMismatch,
    IdempotencyRunning,
    InvalidArguments,
    InvalidResult,
    JobCancelled,
    JobError,
    JobFailed,
    JobNotFound,
    JobTimeout,
    LimitExceeded,
    NeverRetry,
    PayloadTooLarge,
    ResultExpired,
    ResultTimeout,
    SpoolFull,
    TorilError,
    UnknownTask,
)
from toril.flows.flow import Flow, FlowHandle
from toril.jobs.limits import QueueLimits
from toril.jobs.model import Counts, Job
from toril.jobs.options import JobOptions, Retention
from toril.jobs.retry import Exponential, Fixed
from toril.jobs.schedule import Cron, Every, Schedule
from toril.jobs.signals import RateLimited, Retry, Snooze
from toril.jobs.states import State
from toril.jobs.unique import Unique
from toril.kernel.telemetry import JobLockLost
from toril.ratelimit.decision import Decision
from toril.ratelimit.limits import Limit
from toril.realtime.channel import Channel
from toril.realtime.messages import ChannelMessage, ChannelResync
from toril.scheduling.schedules import Schedules
from toril.settings import Settings
from toril.tasks.call import Call
from toril.tasks.children import ChildJobs
from toril.tasks.context import Context
from toril.tasks.handle import JobHandle, Resync, Snapshot
from toril.tasks.queue import Queue
from toril.tasks.task import Task
from toril.tasks.transaction import ordered
from toril.tasks.weburl import WebUrl
from toril.worker.worker import Worker

__all__ = [
    "AppStats",
    "Breaker",
    "BreakerOpen",
    "BreakerStats",
    "Call",
    "CallTimeout",
    "Channel",
    "ChannelMessage",
    "ChannelResync",
    "ChildJobs",
    "ConfigError",
    "Context",
    "Counts",
    "Cron",
    "Decision",
    "EngineError",
    "EngineUnavailable",
    "Event",
    "Every",
    "Exponential",
    "Fixed",
    "Flow",
    "FlowConflict",
    "FlowHandle",
    "IdempotencyMismatch",
    "IdempotencyRunning",
    "InvalidArguments",
    "InvalidResult",
    "Job",
    "JobCancelled",
    "JobError",
    "JobFailed",
    "JobHandle",
    "JobLockLost",
    "JobNotFound",
    "JobOptions",
    "JobTimeout",
    "Limit",
    "LimitExceeded",
    "NeverRetry",
    "PayloadTooLarge",
    "Queue",
    "QueueLimits",
    "RateLimited",
    "ResultExpired",
    "ResultTimeout",
    "Resync",
    "Retention",
    "Retry",
    "Schedule",
    "Schedules",
    "Settings",
    "Snapshot",
    "Snooze",
    "SpoolFull",
    "State",
    "Task",
    "Toril",
    "TorilError",
    "Unique",
    "UnknownTask",
    "WebUrl",
    "Worker",
    "ordered",
]
