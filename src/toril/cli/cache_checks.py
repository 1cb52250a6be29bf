"""What `toril doctor` looks at beside jobs: the cache, rate limits, and what is done once."""

from __future__ import annotations

import os

from toril.app import Toril
from toril.cli.checks import Check, Level
from toril.kernel.durations import human

_LOW_RATE = 0.4
_ENOUGH = 100


async def cache(toril: Toril) -> Check:
    """Whether the cache is of use."""
    if not toril.cache.enabled:
        return Check(
            "cache", Level.WARN, "is turned off", "unset DISABLE_CACHE and TORIL_CACHE_ENABLED when that is over"
        )
    stats = await toril.cache.stats()
    if not stats.store_ready:
        return Check(
            "cache", Level.WARN, "its store is away: values come from memory, or are made anew", "see the store"
        )
    if stats.hit_rate is None:
        return Check("cache", Level.PASS, "no look-ups in the last minute")
    found = f"hit rate {stats.hit_rate:.1%} of {stats.hits + stats.misses:,} look-ups"
    if stats.hit_rate < _LOW_RATE and stats.hits + stats.misses >= _ENOUGH:
        todo = "look at toril cache stats: what misses has too short a ttl, or a key that differs each time"
        return Check("cache", Level.WARN, found, todo)
    return Check("cache", Level.PASS, found)


def limits(toril: Toril) -> Check:
    """Where rate limits are counted, and whether for all processes."""
    settings = toril.settings.limits
    where = "where jobs are" if settings.url is None else "in TORIL_LIMITS_URL"
    found = f"counted {where}; while that is away: {settings.on_outage}"
    workers = os.environ.get("WEB_CONCURRENCY", "1")
    alone = (settings.url or toril.address.url).rstrip("/") == "sqlite:"
    if alone and workers.isdecimal() and int(workers) > 1:
        todo = "name a file or a Redis in TORIL_URL or TORIL_LIMITS_URL: each process counts for itself now"
        return Check("rate limits", Level.WARN, f"counted in memory, and WEB_CONCURRENCY is {workers}", todo)
    return Check("rate limits", Level.PASS, found)


def once(toril: Toril) -> Check:
    """What becomes of what is done once per key."""
    settings = toril.settings.idempotency
    found = (
        f"what came of a key is kept {human(settings.ttl)}, where jobs are; while that is away: {settings.on_outage}"
    )
    return Check("idempotency", Level.PASS, found)
