"""`Cache`: values with a time to live, in this process's memory first and in the store behind it.

Nothing here raises because the store is away: values are then made by their loaders, or served from memory.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from toril.cache.coherence import Coherence
from toril.cache.draft import Draft, Drafts
from toril.cache.key import bounded
from toril.cache.local import LocalTier
from toril.cache.maker import Ask, Loader, Made, Maker
from toril.cache.recipe import PLAIN, Recipe, Shape, SingleFlight, recipe_of, shape_of
from toril.cache.stats import CacheStats, Counters, added_up
from toril.cache.vault import Vault
from toril.cache.warming import Warming, WarmUp
from toril.engine.protocol import Engine
from toril.engine.reach import Reach
from toril.errors import EngineUnavailable
from toril.kernel import codec
from toril.kernel.blocking import BlockingLoop
from toril.kernel.clock import Clock
from toril.kernel.durations import Duration, seconds
from toril.settings import CacheSettings

T = TypeVar("T")
_MOST_PENDING = 10_000
_MOST_COUNTED = 100_000
_DIRECT = "direct"


class Cache:
    """The cache of one application: `toril.cache`. Values are JSON; keys and tags are text of any length.

    With `TORIL_CACHE_ENABLED` false, or `DISABLE_CACHE` set, nothing is kept and every look-up is a miss.
    """

    def __init__(
        self,
        open_engine: Callable[[], Awaitable[Engine]],
        *,
        clock: Clock,
        blocking: BlockingLoop,
        settings: CacheSettings,
    ) -> None:
        self.enabled = settings.enabled
        self.clock = clock
        self.blocking = blocking
        self.local = LocalTier(most=settings.local_entries, most_bytes=settings.local_bytes)
        self.counters = Counters()
        self._settings = settings
        self._reach = Reach(
            open_engine,
            what="cache",
            meanwhile="values come from memory, or are made anew",
            returning=self._make_up,
        )
        self._vault = Vault(
            self._reach,
            clock,
            namespace=settings.namespace,
            timeout_s=settings.timeout,
            compress_above=settings.compress_above,
        )
        self._coherence = Coherence(self._reach, self._vault, self.local, self.counters, clock, settings.namespace)
        self._maker = Maker(
            self._reach, self._vault, self.local, self.counters, clock, lock_ms=int(settings.lock * 1000)
        )
        self._drafts = Drafts(self._reach, self._vault, self.local, self._maker, self.counters, clock)
        self._warming = Warming()
        # What was dropped while the store was away, to be dropped there before anybody reads it again.
        self._pending: dict[tuple[str, str], None] = {}

    # Look-ups

    async def fetch(self, ask: Ask) -> Made:
        """The value of a key, made if it is not there. Raises what the loader raises, and InvalidResult for a value
        that is not what its annotation says.
        """
        recipe = ask.recipe
        if not self.enabled:
            return Made(await ask.loader(), True, None)
        self._coherence.ensure()
        stats, now = self.counters.of(recipe.name), self.clock.now_ms()
        node = self.local.get(ask.key)
        if node is not None and node.shape is recipe.shape and now < node.fresh_until + recipe.stale_ms:
            if now < node.fresh_until:
                stats.local += 1
            else:
                stats.stale += 1
            if now >= node.refresh_at:
                self._maker.refresh(ask)
            return Made(node.value, False, node)
        made = await self._stored(ask)
        if made is None:
            made = await self._maker.make(ask)
            if made.loaded:
                stats.misses += 1
            else:
                stats.store += 1
        return made

    async def draft(self, key: str, tags: Sequence[str] = (), *, name: str, anew: bool = False) -> Draft:
        """A look-up for code that makes the value itself. `name` is for the statistics; with `anew` it finds none."""
        if not self.enabled:
            return Draft(None, 0)
        self._coherence.ensure()
        return await self._drafts.open(bounded(key), _sorted(tags), name, anew=anew)

    async def get(self, key: str, default: Any = None, *, type: Any = None) -> Any:
        """The value of a key, or `default`. With `type` it is checked, and one that does not fit is none."""
        found = await self.get_many([key], type=type)
        return found.get(key, default)

    async def get_many(self, keys: Iterable[str], *, type: Any = None) -> dict[str, Any]:
        """The values of those keys that there are, in one round trip, or two when they have tags."""
        wanted = list(dict.fromkeys(keys))
        if not self.enabled or not wanted:
            return {}
        self._coherence.ensure()
        shape = PLAIN if type is None else shape_of(type)
        stats, now, found = self.counters.of(_DIRECT), self.clock.now_ms(), {}
        missing: dict[str, str] = {}
        for key in wanted:
            node = self.local.get(bounded(key))
            if node is not None and node.shape is shape and now < node.fresh_until:
                stats.local += 1
                found[key] = node.value
            else:
                missing[key] = bounded(key)
        if missing:
            found |= await self._read_many(missing, shape, now)
        return {key: found[key] for key in wanted if key in found}

    async def get_or_set(
        self,
        key: str,
        loader: Loader[T],
        *,
        ttl: Duration | None = None,
        stale: Duration = 0,
        stale_if_error: Duration | None = None,
        negative: Duration | None = None,
        tags: Sequence[str] = (),
        type: Any = None,
        single_flight: SingleFlight = "everywhere",
    ) -> T:
        """The value of a key, or what `await loader()` answers, which is then kept; the options are those of
        `toril.cached`. Of all who ask meanwhile, in all processes, one calls its loader.
        """
        recipe = recipe_of(
            _DIRECT,
            PLAIN if type is None else shape_of(type),
            ttl=self._settings.ttl if ttl is None else ttl,
            stale=stale,
            stale_if_error=stale_if_error,
            negative=negative,
            single_flight=single_flight,
        )
        made = await self.fetch(Ask(bounded(key), _sorted(tags), recipe, loader))
        return cast(T, made.value)

    # Changes

    async def set(
        self, key: str, value: Any, *, ttl: Duration | None = None, tags: Sequence[str] = (), type: Any = None
    ) -> None:
        """Keep a value for `ttl` (TORIL_CACHE_TTL without it). Raises InvalidResult for what JSON cannot carry."""
        await self.set_many({key: value}, ttl=ttl, tags=tags, type=type)

    async def set_many(
        self, items: Mapping[str, Any], *, ttl: Duration | None = None, tags: Sequence[str] = (), type: Any = None
    ) -> None:
        """As `set`, for many keys at once; all have the same tags."""
        shape: Shape[Any] = PLAIN if type is None else shape_of(type)
        recipe = recipe_of(_DIRECT, shape, ttl=self._settings.ttl if ttl is None else ttl)
        payloads = {bounded(key): shape.dump(value) for key, value in items.items()}
        if not self.enabled or not payloads:
            return
        self._coherence.ensure()
        named = _sorted(tags)
        self.local.drop(payloads)
        epoch, fresh_until = self.local.epoch, self.clock.now_ms() + recipe.ttl_ms
        try:
            generations = await self._vault.settle(named)
            await self._vault.write(
                payloads, fresh_until=fresh_until, ttl_ms=recipe.ttl_ms, tags=named, generations=generations
            )
            await self._coherence.tell(keys=list(payloads))
        except EngineUnavailable as error:
            self._reach.lost(error)
            self._later("key", payloads)
        for key, value in items.items():
            ask = Ask(bounded(key), named, recipe, _nothing)
            self._maker.keep(ask, value, fresh_until=fresh_until, size=len(payloads[ask.key]), epoch=epoch)

    async def delete(self, *keys: str) -> int:
        """Delete values; answers how many the store had. A value that is being made is not kept either."""
        named = [bounded(key) for key in keys]
        return await self._dropped("key", named, lambda: self._vault.delete(named))

    async def delete_prefix(self, prefix: str) -> int:
        """Delete every key that begins so, page by page, in time that grows with the store. Prefer tags. Answers about
        how many there were.
        """
        return await self._dropped("prefix", [prefix], lambda: self._vault.delete_prefix(prefix))

    async def invalidate(self, *tags: str) -> None:
        """Give up every value that has one of these tags, in one small write, however many there are. When this returns
        no process reads one from the store, and within milliseconds none from its memory.
        """
        named = _sorted(tags)

        async def give_up() -> int:
            await self._vault.invalidate(named)
            return 0

        await self._dropped("tag", named, give_up)

    async def clear(self) -> int:
        """Delete everything. Answers about how many values there were."""
        return await self.delete_prefix("")

    # Warming up, statistics

    def warm_up(self, hook: WarmUp) -> WarmUp:
        """Decorates an async function that fills the cache when the application starts, and answers with how many
        values. Raises ConfigError for a second one of the same name.
        """
        self._warming.add(hook)
        return hook

    async def warm(self, *, timeout: Duration | None = None) -> dict[str, int]:
        """Run all hooks side by side, for at most `timeout` (TORIL_CACHE_WARM_TIMEOUT), and log their counts. What a
        hook raises, or leaves undone, is logged: an application starts without it, too.
        """
        limit = self._settings.warm_timeout if timeout is None else seconds(timeout, "timeout")
        return await self._warming.run(limit) if self.enabled else {}

    def stats_here(self) -> CacheStats:
        """How well the cache works in this process, since it began. Asks the store nothing."""
        here = codec.decode(self.counters.stored(len(self.local), self.local.bytes))
        return added_up([here], store_ready=not self._reach.is_away)

    async def stats(self) -> CacheStats:
        """How well the cache works in all processes of the last minute, this one included."""
        here = self.counters.stored(len(self.local), self.local.bytes)
        try:
            notes = await self._vault.notes()
        except EngineUnavailable as error:
            self._reach.lost(error)
            return self.stats_here()
        if self.counters.names or not notes:
            notes[self._coherence.process] = here.encode()
        return added_up([codec.decode(note) for note in notes.values()], store_ready=True)

    async def count(self) -> int:
        """How many values the store has, counted up to 100,000. Raises EngineUnavailable."""
        return await self._vault.count(_MOST_COUNTED)

    async def close(self) -> None:
        """Let go of the store and of what is in memory."""
        await self._maker.close()
        await self._coherence.close()
        await self._reach.close()
        self.local.clear()

    # Within

    async def _stored(self, ask: Ask) -> Made | None:
        """What the store has, when it may be served."""
        stats = self.counters.of(ask.recipe.name)
        epoch = self.local.epoch
        try:
            entry = (await self._vault.read(ask.key, ask.tags)).entry
        except EngineUnavailable as error:
            self._reach.lost(error)
            stats.unreached += 1
            return None
        now = self.clock.now_ms()
        if entry is None or now >= entry.fresh_until + ask.recipe.stale_ms:
            return None
        try:
            value = self._maker.value_of(ask, entry)
        except ValueError:
            # Written by a release whose type was another one.
            return None
        size = len(entry.payload)
        node = self._maker.keep(ask, value, fresh_until=entry.fresh_until, size=size, epoch=epoch)
        if now < entry.fresh_until:
            stats.store += 1
        else:
            stats.stale += 1
        if now >= node.refresh_at:
            self._maker.refresh(ask)
        return Made(value, False, node)

    async def _read_many(self, missing: Mapping[str, str], shape: Shape[Any], now: int) -> dict[str, Any]:
        stats, epoch = self.counters.of(_DIRECT), self.local.epoch
        try:
            entries = await self._vault.read_many(list(missing.values()))
        except EngineUnavailable as error:
            self._reach.lost(error)
            stats.unreached += len(missing)
            entries = {}
        found: dict[str, Any] = {}
        recipe = Recipe(name=_DIRECT, shape=shape, ttl_ms=1)
        for key, stored in missing.items():
            entry = entries.get(stored)
            if entry is not None and now < entry.fresh_until:
                try:
                    found[key] = shape.load(entry.payload)
                except ValueError:
                    continue
                ask = Ask(stored, entry.tags, recipe, _nothing)
                size = len(entry.payload)
                self._maker.keep(ask, found[key], fresh_until=entry.fresh_until, size=size, epoch=epoch)
        stats.store += len(found)
        stats.misses += len(missing) - len(found)
        return found

    async def _dropped(self, kind: str, names: Sequence[str], drop: Callable[[], Awaitable[int]]) -> int:
        if not names or not self.enabled:
            return 0
        self._coherence.ensure()
        self._drop_here(kind, names)
        number = 0
        try:
            number = await drop()
            await self._coherence.tell(**{_TOLD[kind]: list(names)})
        except EngineUnavailable as error:
            self._reach.lost(error)
            self._later(kind, names)
        # Once more: a value may have been read from the store just before it was dropped there.
        self._drop_here(kind, names)
        return number

    def _drop_here(self, kind: str, names: Sequence[str]) -> None:
        if kind == "prefix":
            self.local.drop(prefixes=tuple(names))
        elif kind == "tag":
            self.local.drop(tags=names)
        else:
            self.local.drop(names)

    def _later(self, kind: str, names: Iterable[str]) -> None:
        """Remember what was dropped here, for when the store is back."""
        self._pending.update(dict.fromkeys((kind, name) for name in names))
        if len(self._pending) > _MOST_PENDING:
            # Too much to remember: everything is dropped then.
            self._pending = {("prefix", ""): None}

    async def _make_up(self, engine: Engine) -> None:
        """The store is back: drop there what was dropped here meanwhile."""
        pending = list(self._pending)
        direct = Vault(
            Reach(_opened(engine), what="cache", meanwhile="it is tried again"),
            self.clock,
            namespace=self._settings.namespace,
            timeout_s=self._settings.timeout,
            compress_above=self._settings.compress_above,
        )
        by_kind = {kind: [name for each, name in pending if each == kind] for kind in _TOLD}
        if by_kind["tag"]:
            await direct.invalidate(by_kind["tag"])
        if by_kind["key"]:
            await direct.delete(by_kind["key"])
        for prefix in by_kind["prefix"]:
            await direct.delete_prefix(prefix)
        for each in pending:
            self._pending.pop(each, None)


_TOLD = {"key": "keys", "tag": "tags", "prefix": "prefixes"}


def _opened(engine: Engine) -> Callable[[], Awaitable[Engine]]:
    async def opened() -> Engine:
        return engine

    return opened


def _sorted(tags: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({bounded(tag) for tag in tags}))


async def _nothing() -> None:
    return None
