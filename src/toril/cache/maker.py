"""Makes values that are not there: once for all processes, with the old one at hand when that fails."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from toril.cache.entry import Entry
from toril.cache.flight import Flights
from toril.cache.local import LocalTier, Node
from toril.cache.recipe import Recipe
from toril.cache.stats import Counters
from toril.cache.vault import Found, Vault
from toril.engine.reach import Reach
from toril.errors import EngineUnavailable
from toril.kernel.clock import Clock

T = TypeVar("T")
Loader = Callable[[], Awaitable[T]]

_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.1
_PAUSE_AFTER_FAILURE_S = 1.0

_log = logging.getLogger("toril.cache")


class Ask(NamedTuple):
    """One look-up: the key, its tags (sorted), how its values are kept, and how one is made."""

    key: str
    tags: tuple[str, ...]
    recipe: Recipe[Any]
    loader: Loader[Any]


class Made(NamedTuple):
    """A value, whether it had to be made, and the node that holds it in memory, if any."""

    value: Any
    loaded: bool
    node: Node | None


class Maker:
    """Makes and stores values. `lock_ms` is how long another process waits for one that has died."""

    def __init__(
        self, reach: Reach, vault: Vault, local: LocalTier, counters: Counters, clock: Clock, *, lock_ms: int
    ) -> None:
        self._reach = reach
        self._vault = vault
        self._local = local
        self._counters = counters
        self._clock = clock
        self._lock_ms = lock_ms
        self._flights = Flights()
        self._resting: set[str] = set()

    async def make(self, ask: Ask) -> Made:
        """The value of a key that neither memory nor store had. Raises what the loader raises, unless an old value may
        stand in.
        """
        return await self._flights.share((ask.key, ask.recipe.name), lambda: self._made(ask))

    def refresh(self, ask: Ask) -> None:
        """Make a value anew behind the one that is served, unless that is under way or has just failed."""
        if ask.key not in self._resting:
            self._flights.begin((ask.key, "refresh"), lambda: self._refreshed(ask))

    async def close(self) -> None:
        """Stop what is being made in this loop."""
        await self._flights.close()

    def value_of(self, ask: Ask, entry: Entry) -> Any:
        """The value of an entry. Raises ValueError when it is none of this shape (any more)."""
        return ask.recipe.shape.load(entry.payload)

    def keep(self, ask: Ask, value: Any, *, fresh_until: int, size: int, epoch: int) -> Node:
        """Put a value into this process's memory."""
        recipe = ask.recipe
        node = Node(
            ask.key,
            value,
            shape=recipe.shape,
            fresh_until=fresh_until,
            refresh_at=fresh_until - int(recipe.ttl_ms * recipe.early) if recipe.early else fresh_until,
            size=size,
            tags=ask.tags,
        )
        self._local.put(node, epoch=epoch)
        return node

    async def _made(self, ask: Ask) -> Made:
        node = self._local.get(ask.key)
        if node is not None and node.shape is ask.recipe.shape and self._clock.now_ms() < node.fresh_until:
            return Made(node.value, False, node)
        try:
            if ask.recipe.everywhere and (await self._reach.engine()).capabilities.shared:
                return await self._made_for_all(ask)
            found = await self._vault.read(ask.key, ask.tags)
        except EngineUnavailable as error:
            self._reach.lost(error)
            return await self._loaded(ask, None, None, node)
        return await self._loaded(ask, found, None, node)

    async def _made_for_all(self, ask: Ask) -> Made:
        token, pause = os.urandom(8), _FIRST_PAUSE_S
        old = self._local.get(ask.key)
        while True:
            # The lock first: what is read then has been stored by whoever had it before.
            locked = await self._vault.lock(ask.key, token, ms=self._lock_ms)
            epoch = self._local.epoch
            found = await self._vault.read(ask.key, ask.tags)
            made = self._fresh(ask, found, epoch)
            if made is not None:
                if locked:
                    await self._vault.unlock(ask.key, token)
                return made
            if locked:
                return await self._loaded(ask, found, token, old)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE_S)

    def _fresh(self, ask: Ask, found: Found, epoch: int) -> Made | None:
        entry = found.entry
        if entry is None or self._clock.now_ms() >= entry.fresh_until:
            return None
        try:
            value = self.value_of(ask, entry)
        except ValueError:
            return None
        node = self.keep(ask, value, fresh_until=entry.fresh_until, size=len(entry.payload), epoch=epoch)
        return Made(value, False, node)

    async def _loaded(self, ask: Ask, found: Found | None, token: bytes | None, old: Node | None) -> Made:
        """Make the value, and store it. `found` is None while the store is away, `token` proves the lock, if any."""
        if token is None:
            with self._local.making(ask.key) as making:
                made = await self._run(ask, found, old)
            if making.spoiled:
                await self._forget(ask.key)
            return made
        renewal = asyncio.get_running_loop().create_task(self._renew(ask.key, token))
        try:
            made = await self._run(ask, found, old)
        except BaseException:
            await self._unlock(ask.key, token)
            raise
        finally:
            renewal.cancel()
        if not await self._unlock(ask.key, token) and made.loaded:
            # The key was deleted while its value was being made: that value may be the old one.
            await self._forget(ask.key)
        return made

    async def _run(self, ask: Ask, found: Found | None, old: Node | None) -> Made:
        stats, epoch, generations = self._counters.of(ask.recipe.name), self._local.epoch, None
        if found is not None:
            generations = await self._settled(ask, found)
        began = perf_counter()
        stats.loads += 1
        try:
            value = await ask.loader()
        except Exception as error:  # noqa: BLE001 - whatever it is: an old value may stand in for it
            stats.load_errors += 1
            return self._instead(ask, found, old, error)
        cost_ms = int((perf_counter() - began) * 1000)
        stats.load_ms += cost_ms
        return await self._stored(ask, value, generations, cost_ms, epoch)

    async def _settled(self, ask: Ask, found: Found) -> tuple[bytes, ...] | None:
        try:
            return await self._vault.settle(ask.tags, found.generations)
        except EngineUnavailable as error:
            self._reach.lost(error)
            return None

    async def _stored(
        self, ask: Ask, value: Any, generations: tuple[bytes, ...] | None, cost_ms: int, epoch: int
    ) -> Made:
        recipe = ask.recipe
        payload = recipe.shape.dump(value)
        ttl_ms = recipe.ttl_ms if value is not None or recipe.negative_ms is None else recipe.negative_ms
        if not ttl_ms:
            return Made(value, True, None)
        fresh_until = self._clock.now_ms() + ttl_ms
        if generations is not None:
            try:
                await self._vault.write(
                    {ask.key: payload},
                    fresh_until=fresh_until,
                    ttl_ms=ttl_ms + recipe.kept_ms,
                    tags=ask.tags,
                    generations=generations,
                    cost_ms=cost_ms,
                )
            except EngineUnavailable as error:
                self._reach.lost(error)
        node = self.keep(ask, value, fresh_until=fresh_until, size=len(payload), epoch=epoch)
        return Made(value, True, node)

    def _instead(self, ask: Ask, found: Found | None, old: Node | None, error: Exception) -> Made:
        """An old value, when the recipe allows one so old; else raises the error."""
        now, error_ms = self._clock.now_ms(), ask.recipe.error_ms
        entry = None if found is None else found.entry
        if old is not None and not old.dead and old.shape is ask.recipe.shape and now < old.fresh_until + error_ms:
            _log.warning("%s failed for %r (%r): its old value is served.", ask.recipe.name, ask.key, error)
            return Made(old.value, False, old)
        if entry is not None and now < entry.fresh_until + error_ms:
            try:
                value = self.value_of(ask, entry)
            except ValidationError:
                raise error from None
            _log.warning("%s failed for %r (%r): its old value is served.", ask.recipe.name, ask.key, error)
            return Made(value, False, None)
        raise error

    async def _refreshed(self, ask: Ask) -> None:
        """Make it anew, unless another process does so, or has done so."""
        token: bytes | None = None
        try:
            found: Found | None = None
            try:
                epoch = self._local.epoch
                found = await self._vault.read(ask.key, ask.tags)
                made = self._fresh(ask, found, epoch)
                if made is not None and made.node is not None and self._clock.now_ms() < made.node.refresh_at:
                    return
                if ask.recipe.everywhere and (await self._reach.engine()).capabilities.shared:
                    wanted = os.urandom(8)
                    if not await self._vault.lock(ask.key, wanted, ms=self._lock_ms):
                        return
                    token = wanted
            except EngineUnavailable as error:
                self._reach.lost(error)
            made = await self._loaded(ask, found, token, None)
            if not made.loaded:
                self._rest(ask.key)
        except Exception as error:  # noqa: BLE001 - nobody waits for it, and the old value is still served
            _log.warning("%s failed for %r behind its old value: %r.", ask.recipe.name, ask.key, error)
            self._rest(ask.key)

    def _rest(self, key: str) -> None:
        """Do not try again at once what has just failed."""
        self._resting.add(key)
        asyncio.get_running_loop().call_later(_PAUSE_AFTER_FAILURE_S, self._resting.discard, key)

    async def _renew(self, key: str, token: bytes) -> None:
        """Keep the lock of a value that takes long to make."""
        while True:
            await asyncio.sleep(self._lock_ms / 3000)
            try:
                if not await self._vault.renew(key, token, ms=self._lock_ms):
                    return
            except EngineUnavailable as error:
                self._reach.lost(error)

    async def _unlock(self, key: str, token: bytes) -> bool:
        try:
            return await self._vault.unlock(key, token)
        except EngineUnavailable as error:
            self._reach.lost(error)
            return True

    async def _forget(self, key: str) -> None:
        self._local.drop([key])
        try:
            await self._vault.delete([key])
        except EngineUnavailable as error:
            self._reach.lost(error)
