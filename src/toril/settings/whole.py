"""All settings together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from toril.settings.blocks import (
    CacheSettings,
    IdempotencySettings,
    LimitSettings,
    OutboxSettings,
    RealtimeSettings,
    SessionSettings,
)
from toril.settings.section import Section
from toril.settings.work import JobSettings, RedisSettings, WorkerSettings


class Settings(Section):
    """All settings. Made without arguments it reads the environment; arguments win over it.

    Raises ConfigError naming the variable whose value is wrong.
    """

    model_config = SettingsConfigDict(env_prefix="TORIL_")

    url: str | None = Field(default=None, description="where jobs are stored, such as sqlite:///toril.db")
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    jobs: JobSettings = Field(default_factory=JobSettings)
    redis: RedisSettings = Field(default_factory=RedisSettings)
    cache: CacheSettings = Field(default_factory=CacheSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    idempotency: IdempotencySettings = Field(default_factory=IdempotencySettings)
    sessions: SessionSettings = Field(default_factory=SessionSettings)
    realtime: RealtimeSettings = Field(default_factory=RealtimeSettings)
    outbox: OutboxSettings = Field(default_factory=OutboxSettings)


SECTIONS: dict[str, type[Section]] = {
    "Workers": WorkerSettings,
    "Jobs": JobSettings,
    "Redis": RedisSettings,
    "Cache": CacheSettings,
    "Rate limits": LimitSettings,
    "Idempotency": IdempotencySettings,
    "Sessions": SessionSettings,
    "Channels": RealtimeSettings,
    "Outbox": OutboxSettings,
}
"""Every section, by its title in the reference."""


def variables() -> dict[str, str]:
    """Every environment variable that is read, and what it means."""
    described = {"TORIL_URL": Settings.model_fields["url"].description or ""}
    for section in SECTIONS.values():
        prefix = section.model_config.get("env_prefix", "")
        for name, field in section.model_fields.items():
            described[f"{prefix}{name.upper()}"] = field.description or ""
    return described


def unknown_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """A sentence for each TORIL_ variable of the sections above that nobody reads, with the nearest that is read."""
    known = variables()
    sentences = []
    prefixes = tuple(section.model_config.get("env_prefix", "") for section in SECTIONS.values())
    for name in sorted(os.environ if environ is None else environ):
        if name.startswith(prefixes) and name not in known:
            near = get_close_matches(name, known, n=1)
            sentences.append(f"{name} is set, but no such option exists{f': did you mean {near[0]}?' if near else '.'}")
    return sentences
