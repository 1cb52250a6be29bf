"""`Limits`: every limit of an application, over one store, and what holds while that store is away."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal, NamedTuple, get_args

from toril.engine.ports.limits import NEVER, Check, Verdict
from toril.engine.ports.metering import Meters
from toril.engine.protocol import Engine
from toril.engine.reach import Reach
from toril.errors import ConfigError, EngineUnavailable
from toril.kernel.blocking import BlockingLoop
from toril.kernel.clock import Clock
from toril.kernel.durations import Duration, rate_of, seconds
from toril.ratelimit.decision import Decision

OnOutage = Literal["local", "open", "closed"]
Algorithm = Literal["window", "gcra"]
Counted = Literal["store", "local", "nobody"]

_log = logging.getLogger("toril.limits")

_LONGEST_NAME = 100
_LONGEST_KEY = 256
_MOST_RATES = 1000
_CLOSED_RETRY_MS = 1000
_MEANWHILE = {
    "local": "each process counts limits for itself",
    "open": "limits let everything through",
    "closed": "limits refuse everything",
}


class Hit(NamedTuple):
    """One key under one limit, to be checked together with others: made by `Limit.on`."""

    limit: Limit
    key: str
    cost: int = 1


@dataclass(slots=True)
class LimitStats:
    """What a limit of this process has said so far. `shadowed` would have been refused; `unreached` were decided
    without the store.
    """

    allowed: int = 0
    refused: int = 0
    shadowed: int = 0
    unreached: int = 0


class Limits:
    """The limits of one application. Several can be checked in one step: `hit(per_user.on("42"), per_ip.on(ip))`."""

    def __init__(
        self,
        open_engine: Callable[[], Awaitable[Engine]],
        *,
        clock: Clock,
        blocking: BlockingLoop,
        on_outage: OnOutage = "local",
        timeout_s: float = 0.5,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self._reach = Reach(open_engine, what="limits", meanwhile=_MEANWHILE[on_outage])
        self._clock = clock
        self.blocking = blocking
        self._on_outage: OnOutage = on_outage
        self._timeout_s = timeout_s
        self._local = Meters()
        self._sleep = sleep
        self._known: dict[str, Limit] = {}

    def limit(
        self,
        name: str,
        rate: str,
        *,
        algorithm: Algorithm = "window",
        burst: int | None = None,
        shadow: bool = False,
        on_outage: OnOutage | None = None,
    ) -> Limit:
        """How often something may happen in a time, counted over all processes: `toril.limit("api", "1000/15m")`.

        A `window` never lets more than that through in any such time; `gcra` spreads them evenly and lets `burst`
        through at once. With `shadow` it counts, and refuses nothing. `on_outage` is what holds while the store is
        away: TORIL_LIMITS_ON_OUTAGE, if not given. Raises ConfigError, also for a name that was declared differently.
        """
        made = Limit(self, name, rate, algorithm=algorithm, burst=burst, shadow=shadow, on_outage=on_outage)
        known = self._known.setdefault(name, made)
        if known.declared != made.declared:
            raise ConfigError(
                f"Limit {name!r} is declared twice, as {known.declared} and {made.declared}: choose another name, or "
                "use `limit.at(rate)` for another rate under the same name."
            )
        return known

    async def hit(self, *hits: Hit) -> tuple[Decision, ...]:
        """Check several limits in one round trip: all are counted when all have room, else none is. Limits that only
        watch are counted by themselves. Raises ConfigError for a key that stands under one limit twice.
        """
        checks = {hit: hit.limit.check(hit.key, hit.cost) for hit in hits}
        if len({check.key for check in checks.values()}) < len(hits):
            raise ConfigError("hit: expected each key of a limit once, found one twice; add up its cost.")
        groups = [[hit] for hit in hits if hit.limit.shadow]
        if binding := [hit for hit in hits if not hit.limit.shadow]:
            groups.append(binding)
        found: dict[Hit, Decision] = {}
        for group in groups:
            verdicts, by = await self._taken([checks[hit] for hit in group], count=True)
            for hit, verdict in zip(group, verdicts, strict=True):
                found[hit] = hit.limit.decided(hit.key, verdict, by, self._on_outage)
        return tuple([found[hit] for hit in hits])

    async def one(self, limit: Limit, key: str, cost: int, *, count: bool) -> Decision:
        """Check one limit; with `count` false nothing is counted."""
        [verdict], by = await self._taken([limit.check(key, cost)], count=count)
        return limit.decided(key, verdict, by, self._on_outage)

    async def reset(self, keys: Iterable[str]) -> int:
        """Forget what was counted for keys as the store knows them. Raises EngineUnavailable."""
        named = list(keys)
        self._local.reset(named)
        engine = await self._reach.engine()
        return await engine.limits.reset(named)

    async def wait(self, limit: Limit, key: str, cost: int, timeout_s: float | None) -> Decision:
        """Hit until there is room. Raises LimitExceeded when there is none in time, or never will be."""
        deadline = None if timeout_s is None else monotonic() + timeout_s
        while True:
            decision = await self.one(limit, key, cost, count=True)
            if decision.allowed:
                return decision
            wait = decision.retry_after
            if wait is None or (deadline is not None and wait > deadline - monotonic()):
                raise decision.refusal()
            # Those who wait for the same room do not come back all at once.
            await self._sleep(wait * (1 + 0.05 * random.random()))

    async def close(self) -> None:
        """Look after the store no longer."""
        await self._reach.close()

    async def _taken(self, checks: list[Check], *, count: bool) -> tuple[tuple[Verdict, ...], Counted]:
        try:
            engine = await self._reach.engine()
            verdicts = await engine.limits.take(
                checks, now=self._clock.now_ms(), count=count, timeout_s=self._timeout_s
            )
        except EngineUnavailable as error:
            self._reach.lost(error)
            return self._local.take(checks, now=self._clock.now_ms(), count=count), "local"
        return verdicts, "store"


class Limit:
    """How often a key may do something in a time, counted over all processes. Made by `toril.limit(…)`.

    `rate` is text such as `"1000/15m"`. The `window` algorithm never lets more than that through in any such time;
    `gcra` spreads them evenly and lets `burst` (by default all) through at once. With `shadow` it watches only: it
    counts, and refuses nothing. `on_outage` is what holds while the store is away.
    """

    def __init__(
        self,
        limits: Limits,
        name: str,
        rate: str,
        *,
        algorithm: Algorithm = "window",
        burst: int | None = None,
        shadow: bool = False,
        on_outage: OnOutage | None = None,
    ) -> None:
        _check_options(name, algorithm, burst, on_outage)
        most, per_ms = rate_of(rate)
        if burst is not None and not 1 <= burst <= most:
            raise ConfigError(f"Limit {name!r}: burst: expected 1 to {most}, got {burst!r}.")
        self.name = name
        self.rate = rate
        self.most = most
        self.window_s = per_ms / 1000
        self.shadow = shadow
        self.on_outage = on_outage
        self.stats = LimitStats()
        self._limits = limits
        self._at: dict[str, Limit] = {}
        self._per_ms = per_ms
        self._burst = 0 if algorithm == "window" else burst or most
        self._size = self._burst or most
        # What was counted in a window of one length means nothing in another one.
        self._prefix = f"{name}:{per_ms}:" if algorithm == "window" else f"{name}:~:"

    def __repr__(self) -> str:
        return f"<Limit {self.name!r}: {self.declared}>"

    @property
    def declared(self) -> str:
        """Its options, for people."""
        spread = f", gcra with a burst of {self._burst}" if self._burst else ""
        away = f", {self.on_outage} on outage" if self.on_outage else ""
        return f"{self.rate}{spread}{', shadow' if self.shadow else ''}{away}"

    def on(self, key: str, cost: int = 1) -> Hit:
        """This key under this limit, for `toril.limits.hit(…)`."""
        return Hit(self, key, cost)

    def at(self, rate: str) -> Limit:
        """The same limit with another rate, for callers who have one of their own. It counts under the same name."""
        made = self._at.get(rate)
        if made is None:
            burst = self._burst and min(self._burst, rate_of(rate).most)
            made = Limit(
                self._limits,
                self.name,
                rate,
                algorithm="gcra" if burst else "window",
                burst=burst or None,
                shadow=self.shadow,
                on_outage=self.on_outage,
            )
            made.stats = self.stats
            if len(self._at) < _MOST_RATES:
                self._at[rate] = made
        return made

    async def hit(self, key: str = "", cost: int = 1) -> Decision:
        """Count `cost` for a key, if there is room. Raises ConfigError for a cost below 0."""
        return await self._limits.one(self, key, cost, count=True)

    async def together(self, hits: Sequence[Hit]) -> tuple[Decision, ...]:
        """Check several limits of the same application in one step, as `toril.limits.hit` does."""
        return await self._limits.hit(*hits)

    async def peek(self, key: str = "", cost: int = 1) -> Decision:
        """What `hit` would say; nothing is counted."""
        return await self._limits.one(self, key, cost, count=False)

    async def reset(self, *keys: str) -> int:
        """Forget what was counted for keys; answers how many had something counted. Raises EngineUnavailable."""
        return await self._limits.reset([self.check(key, 0).key for key in keys or ("",)])

    async def wait(self, key: str = "", cost: int = 1, *, timeout: Duration | None = None) -> Decision:
        """Wait until there is room, and count. Raises LimitExceeded when there will be none within `timeout`."""
        timeout_s = None if timeout is None else seconds(timeout, "timeout")
        return await self._limits.wait(self, key, cost, timeout_s)

    @asynccontextmanager
    async def slot(self, key: str = "", cost: int = 1, *, timeout: Duration | None = None) -> AsyncIterator[Decision]:
        """`async with limit.slot(key):` waits as `wait` does before it enters, around a call to somebody else's API."""
        yield await self.wait(key, cost, timeout=timeout)

    def hit_sync(self, key: str = "", cost: int = 1) -> Decision:
        """`hit` for synchronous code; blocks."""
        return self._limits.blocking.run(lambda: self.hit(key, cost))

    def wait_sync(self, key: str = "", cost: int = 1, *, timeout: Duration | None = None) -> Decision:
        """`wait` for synchronous code; blocks."""
        return self._limits.blocking.run(lambda: self.wait(key, cost, timeout=timeout))

    def check(self, key: str, cost: int) -> Check:
        """The check of a key. Raises ConfigError for a cost below 0."""
        if cost < 0:
            raise ConfigError(f"Limit {self.name!r}: cost: expected a whole number from 0 on, got {cost!r}.")
        if len(key) > _LONGEST_KEY or "\x00" in key:
            key = f"#{hashlib.blake2b(key.encode(errors='surrogatepass'), digest_size=20).hexdigest()}"
        return Check(self._prefix + key, self.most, self._per_ms, self._burst, cost)

    def decided(self, key: str, verdict: Verdict, by: Counted, on_outage: OnOutage) -> Decision:
        """What a verdict means for the caller. `on_outage` holds unless this limit has a policy of its own."""
        remaining, retry_ms, reset_ms = verdict
        stats = self.stats
        if by == "local":
            stats.unreached += 1
            policy = self.on_outage or on_outage
            if policy == "open":
                remaining, retry_ms, reset_ms, by = self._size, 0, 0, "nobody"
            elif policy == "closed":
                remaining, retry_ms, reset_ms, by = 0, _CLOSED_RETRY_MS, _CLOSED_RETRY_MS, "nobody"
        retry_after = None if retry_ms == NEVER else retry_ms / 1000
        if retry_ms and self.shadow:
            stats.shadowed += 1
            _log.info("Limit %r would have refused %r.", self.name, key)
        elif retry_ms:
            stats.refused += 1
            return Decision(
                False, self.name, key, self._size, self.window_s, remaining, retry_after, reset_ms / 1000, False, by
            )
        stats.allowed += 1
        return Decision(
            True, self.name, key, self._size, self.window_s, remaining, 0.0, reset_ms / 1000, retry_ms != 0, by
        )


def _check_options(name: str, algorithm: str, burst: int | None, on_outage: str | None) -> None:
    if not isinstance(name, str) or not 1 <= len(name) <= _LONGEST_NAME or ":" in name:
        raise ConfigError(f"limit: expected a name of 1 to {_LONGEST_NAME} characters without colons, got {name!r}.")
    if algorithm not in get_args(Algorithm):
        raise ConfigError(f"Limit {name!r}: algorithm: expected 'window' or 'gcra', got {algorithm!r}.")
    if burst is not None and algorithm != "gcra":
        raise ConfigError(f"Limit {name!r}: burst: expected with algorithm='gcra' only; a window has none.")
    if on_outage is not None and on_outage not in get_args(OnOutage):
        raise ConfigError(f"Limit {name!r}: on_outage: expected 'local', 'open' or 'closed', got {on_outage!r}.")
