"""The sections of the blocks beside jobs: cache, rate limits, sessions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from toril.settings.section import Seconds, Section


class CacheSettings(Section):
    """`TORIL_CACHE_…`: the cache."""

    model_config = SettingsConfigDict(env_prefix="TORIL_CACHE_")

    url: str | None = Field(default=None, description="where the cache is stored; where jobs are, if unset")


class LimitSettings(Section):
    """`TORIL_LIMITS_…`: rate limits."""

    model_config = SettingsConfigDict(env_prefix="TORIL_LIMITS_")

    url: str | None = Field(default=None, description="where rate limits are counted; where jobs are, if unset")
    timeout: Seconds = Field(default=0.5, gt=0, description="how long a check may wait for the store")
    on_outage: Literal["local", "open", "closed"] = Field(
        default="local",
        description="what holds while the store is away: each process counts for itself (`local`), no limit at all "
        "(`open`), or everything is refused (`closed`)",
    )


class SessionSettings(Section):
    """`TORIL_SESSIONS_…`: sessions of web users."""

    model_config = SettingsConfigDict(env_prefix="TORIL_SESSIONS_")

    url: str | None = Field(default=None, description="where sessions are stored; where jobs are, if unset")
