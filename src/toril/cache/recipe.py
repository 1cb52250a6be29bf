"""How a kind of value is kept: for how long, what may be served when it is old, and how it becomes bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, SchemaError

from toril.errors import ConfigError, InvalidResult
from toril.kernel import codec
from toril.kernel.durations import Duration, milliseconds

T = TypeVar("T")

SingleFlight = Literal["everywhere", "process"]

LONGEST_MS = 366 * 86_400_000
_NULL = b"null"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape(Generic[T]):
    """How a value becomes bytes and comes back. Values of one shape may share what is in this process's memory."""

    dump: Callable[[T], bytes]
    load: Callable[[bytes], T]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(Generic[T]):
    """How values of one name are kept. Times are milliseconds.

    `stale_ms`: how long after `ttl_ms` an old value is served while a new one is made behind it. `error_ms`: how long
    it may be served when making a new one fails. `negative_ms`: the life of a value that is None; None gives it the
    common one, 0 keeps it not at all. `early`: in which last part of its life (0 to 1) a value that is asked for is
    made anew behind it. `everywhere`: whether one process makes it for all.
    """

    name: str
    shape: Shape[T]
    ttl_ms: int
    stale_ms: int = 0
    error_ms: int = 0
    negative_ms: int | None = None
    early: float = 0.0
    everywhere: bool = True

    @property
    def kept_ms(self) -> int:
        """How long a value that has stopped being fresh is of use."""
        return max(self.stale_ms, self.error_ms)


def recipe_of(
    name: str,
    shape: Shape[T],
    *,
    ttl: Duration,
    stale: Duration = 0,
    stale_if_error: Duration | None = None,
    negative: Duration | None = None,
    early: float = 0.0,
    single_flight: SingleFlight = "everywhere",
) -> Recipe[T]:
    """A recipe as people write it. Raises ConfigError."""
    ttl_ms, stale_ms = _life(ttl, "ttl"), _life(stale, "stale")
    if ttl_ms < 1:
        raise ConfigError(f"ttl: expected a time above 0, got {ttl!r}.")
    if not isinstance(early, int | float) or not 0 <= early < 1:
        raise ConfigError(f"early: expected a part of the ttl, from 0 to below 1, got {early!r}.")
    if single_flight not in ("everywhere", "process"):
        raise ConfigError(f"single_flight: expected 'everywhere' or 'process', got {single_flight!r}.")
    return Recipe(
        name=name,
        shape=shape,
        ttl_ms=ttl_ms,
        stale_ms=stale_ms,
        error_ms=stale_ms if stale_if_error is None else _life(stale_if_error, "stale_if_error"),
        negative_ms=None if negative is None else _life(negative, "negative"),
        early=float(early),
        everywhere=single_flight == "everywhere",
    )


@lru_cache(maxsize=1024)
def shape_of(annotation: Any) -> Shape[Any]:
    """The shape of an annotation: JSON, checked when it is read. Raises ConfigError for what JSON cannot carry."""
    try:
        adapter = _adapter(annotation)
    except (PydanticUserError, SchemaError, TypeError) as error:
        raise ConfigError(f"{annotation!r} cannot be cached as JSON: {str(error).splitlines()[0]}") from error
    load = adapter.validator.validate_json
    dump_json = adapter.dump_json

    def dump(value: Any) -> bytes:
        if value is None:
            return _NULL
        try:
            data = dump_json(value, warnings="error")
        except (PydanticSerializationError, ValueError, UnicodeError) as error:
            raise InvalidResult(f"A value for the cache is not what {annotation!r} allows: {error}.") from error
        return data

    return Shape(dump=dump, load=load)


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation, config=ConfigDict(ser_json_bytes="base64", val_json_bytes="base64"))
    except PydanticUserError as error:
        # A model brings a configuration of its own, and takes no other.
        if error.code != "type-adapter-config-unused":
            raise
        return TypeAdapter(annotation)


def _dump_any(value: Any) -> bytes:
    try:
        return codec.encode(value).encode()
    except ValueError as error:
        raise InvalidResult(f"A value for the cache is nothing that JSON can carry: {error}.") from error


PLAIN: Shape[Any] = Shape(dump=_dump_any, load=codec.decode)
"""Whatever JSON can carry, unchecked."""


def _life(value: Duration, what: str) -> int:
    found = milliseconds(value, what)
    if found > LONGEST_MS:
        raise ConfigError(f"{what}: expected at most 366 days, got {value!r}.")
    return found
