"""`@toril.cached`: a function whose results are kept, with the function's own types."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterator, Sequence
from contextvars import copy_context
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, get_type_hints, overload

from toril.cache.cache import Cache
from toril.cache.key import CallKeys
from toril.cache.local import Node
from toril.cache.maker import Ask
from toril.cache.recipe import Recipe, SingleFlight, recipe_of, shape_of
from toril.errors import ConfigError
from toril.kernel.durations import Duration

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")

# Of these, two that are equal and of one type are the same argument.
_SIMPLE = frozenset({str, int, bool, bytes, type(None)})
_MOST_NAMED = 4096


class _Cached(Generic[P, R]):
    """What both kinds of cached functions have."""

    def __init__(self, function: Callable[..., Any], cache: Cache, keys: CallKeys, recipe: Recipe[Any]) -> None:
        functools.update_wrapper(self, function)  # type: ignore[arg-type]  # its subclasses are called
        self.function = function
        self.name = recipe.name
        self._cache = cache
        self._keys = keys
        self._recipe = recipe
        self._memos: dict[Hashable, Node] = {}
        self._named: dict[Hashable, tuple[str, tuple[str, ...]]] = {}
        self._stats = cache.counters.of(recipe.name)
        self._now_ms = cache.clock.now_ms

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key of a call."""
        return self._keys.key_and_tags(args, kwargs)[0]

    def tags(self, *args: P.args, **kwargs: P.kwargs) -> tuple[str, ...]:
        """The tags of a call."""
        return self._keys.key_and_tags(args, kwargs)[1]

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget the result of this call, in all processes."""
        await self._cache.delete(self.key(*args, **kwargs))

    def invalidate_sync(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """`invalidate` for synchronous code; blocks."""
        self._cache.blocking.run(lambda: self.invalidate(*args, **kwargs))

    def _hit(self, args: tuple[Any, ...]) -> Node | None:
        """A node that can be served as it is, found the short way."""
        try:
            node = self._memos.get((args, *map(type, args)))
        except TypeError:
            return None
        if node is None or node.dead or self._now_ms() >= node.refresh_at:
            return None
        node.asked = True
        self._stats.local += 1
        return node

    def _remember(self, args: tuple[Any, ...], node: Node | None) -> None:
        if node is not None and _SIMPLE.issuperset(map(type, args)):
            self._cache.local.memo(node, self._memos, (args, *map(type, args)))

    def _ask(self, args: tuple[Any, ...], kwargs: dict[str, Any], load: Callable[[], Awaitable[Any]]) -> Ask:
        if kwargs or not _SIMPLE.issuperset(map(type, args)):
            return Ask(*self._keys.key_and_tags(args, kwargs), self._recipe, load)
        short = (args, *map(type, args))
        named = self._named.get(short)
        if named is None:
            named = self._keys.key_and_tags(args, kwargs)
            if len(self._named) >= _MOST_NAMED:
                self._named.clear()
            self._named[short] = named
        return Ask(*named, self._recipe, load)


class CachedAsync(_Cached[P, R]):
    """An async function whose results are kept."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of this call, kept or new. Raises what the function raises."""
        if not kwargs:
            node = self._hit(args)
            if node is not None:
                value: R = node.value
                return value
        made = await self._cache.fetch(self._ask(args, kwargs, lambda: self.function(*args, **kwargs)))
        if not kwargs:
            self._remember(args, made.node)
        result: R = made.value
        return result

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Self: ...

    @overload
    def __get__(self: CachedAsync[Concatenate[S, Q], R], instance: S, owner: type[Any]) -> BoundAsync[Q, R]: ...

    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        return self if instance is None else BoundAsync(self, instance)


