"""Every option that can come from the environment: its name, unit and default.

An option is `TORIL_<SECTION>_<NAME>`; the address of the store is `TORIL_URL`, or what hosting services and BullMQ
applications set: `REDIS_URL`, or `REDIS_HOST` and those beside it. Values are checked when they are read, and an error
names the variable.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import quote

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from toril.errors import ConfigError
from toril.kernel.durations import seconds, size_bytes

DEFAULT_URL = "sqlite:///toril.db"
UNSET = "neither TORIL_URL nor REDIS_URL is set"
# One that is explicitly false keeps jobs off Redis, whatever REDIS_URL says.
_FLAGS = ("USE_BULLMQ", "BULLMQ_ENABLED", "REDIS_ENABLED")


def _or_value_error(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def checked(value: Any) -> Any:
        try:
            return convert(value)
        except ConfigError as error:
            raise ValueError(str(error).partition(": ")[2]) from None

    return checked


Seconds = Annotated[float, BeforeValidator(_or_value_error(seconds))]
Bytes = Annotated[int, BeforeValidator(_or_value_error(size_bytes)), Field(ge=1)]


class _Section(BaseSettings):
    """Settings that read the environment and nothing else; an error names the variables."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", case_sensitive=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(_explain(error, self.model_config.get("env_prefix", ""))) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings)


class WorkerSettings(_Section):
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
    poll: Seconds = Field(default=5.0, gt=0, description="how often an idle worker looks by itself")
    unknown: Literal["snooze", "fail"] = Field(
        default="snooze",
        description="what becomes of a job whose task is not registered: wait for a worker that knows it, or fail",
    )
    processes: int | None = Field(
        default=None, ge=1, description='most processes for tasks with pool="process"; one per core'
    )
    lifespan: bool = Field(
        default=True, description="whether `toril.lifespan` runs a worker inside the web application"
    )


class JobSettings(_Section):
    """`TORIL_JOBS_…`: what holds for jobs of tasks that say nothing else. Sizes are bytes or text such as `"1MiB"`."""

    model_config = SettingsConfigDict(env_prefix="TORIL_JOBS_")

    queue: str = Field(default="default", description="the queue of tasks that name none")
    attempts: int = Field(default=3, ge=1, description="most attempts of a job")
    payload_limit: Bytes = Field(default=1024 * 1024, description="most bytes of a job's arguments as JSON")
    result_limit: Bytes = Field(default=1024 * 1024, description="most bytes of a job's result as JSON")
    enqueue_timeout: Seconds = Field(default=10.0, description="how long a lost answer of the store is asked for again")
    keep_completed: Seconds = Field(default=7 * 86400.0, description="how long completed jobs are kept")
    keep_completed_max: int = Field(default=1000, ge=0, description="how many completed jobs a queue keeps")
    keep_failed: Seconds = Field(default=14 * 86400.0, description="how long failed jobs are kept")
    keep_failed_max: int = Field(default=10_000, ge=0, description="how many failed jobs a queue keeps")
    keep_events: int = Field(default=10_000, ge=100, description="about how many events a queue keeps")
    on_outage: Literal["fail", "direct", "embedded"] = Field(
        default="fail",
        description="what enqueue does while a Redis is away: fail, run the job in this process at once (`direct`), or "
        "keep it in an embedded file whose jobs this process runs (`embedded`)",
    )
    outage_url: str = Field(default=DEFAULT_URL, description="the embedded file of `embedded`")


