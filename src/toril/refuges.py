"""What stands in for a Redis that is away, as `TORIL_JOBS_ON_OUTAGE` says. Assembly only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from toril.engine.open import Opening, RedisUrl, SqliteAddress, open_engine, open_spool, parse_url, redacted
from toril.engine.protocol import Engine
from toril.engine.sheltered import Refuge
from toril.errors import ConfigError
from toril.kernel.blocking import BlockingLoop
from toril.kernel.clock import Clock
from toril.kernel.telemetry import Telemetry
from toril.outbox.destination import Destination
from toril.outbox.spooler import Spooler
from toril.settings import DEFAULT_URL, Settings
from toril.tasks.handle import Desk
from toril.worker.refuge import LocalRefuge, Policy
from toril.worker.worker import Worker

_AT_ONCE = 1000


class StandIn(Refuge, Protocol):
    """A refuge as the application has it."""

    def furnished(self, desk: Desk) -> Desk:
        """The desk, on which handles find the jobs of the refuge too."""
        ...

    async def resume(self) -> None:
        """See to what was left; called by workers."""
        ...

    def reopen(self) -> None:
        """Allow use again after `close`."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


class Means(NamedTuple):
    """What a refuge works with. `hire` makes a worker for a queue of a store, with so many slots, for a policy."""

    open_store: Callable[[], Awaitable[Engine]]
    desk_at: Callable[[Opening], Desk]
    hire: Callable[[Opening, str, int, str], Worker]
    blocking: BlockingLoop
    clock: Clock
    telemetry: Telemetry


def stand_in_of(url: str, settings: Settings, means: Means) -> StandIn | None:
    """What takes jobs in while the store at `url` is away, if anything does. Raises ConfigError."""
    policy = settings.jobs.on_outage
    if policy == "fail" or not isinstance(parse_url(url), RedisUrl):
        return None
    return _spooler(url, settings, means) if policy == "spool" else _local(policy, settings, means)


def _spooler(url: str, settings: Settings, means: Means) -> Spooler:
    # The store is known by its place and its keys, not by user or options, which may change meanwhile.
    place = redacted(url).partition("?")[0].rpartition("@")[2].rpartition("//")[2].rstrip("/")
    target = f"{place} {settings.redis.prefix}"
    spool = open_spool(settings.jobs.spool_url, target=target, limit=settings.jobs.spool_limit)
    return Spooler(spool, Destination(means.open_store), submit=means.blocking.submit, clock=means.clock)


def _local(policy: Policy, settings: Settings, means: Means) -> LocalRefuge:
    jobs = settings.jobs
    if not isinstance(parse_url(jobs.outage_url), SqliteAddress):
        raise ConfigError(
            f"TORIL_JOBS_OUTAGE_URL: expected an sqlite:// URL, such as {DEFAULT_URL}, got "
            f"{redacted(jobs.outage_url)!r}."
        )
    url = jobs.outage_url if policy == "embedded" else "sqlite://"
    opening = Opening(lambda: open_engine(url, telemetry=means.telemetry))
    # Jobs that run at once may wait for each other: they must not wait for a slot.
    slots = settings.worker.concurrency if policy == "embedded" else _AT_ONCE

    def hire(queue: str) -> Worker:
        return means.hire(opening, queue, slots, policy)

    return LocalRefuge(policy, opening=opening, hire=hire, desk=means.desk_at(opening))
