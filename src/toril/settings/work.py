"""The sections of jobs: workers, jobs, and how a Redis is used."""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from toril.errors import ConfigError
from toril.settings.section import Bytes, Seconds, Section, whole_number

DEFAULT_URL = "sqlite:///toril.db"


class WorkerSettings(Section):
    """`TORIL_WORKER_…`: how a worker process works. Durations are seconds or text such as `"15s"`."""

    model_config = SettingsConfigDict(env_prefix="TORIL_WORKER_")

    concurrency: int = Field(default=5, ge=1, description="jobs that run at the same time in one worker process")
    lock: Seconds = Field(
        default=15.0, gt=0, description="how long a job stays locked without a sign of life of its worker"
    )
    heartbeat: Seconds = Field(default=5.0, gt=0, description="how often locks are renewed; at most half of `lock`")
    recover_every: Seconds = Field(default=10.0, gt=0, description="how often jobs of vanished workers are looked for")
    max_stalls: int = Field(default=2, ge=0, description="how often a job may lose its worker before it fails")
    shutdown_timeout: Seconds = Field(
        default=30.0, description="how long running jobs may go on after a stop was asked for"
    )
    poll: Seconds = Field(default=20.0, gt=0, description="how often an idle worker looks by itself")
    eco: bool = Field(
        default=False, description="whether an idle worker asks as little of its store as it can (metered Redis)"
    )
    unknown: Literal["snooze", "fail"] = Field(
        default="snooze",
        description="what becomes of a job whose task is not registered: wait for a worker that knows it, or fail",
    )
    processes: int | None = Field(
        default=None, ge=1, description='most processes for tasks with pool="process"; one per core'
    )
    max_jobs: int | None = Field(
        default=None, ge=1, description="after so many runs of jobs `toril worker` replaces a process by a fresh one"
    )
    max_age: Seconds | None = Field(default=None, gt=0, description="as `max_jobs`: after so long")
    max_rss: Bytes | None = Field(
        default=None, description='as `max_jobs`: when it takes so much memory, in bytes or text such as `"512MiB"`'
    )
    lifespan: bool = Field(
        default=True, description="whether `toril.lifespan` runs a worker inside the web application"
    )


class JobSettings(Section):
    """`TORIL_JOBS_…`: what holds for jobs of tasks that say nothing else. Sizes are bytes or text such as `"1MiB"`."""

    model_config = SettingsConfigDict(env_prefix="TORIL_JOBS_")

    queue: str = Field(default="default", description="the queue of tasks that name none")
    attempts: int = Field(default=3, ge=1, description="most attempts of a job")
    payload_limit: Bytes = Field(default=1024 * 1024, description="most bytes of a job's arguments as JSON")
    result_limit: Bytes = Field(default=1024 * 1024, description="most bytes of a job's result as JSON")
    result_over_limit: Literal["fail", "drop"] = Field(
        default="fail",
        description="what becomes of a job whose result is larger: it fails, or it completes without a result and its "
        "log says so",
    )
    enqueue_timeout: Seconds = Field(default=10.0, description="how long a lost answer of the store is asked for again")
    keep_completed: Seconds = Field(default=7 * 86400.0, description="how long completed jobs are kept")
    keep_completed_max: int = Field(default=1000, ge=0, description="how many completed jobs a queue keeps")
    keep_failed: Seconds = Field(default=14 * 86400.0, description="how long failed jobs are kept")
    keep_failed_max: int = Field(default=10_000, ge=0, description="how many failed jobs a queue keeps")
    keep_events: int = Field(default=10_000, ge=100, description="about how many events a queue keeps")
    on_outage: Literal["spool", "fail", "direct", "embedded"] = Field(
        default="spool",
        description="what enqueue does while a Redis is away: keep the job in a local file until it is back (`spool`), "
        "fail, run the job in this process at once (`direct`), or keep it in an embedded file whose jobs this process "
        "runs (`embedded`)",
    )
    spool_url: str = Field(
        default="sqlite:///toril-spool.db", description="the file of `spool`, for all processes of the application"
    )
    spool_limit: Bytes = Field(
        default=256 * 1024 * 1024, description="most bytes of jobs in that file; then enqueue raises SpoolFull"
    )
    outage_url: str = Field(default=DEFAULT_URL, description="the embedded file of `embedded`")


class RedisSettings(Section):
    """`TORIL_REDIS_…`: how a Redis or Valkey is used. What the URL says by an option of its own wins."""

    model_config = SettingsConfigDict(env_prefix="TORIL_REDIS_")

    prefix: str = Field(
        default="bull",
        min_length=1,
        description="what all keys of queues begin with, as in BullMQ. On a cluster it needs a hash tag, and `bull` "
        "stands for `{bull-<queue>}`",
    )
    wire: Literal["auto", "bullmq5", "bullmq6"] = Field(
        default="auto",
        description="whose rules hold where BullMQ's major versions differ; `auto` finds out queue by queue",
    )
    eviction: Literal["refuse", "allow"] = Field(
        default="refuse", description="whether a server is used that may throw jobs away when its memory is full"
    )
    timeout: Seconds = Field(
        default=5.0, gt=0, description="how long one call may take, waiting for the server included"
    )
    max_retries: int | None = Field(
        default=None,
        ge=0,
        description="after so many failed attempts to connect, waiting calls fail instead of waiting on; also "
        "REDIS_MAX_RETRIES",
    )
    retry_delay: Seconds = Field(
        default=0.05,
        gt=0,
        le=2,
        description="the first wait between attempts to connect; it doubles up to 2 s. Also REDIS_RETRY_DELAY, "
        "in milliseconds",
    )

    @classmethod
    def other_names(cls) -> dict[str, Any]:
        """The names that BullMQ applications use for two of the options."""
        found: dict[str, Any] = {}
        if retries := os.environ.get("REDIS_MAX_RETRIES"):
            found["max_retries"] = whole_number("REDIS_MAX_RETRIES", retries, "a whole number from 0 on")
        if delay := os.environ.get("REDIS_RETRY_DELAY"):
            found["retry_delay"] = whole_number("REDIS_RETRY_DELAY", delay, "whole milliseconds above 0") / 1000
            if not found["retry_delay"]:
                raise ConfigError("REDIS_RETRY_DELAY: expected whole milliseconds above 0, got '0'.")
        return found