class _RedisNames(PydanticBaseSettingsSource):
    """The names that BullMQ applications use for two of the options, after Toril's own."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if retries := os.environ.get("REDIS_MAX_RETRIES"):
            found["max_retries"] = _whole_number("REDIS_MAX_RETRIES", retries, "a whole number from 0 on")
        if delay := os.environ.get("REDIS_RETRY_DELAY"):
            found["retry_delay"] = _whole_number("REDIS_RETRY_DELAY", delay, "whole milliseconds above 0") / 1000
            if not found["retry_delay"]:
                raise ConfigError("REDIS_RETRY_DELAY: expected whole milliseconds above 0, got '0'.")
        return found


class RedisSettings(_Section):
    """`TORIL_REDIS_…`: how a Redis or Valkey is used. What the URL says by an option of its own wins."""

    model_config = SettingsConfigDict(env_prefix="TORIL_REDIS_")

    prefix: str = Field(default="bull", min_length=1, description="what all keys of queues begin with, as in BullMQ")
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
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, _RedisNames(settings_cls))


class Settings(_Section):
    """All settings. Made without arguments it reads the environment; arguments win over it.

    Raises ConfigError naming the variable whose value is wrong.
    """

    model_config = SettingsConfigDict(env_prefix="TORIL_")

    url: str | None = Field(default=None, description="where jobs are stored, such as sqlite:///toril.db")
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    jobs: JobSettings = Field(default_factory=JobSettings)
    redis: RedisSettings = Field(default_factory=RedisSettings)


class Address(NamedTuple):
    """The URL of the store, what decided it, and a warning for the log, if any."""

    url: str
    decided_by: str
    warning: str | None


def store_address(argument: str | None, settings: Settings, environ: Mapping[str, str] | None = None) -> Address:
    """Which store to use: the argument, else TORIL_URL, else REDIS_URL or REDIS_HOST (unless a flag is false), else an
    embedded SQLite file. Raises ConfigError for a REDIS_PORT or REDIS_DB that is no number.
    """
    environ = os.environ if environ is None else environ
    if argument is not None:
        return Address(argument, "the argument of Toril()", None)
    if settings.url:
        return Address(settings.url, "TORIL_URL", None)
    refused = next((name for name in _FLAGS if _is_false(environ.get(name))), None)
    named = next((name for name in ("REDIS_URL", "REDIS_HOST") if environ.get(name)), None)
    if refused is not None:
        return Address(DEFAULT_URL, f"{refused} is {environ[refused].strip()}, {UNSET}", None)
    if named == "REDIS_URL":
        return Address(environ[named].strip(), named, None)
    if named is not None:
        return Address(_url_of_parts(environ), named, None)
    wanted = next((name for name in _FLAGS if _is_true(environ.get(name))), None)
    warning = wanted and (
        f"{wanted} is {environ[wanted].strip()}, but neither REDIS_URL nor REDIS_HOST is set: jobs go to the embedded "
        f"SQLite file. Set REDIS_URL=redis://localhost:6379, or take {wanted} away."
    )
    return Address(DEFAULT_URL, UNSET, warning)


def variables() -> dict[str, str]:
    """Every environment variable that is read, and what it means."""
    described = {"TORIL_URL": Settings.model_fields["url"].description or ""}
    for section in (WorkerSettings, JobSettings, RedisSettings):
        prefix = section.model_config.get("env_prefix", "")
        for name, field in section.model_fields.items():
            described[f"{prefix}{name.upper()}"] = field.description or ""
    return described


def unknown_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """A sentence for each TORIL_ variable of the sections above that nobody reads, with the nearest that is read."""
    known = variables()
    sentences = []
    for name in sorted(os.environ if environ is None else environ):
        if name.startswith(("TORIL_WORKER_", "TORIL_JOBS_", "TORIL_REDIS_")) and name not in known:
            near = get_close_matches(name, known, n=1)
            sentences.append(f"{name} is set, but no such option exists{f': did you mean {near[0]}?' if near else '.'}")
    return sentences


def _is_false(value: str | None) -> bool:
    return value is not None and value.strip().lower() in ("0", "false", "no", "off")


def _is_true(value: str | None) -> bool:
    return value is not None and value.strip().lower() in ("1", "true", "yes", "on")


def _url_of_parts(environ: Mapping[str, str]) -> str:
    host = environ["REDIS_HOST"].strip()
    port = _whole_number("REDIS_PORT", environ.get("REDIS_PORT") or "6379", "a number from 1 to 65535")
    db = _whole_number("REDIS_DB", environ.get("REDIS_DB") or "0", "a number from 0 on")
    user, password = environ.get("REDIS_USERNAME", ""), environ.get("REDIS_PASSWORD", "")
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
    return f"redis://{login}{f'[{host}]' if ':' in host else host}:{port}/{db}"


def _whole_number(name: str, text: str, expected: str) -> int:
    if not (text.strip().isascii() and text.strip().isdigit() and len(text) < 10):
        raise ConfigError(f"{name}: expected {expected}, got {text!r}.")
    return int(text)


def _explain(error: ValidationError, prefix: str) -> str:
    problems = []
    for detail in error.errors(include_url=False):
        name = prefix + "_".join(str(part) for part in detail["loc"]).upper()
        problems.append(f"{name}: {detail['msg'].removeprefix('Value error, ')}, got {detail['input']!r}.")
    return " ".join(problems)
