"""`Blocks`: what `Toril` offers beside jobs, each block on the store of its role. Assembly only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, TypeVar, overload

from pydantic import TypeAdapter

from toril.breaker.breakers import Breakers
from toril.cache.cache import Cache
from toril.cache.cached import CachedMaker
from toril.cache.recipe import SingleFlight
from toril.engine.open import Opening, check_url, open_engine
from toril.engine.protocol import Engine
from toril.engine.sheltered import ShelteredEngine
from toril.idempotency.guard import Guard
from toril.idempotency.once import Once
from toril.kernel.blocking import BlockingLoop
from toril.kernel.clock import Clock
from toril.kernel.durations import Duration
from toril.kernel.telemetry import Telemetry
from toril.outbox.destination import Destination
from toril.outbox.outbox import Outbox
from toril.ratelimit.limits import Limits
from toril.realtime.channel import Channel
from toril.realtime.name import ChannelName
from toril.realtime.realtime import Realtime
from toril.sessions.sessions import Sessions
from toril.settings import Settings

M = TypeVar("M")

Role = Literal["cache", "limits", "sessions"]
OpenEngine = Callable[[], Awaitable[Engine]]


class Stores:
    """The store of each role: the one that its `TORIL_<ROLE>_URL` names, else the one where jobs are.

    Roles that name the same URL share a store.
    """

    def __init__(self, jobs: Opening, jobs_url: str, settings: Settings, telemetry: Telemetry) -> None:
        self._jobs = jobs
        self._settings = settings
        self._telemetry = telemetry
        self._openings: dict[str, Opening] = {jobs_url: jobs}
        self._urls: dict[Role, str] = {
            "cache": settings.cache.url or jobs_url,
            "limits": settings.limits.url or jobs_url,
            "sessions": settings.sessions.url or jobs_url,
        }
        for role, url in self._urls.items():
            check_url(url, f"TORIL_{role.upper()}_URL")

    def of(self, role: Role) -> Opening:
        """The store of a role, opened at its first use."""
        return self._openings.setdefault(self._urls[role], Opening(lambda: self._made(self._urls[role])))

    def reopen(self) -> None:
        """Allow use again after `close`."""
        for opening in self._openings.values():
            opening.reopen()

    async def close(self) -> None:
        """Close every store that is not where jobs are."""
        await asyncio.gather(*(opening.close() for opening in self._openings.values() if opening is not self._jobs))

    def _made(self, url: str) -> Engine:
        # What these roles keep may be lost: a server that throws things away when it is full is good for them.
        redis = self._settings.redis.model_copy(update={"eviction": "allow"})
        engine = open_engine(url, telemetry=self._telemetry, redis=redis)
        return engine if engine.name == "sqlite" else ShelteredEngine(engine)


class Blocks:
    """The base of `Toril` that holds the blocks. Each gets the means it needs, and keeps its own rules to itself."""

    def __init__(
        self,
        stores: Stores,
        jobs: OpenEngine,
        *,
        settings: Settings,
        clock: Clock,
        telemetry: Telemetry,
        blocking: BlockingLoop,
        outbox: object | None = None,
    ) -> None:
        # `jobs` opens the store of jobs, for blocks that have no role of their own.
        self._stores = stores
        self._open_jobs = jobs
        self.settings = settings
        self.clock = clock
        self.telemetry = telemetry
        self._blocking = blocking
        self.outbox = Outbox(
            outbox or settings.outbox.url,
            table=settings.outbox.table,
            poll_s=settings.outbox.poll,
            destination=Destination(jobs),
            clock=clock,
        )
        self.limits = Limits(
            stores.of("limits").get,
            clock=clock,
            blocking=blocking,
            on_outage=settings.limits.on_outage,
            timeout_s=settings.limits.timeout,
        )
        self.limit = self.limits.limit
        self.sessions = Sessions(stores.of("sessions").get, clock=clock, settings=settings.sessions, blocking=blocking)
        self.realtime = Realtime(jobs, clock=clock, settings=settings.realtime, blocking=blocking)
        once = settings.idempotency
        self.once = Once(
            Guard(
                jobs,
                clock=clock,
                lock_ms=int(once.lock * 1000),
                timeout_s=once.timeout,
                on_outage=once.on_outage,
            ),
            blocking,
            ttl_s=once.ttl,
        )
        self.cache = Cache(stores.of("cache").get, clock=clock, blocking=blocking, settings=settings.cache)
        self.breakers = Breakers(jobs, clock=clock, blocking=blocking)
        self.breaker = self.breakers.breaker

    @overload
    def channel(
        self,
        name: str,
        *,
        event: str = "message",
        history: int | None = None,
        ttl: Duration | None = None,
        presence: bool = False,
    ) -> Channel[Any]: ...

    @overload
    def channel(
        self,
        name: str,
        message: type[M],
        *,
        event: str = "message",
        history: int | None = None,
        ttl: Duration | None = None,
        presence: bool = False,
    ) -> Channel[M]: ...

    def channel(
        self,
        name: str,
        message: Any = Any,
        *,
        event: str = "message",
        history: int | None = None,
        ttl: Duration | None = None,
        presence: bool = False,
    ) -> Channel[Any]:
        """A channel of messages, to publish to and to listen to.

        `name` may have fields, which `of` fills in: `toril.channel("code-gen:{job_id}", Progress).of(job_id=job.id)`.
        `message` is the type of its messages. `history` is how many of them are kept for those who come back
        (TORIL_REALTIME_HISTORY), `ttl` how long after the last one (TORIL_REALTIME_TTL). Server-sent events of it are
        called `event`. `presence` counts who listens. Raises ConfigError.
        """
        return Channel(
            self.realtime,
            ChannelName(name),
            TypeAdapter(message),
            event=event,
            history=self.settings.realtime.history if history is None else history,
            ttl=self.settings.realtime.ttl if ttl is None else ttl,
            presence=presence,
        )

    def cached(
        self,
        *,
        ttl: Duration,
        key: str | None = None,
        name: str | None = None,
        tags: Sequence[str] = (),
        stale: Duration = 0,
        stale_if_error: Duration | None = None,
        negative: Duration | None = None,
        early: float = 0.0,
        single_flight: SingleFlight = "everywhere",
    ) -> CachedMaker:
        """Keep the results of a function, async or not: `@toril.cached(ttl="5m", tags=["user:{user_id}"])`.

        `key` and `tags` are templates over its parameters; without a `key` all arguments are, under the function's
        name. For `stale` after the `ttl` the old result is served while a new one is made behind it, and for
        `stale_if_error` (by default the same) when that fails. `negative` is the life of a result that is None, 0 for
        not keeping it; `early` the last part of its life (0 to 1) in which a result that is asked for is made anew.
        Of all who ask for what is not there, in all processes, one makes it; `single_flight="process"`: in each.

        Results are JSON by the return annotation; what comes from this process's memory is the very object, so do not
        change it. Raises ConfigError, where it is written.
        """
        return CachedMaker(
            self.cache,
            ttl=ttl,
            key=key,
            name=name,
            tags=tags,
            stale=stale,
            stale_if_error=stale_if_error,
            negative=negative,
            early=early,
            single_flight=single_flight,
        )

    async def _close_blocks(self) -> None:
        """Let blocks end what they do in the running event loop, before their stores are closed."""
        await self.cache.close()
        await self.once.guard.close()
        await self.breakers.close()
        await self.limits.close()
        await self.sessions.close()
        await self.realtime.close()
        await self.outbox.close()
