"""The sections of the blocks beside jobs: cache, rate limits, sessions."""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from toril.settings.section import Bytes, Seconds, Section, is_true


class CacheSettings(Section):
    """`TORIL_CACHE_…`: the cache."""

    model_config = SettingsConfigDict(env_prefix="TORIL_CACHE_")

    url: str | None = Field(default=None, description="where the cache is stored; where jobs are, if unset")
    enabled: bool = Field(default=True, description="whether anything is cached; DISABLE_CACHE=true turns it off, too")
    namespace: str = Field(
        default="app", pattern=r"^[A-Za-z0-9_.-]{1,40}$", description="tells applications apart that share a store"
    )
    ttl: Seconds = Field(default=3600.0, gt=0, description="how long a value is kept that is set without a time")
    timeout: Seconds = Field(default=0.5, gt=0, description="how long a look-up may wait for the store")
    lock: Seconds = Field(
        default=5.0, gt=0, description="after how long another process makes a value whose maker has vanished"
    )
    local_entries: int = Field(default=10_000, ge=0, description="most values in the memory of a process; 0: none")
    local_bytes: Bytes = Field(default=64 * 1024 * 1024, description="most bytes of values in the memory of a process")
    compress_above: Bytes = Field(default=8 * 1024, description="from which size on values are stored compressed")
    warm_timeout: Seconds = Field(default=30.0, gt=0, description="how long warming up may hold up the start")

    @classmethod
    def other_names(cls) -> dict[str, Any]:
        """The name that other applications use for the switch."""
        return {"enabled": False} if is_true(os.environ.get("DISABLE_CACHE")) else {}


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


class IdempotencySettings(Section):
    """`TORIL_IDEMPOTENCY_…`: what is done once per key. Its records are where jobs are."""

    model_config = SettingsConfigDict(env_prefix="TORIL_IDEMPOTENCY_")

    ttl: Seconds = Field(default=86_400.0, gt=0, description="how long what came of a key is kept")
    lock: Seconds = Field(
        default=30.0, gt=0, description="after how long another may do the work of a key whose doer has vanished"
    )
    timeout: Seconds = Field(default=2.0, gt=0, description="how long one question to the store may take")
    on_outage: Literal["fail", "run"] = Field(
        default="fail",
        description="what becomes of work with a key while the store is away: it is refused, or done unprotected",
    )


class OutboxSettings(Section):
    """`TORIL_OUTBOX_…`: jobs that are stored with a transaction of the application's own database."""

    model_config = SettingsConfigDict(env_prefix="TORIL_OUTBOX_")

    url: str | None = Field(
        default=None, description="the database whose outbox workers relay, as SQLAlchemy writes it; none, if unset"
    )
    table: str = Field(default="toril_outbox", description="the outbox's table")
    poll: Seconds = Field(default=0.5, gt=0, description="how often a worker looks into it by itself")


class SessionSettings(Section):
    """`TORIL_SESSIONS_…`: sessions of web users."""

    model_config = SettingsConfigDict(env_prefix="TORIL_SESSIONS_")

    url: str | None = Field(default=None, description="where sessions are stored; where jobs are, if unset")
    secret: str | None = Field(
        default=None,
        repr=False,
        description="random text of at least 32 bytes that cookies are signed with; several, newest first, with commas "
        "between them, while one is replaced",
    )
    idle: Seconds = Field(default=86_400.0, gt=0, description="how long a session lasts without a request")
    absolute: Seconds = Field(default=30 * 86_400.0, gt=0, description="how long a session lasts in any case")
    touch_every: Seconds = Field(
        default=300.0, ge=0, description="how often at most a request that changes nothing writes that it came"
    )
    grace: Seconds = Field(
        default=10.0, gt=0, description="how long the old id works for requests under way when a session gets a new one"
    )
    timeout: Seconds = Field(default=1.0, gt=0, description="how long one call may wait for the store")
    limit: Bytes = Field(default=64 * 1024, description="most bytes of a session as JSON")
    secure: bool = Field(
        default=True, description="whether browsers send the cookie over HTTPS only; false is for development"
    )
    encrypt: bool = Field(default=False, description="whether sessions are encrypted in the store")
    on_outage: Literal["refuse", "empty"] = Field(
        default="refuse",
        description="what becomes of requests while the store is away: an answer 503, or an empty session that is not "
        "stored",
    )


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
