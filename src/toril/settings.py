"""Every option that can come from the environment: its name, unit and default.

An option is `TORIL_<SECTION>_<NAME>`; the address of the store is `TORIL_URL`. Values are checked when they are read,
and an error names the variable.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from toril.errors import ConfigError
from toril.kernel.durations import seconds, size_bytes

DEFAULT_URL = "sqlite:///toril.db"


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


class Settings(_Section):
    """All settings. Made without arguments it reads the environment; arguments win over it.

    Raises ConfigError naming the variable whose value is wrong.
    """

    model_config = SettingsConfigDict(env_prefix="TORIL_")

    url: str | None = Field(default=None, description="where jobs are stored, such as sqlite:///toril.db")
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    jobs: JobSettings = Field(default_factory=JobSettings)


class Address(NamedTuple):
    """The URL of the store, what decided it, and a warning for the log, if any."""

    url: str
    decided_by: str
    warning: str | None


def store_address(argument: str | None, settings: Settings, environ: Mapping[str, str] | None = None) -> Address:
    """Which store to use: the argument, else TORIL_URL, else an embedded SQLite file."""
    environ = os.environ if environ is None else environ
    if argument is not None:
        return Address(argument, "the argument of Toril()", None)
    if settings.url:
        return Address(settings.url, "TORIL_URL", None)
    unset = "TORIL_URL is not set"
    redis = next((name for name in ("REDIS_URL", "REDIS_HOST") if environ.get(name)), None)
    if redis is None or any(_is_false(environ.get(name)) for name in ("USE_BULLMQ", "BULLMQ_ENABLED", "REDIS_ENABLED")):
        return Address(DEFAULT_URL, unset, None)
    warning = (
        f"{redis} is set, but this version of Toril has no Redis engine: jobs go to the embedded SQLite file. "
        f"Set TORIL_URL={DEFAULT_URL} to say so yourself."
    )
    return Address(DEFAULT_URL, unset, warning)


def variables() -> dict[str, str]:
    """Every environment variable that is read, and what it means."""
    described = {"TORIL_URL": Settings.model_fields["url"].description or ""}
    for section in (WorkerSettings, JobSettings):
        prefix = section.model_config.get("env_prefix", "")
        for name, field in section.model_fields.items():
            described[f"{prefix}{name.upper()}"] = field.description or ""
    return described


def unknown_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """A sentence for each TORIL_ variable of the sections above that nobody reads, with the nearest that is read."""
    known = variables()
    sentences = []
    for name in sorted(os.environ if environ is None else environ):
        if name.startswith(("TORIL_WORKER_", "TORIL_JOBS_")) and name not in known:
            near = get_close_matches(name, known, n=1)
            sentences.append(f"{name} is set, but no such option exists{f': did you mean {near[0]}?' if near else '.'}")
    return sentences


def _is_false(value: str | None) -> bool:
    return value is not None and value.strip().lower() in ("0", "false", "no", "off")


def _explain(error: ValidationError, prefix: str) -> str:
    problems = []
    for detail in error.errors(include_url=False):
        name = prefix + "_".join(str(part) for part in detail["loc"]).upper()
        problems.append(f"{name}: {detail['msg'].removeprefix('Value error, ')}, got {detail['input']!r}.")
    return " ".join(problems)
