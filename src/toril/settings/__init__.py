"""Every option that can come from the environment: its name, unit and default.

An option is `TORIL_<SECTION>_<NAME>`; the address of the store is `TORIL_URL`, or what hosting services and BullMQ
applications set: `REDIS_URL`, or `REDIS_HOST` and those beside it. Values are checked when they are read, and an error
names the variable.
"""

from toril.settings.address import UNSET, Address, store_address
from toril.settings.blocks import (
    CacheSettings,
    IdempotencySettings,
    LimitSettings,
    OutboxSettings,
    RealtimeSettings,
    SessionSettings,
)
from toril.settings.whole import SECTIONS, Settings, unknown_variables, variables
from toril.settings.work import DEFAULT_URL, JobSettings, RedisSettings, WorkerSettings

__all__ = [
    "DEFAULT_URL",
    "SECTIONS",
    "UNSET",
    "Address",
    "CacheSettings",
    "IdempotencySettings",
    "JobSettings",
    "LimitSettings",
    "OutboxSettings",
    "RealtimeSettings",
    "RedisSettings",
    "SessionSettings",
    "Settings",
    "WorkerSettings",
    "store_address",
    "unknown_variables",
    "variables",
]