class CachedPlain(_Cached[P, R]):
    """A plain function whose results are kept. It runs in the thread that calls it; looking up blocks that thread."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of this call, kept or new. Raises what the function raises."""
        if not kwargs:
            node = self._hit(args)
            if node is not None:
                value: R = node.value
                return value
        context = copy_context()

        async def load() -> Any:
            # Other calls go on in the loop meanwhile.
            return await asyncio.to_thread(context.run, functools.partial(self.function, *args, **kwargs))

        ask = self._ask(args, kwargs, load)
        made = self._cache.blocking.run(lambda: self._cache.fetch(ask))
        if not kwargs:
            self._remember(args, made.node)
        result: R = made.value
        return result

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Self: ...

    @overload
    def __get__(self: CachedPlain[Concatenate[S, Q], R], instance: S, owner: type[Any]) -> BoundPlain[Q, R]: ...

    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        return self if instance is None else BoundPlain(self, instance)


class BoundAsync(Generic[Q, R]):
    """A cached async method of one object. Its results are those of every object of the class, by its arguments."""

    def __init__(self, cached: CachedAsync[..., R], instance: object) -> None:
        self._cached = cached
        self._instance = instance

    async def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> R:
        """As the method."""
        return await self._cached(self._instance, *args, **kwargs)

    async def invalidate(self, *args: Q.args, **kwargs: Q.kwargs) -> None:
        """Forget the result of this call, in all processes."""
        await self._cached.invalidate(self._instance, *args, **kwargs)


class BoundPlain(Generic[Q, R]):
    """A cached plain method of one object."""

    def __init__(self, cached: CachedPlain[..., R], instance: object) -> None:
        self._cached = cached
        self._instance = instance

    def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> R:
        """As the method."""
        return self._cached(self._instance, *args, **kwargs)

    def invalidate_sync(self, *args: Q.args, **kwargs: Q.kwargs) -> None:
        """Forget the result of this call, in all processes; blocks."""
        self._cached.invalidate_sync(self._instance, *args, **kwargs)


class CachedMaker:
    """What `@toril.cached(...)` answers: keeps the results of a function."""

    def __init__(
        self,
        cache: Cache,
        *,
        ttl: Duration,
        key: str | None,
        name: str | None,
        tags: Sequence[str],
        stale: Duration,
        stale_if_error: Duration | None,
        negative: Duration | None,
        early: float,
        single_flight: SingleFlight,
    ) -> None:
        self._cache = cache
        self._key = key
        self._name = name
        self._tags = (tags,) if isinstance(tags, str) else tuple(tags)
        self._recipe = functools.partial(
            recipe_of,
            ttl=ttl,
            stale=stale,
            stale_if_error=stale_if_error,
            negative=negative,
            early=early,
            single_flight=single_flight,
        )
        self._recipe("", shape_of(Any))

    @overload
    def __call__(  # type: ignore[overload-overlap]  # the first that fits counts
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> CachedAsync[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> CachedPlain[P, R]: ...

    def __call__(self, function: Callable[..., Any], /) -> Any:
        """Make the cached function. Raises ConfigError for templates that do not fit, or a result that is no JSON."""
        if not inspect.isfunction(function):
            raise ConfigError(f"cached: expected a function, got {function!r}.")
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise ConfigError(f"cached: {function.__qualname__} yields: only one result can be kept.")
        name = self._name or f"{function.__module__}.{function.__qualname__}".replace(".<locals>", "")
        keys = CallKeys(function, name, self._key, self._tags)
        recipe = self._recipe(name, shape_of(_returned(function)))
        kind = CachedAsync if inspect.iscoroutinefunction(function) else CachedPlain
        return kind(function, self._cache, keys, recipe)


def _returned(function: Callable[..., Any]) -> Any:
    """What a function says that it returns; without a word, anything that JSON can carry."""
    if "return" not in function.__annotations__:
        return Any
    for names in _frames_outside():
        try:
            return get_type_hints(function, localns=names, include_extras=True)["return"]
        except NameError as error:
            missing = error
    raise ConfigError(
        f"cached: an annotation of {function.__qualname__} cannot be resolved ({missing}): define it above."
    ) from missing


def _frames_outside() -> Iterator[dict[str, Any]]:
    """The names that each caller outside of this package knows, the nearest first."""
    yield {}
    frame = sys._getframe(1)
    while frame is not None:
        if not str(frame.f_globals.get("__name__", "")).startswith("toril."):
            yield dict(frame.f_locals)
        if frame.f_back is None:
            return
        frame = frame.f_back
