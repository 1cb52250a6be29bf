"""`Breakers`: every breaker of an application, by name and by group."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from toril.breaker.breaker import Breaker
from toril.breaker.record import Record, decoded
from toril.breaker.rules import Rules, check_breaker_name, rules_of
from toril.breaker.shared import Shared
from toril.breaker.stats import BreakerStats
from toril.breaker.store import PREFIX, BreakerStore
from toril.engine.protocol import Engine
from toril.errors import ConfigError
from toril.kernel.blocking import BlockingLoop
from toril.kernel.clock import Clock
from toril.kernel.durations import Duration


class Breakers:
    """The breakers of one application, over one store."""

    def __init__(
        self,
        open_engine: Callable[[], Awaitable[Engine]],
        *,
        clock: Clock,
        blocking: BlockingLoop,
        timeout_s: float = 0.5,
    ) -> None:
        self._open = open_engine
        self._clock = clock
        self._known: dict[str, tuple[Breaker, Shared, bool]] = {}
        self._store = BreakerStore(
            open_engine,
            clock=clock,
            blocking=blocking,
            timeout_s=timeout_s,
            names=lambda: list(self._known),
            seen=self._seen,
            unreached=self._unreached,
        )

    def __iter__(self) -> Iterator[Breaker]:
        return iter([breaker for breaker, _, _ in self._known.values()])

    def __len__(self) -> int:
        return len(self._known)

    def breaker(
        self,
        name: str,
        *,
        group: str = "",
        timeout: Duration | None = None,
        error_threshold: float = 0.5,
        volume: int = 10,
        window: Duration = 10.0,
        reset_after: Duration = 30.0,
        probes: int = 1,
        slow_after: Duration | None = None,
        slow_threshold: float = 1.0,
        quorum: int = 1,
        ignore: tuple[type[BaseException], ...] = (),
    ) -> Breaker:
        """A circuit breaker, shared by all processes: `toril.breaker("AI-openai", timeout="30s", volume=10)`.

        It opens when of at least `volume` calls within `window` the part `error_threshold` failed, or the part
        `slow_threshold` took longer than `slow_after`; calls longer than `timeout` are stopped and have failed. After
        `reset_after` it lets `probes` calls through, over all processes, and closes when they all succeed. It opens for
        everybody once `quorum` processes have seen failures; one that sees too many opens for itself at once. Errors of
        a kind in `ignore` are no failures. `group` is for people. Raises ConfigError, also when the name has been
        declared differently before.
        """
        check_breaker_name(name)
        rules = rules_of(
            name,
            timeout=timeout,
            error_threshold=error_threshold,
            volume=volume,
            window=window,
            reset_after=reset_after,
            probes=probes,
            slow_after=slow_after,
            slow_threshold=slow_threshold,
            quorum=quorum,
        )
        if group:
            check_breaker_name(group, "breaker: group")
        return self._made(name, rules, group, ignore, declared=True)

    def named(self, name: str) -> Breaker:
        """The breaker of a name, with default rules when it is not declared (yet)."""
        known = self._known.get(name)
        return known[0] if known is not None else self._made(check_breaker_name(name), Rules(), "", (), declared=False)

    async def stats(self) -> tuple[BreakerStats, ...]:
        """Every breaker of this process, by name, with the shared state as it is now if the store can be asked."""
        await self._store.refresh()
        return tuple(self._known[name][0].stats for name in sorted(self._known))

    async def grouped(self) -> dict[str, dict[str, BreakerStats]]:
        """`stats`, by group and name; those without a group are under an empty text."""
        found: dict[str, dict[str, BreakerStats]] = {}
        for stats in await self.stats():
            found.setdefault(stats.group, {})[stats.name] = stats
        return found

    async def stored(self, limit: int = 1000) -> dict[str, Record]:
        """What the store knows of breakers, declared here or not, by name. Raises EngineUnavailable."""
        engine = await self._open()
        now = self._clock.now_ms()
        keys: list[str] = []
        cursor: str | None = None
        while len(keys) < limit:
            page = await engine.keyvalue.scan(PREFIX, now=now, cursor=cursor)
            keys += page.keys
            cursor = page.cursor
            if cursor is None:
                break
        keys = sorted(set(keys))[:limit]
        values = await engine.keyvalue.get(keys, now=now) if keys else ()
        return {key.removeprefix(PREFIX): decoded(raw) for key, raw in zip(keys, values, strict=True)}

    async def told(self) -> None:
        """Wait until what this process had to tell of failures is told, or the store is known to be away."""
        await self._store.idle()

    async def close(self) -> None:
        """Look after the store no longer."""
        await self._store.close()

    def _made(
        self, name: str, rules: Rules, group: str, ignore: tuple[type[BaseException], ...], *, declared: bool
    ) -> Breaker:
        known = self._known.get(name)
        if known is not None:
            breaker, shared, was_declared = known
            if not was_declared:
                shared.declare(rules)
                breaker.group = group
                breaker.ignore = ignore
                self._known[name] = (breaker, shared, True)
            elif (shared.declared, breaker.group, breaker.ignore) != (rules, group, ignore):
                raise ConfigError(
                    f"Breaker {name!r} is declared twice, as {shared.declared} and {rules}: declare it once, and use "
                    f"toril.breakers.named({name!r}) elsewhere."
                )
            return breaker
        shared = Shared(name, rules, self._store)
        breaker = Breaker(shared, group=group, ignore=ignore)
        self._known[name] = (breaker, shared, declared)
        return breaker

    def _seen(self, values: dict[str, bytes | None]) -> None:
        for name, raw in values.items():
            self._known[name][1].seen(raw)

    def _unreached(self) -> None:
        for _, shared, _ in self._known.values():
            shared.unreached()
