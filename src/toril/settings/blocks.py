"""The sections of the blocks beside jobs: cache, rate limits, sessions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from toril.settings.section import Bytes, Seconds, Section


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


class RealtimeSettings(Section):
    """`TORIL_REALTIME_…`: channels of messages to browsers and others who listen."""

    model_config = SettingsConfigDict(env_prefix="TORIL_REALTIME_")

    history: int = Field(default=100, ge=1, description="how many messages of a channel are kept for who comes back")
    ttl: Seconds = Field(default=3600.0, gt=0, description="how long a channel is kept after its last message")
    message_limit: Bytes = Field(default=256 * 1024, description="most bytes of a message as JSON")
    buffer: int = Field(
        default=1000, ge=1, description="how many messages may wait for one slow listener before it is told to resync"
    )
    buffer_bytes: Bytes = Field(default=4 * 1024 * 1024, description="as `buffer`, in bytes")
    heartbeat: Seconds = Field(default=15.0, gt=0, description="how often a silent stream gives a sign of life")
    longest_stream: Seconds = Field(
        default=600.0, gt=0, description="how long a stream lasts before its client has to come again"
    )
