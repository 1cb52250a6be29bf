"""Uniqueness: which jobs count as the same, and for how long.

On the wire this is BullMQ's deduplication: the key is its deduplication id, and `opts.de` carries it.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from string import Formatter
from typing import Any, NamedTuple

from toril.errors import ConfigError
from toril.kernel import codec
from toril.kernel.durations import Duration, milliseconds


@dataclass(frozen=True, slots=True)
class Unique:
    """At most one job of a key: a call whose key is taken stores nothing, and answers the job that has it.

    `key` is a text with the names of arguments in braces, such as `"report:{user_id}"`; it is shared with every task
    of the queue that uses the same text. Without it a job's key is its task and all of its arguments. The key is held
    until the job has ended: completed, failed for good, cancelled or removed.

    window: the key is held for this long from the call on, ended or not · extend: every call that finds the key taken
    starts the window anew · replace: a call takes the place of a job that is still delayed, with its own arguments and
    delay · keep_last: of the calls that come while the job is running, the last one is run once it has ended.

    With `delay`, `replace=True` and `extend=True` calls are debounced: the last one runs when no other has come for
    that long. Raises ConfigError for options that do not fit together.
    """

    key: str | None = None
    _: KW_ONLY
    window: Duration | None = None
    extend: bool = False
    replace: bool = False
    keep_last: bool = False

    def __post_init__(self) -> None:
        for name in ("extend", "replace", "keep_last"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"Unique {name}: expected True or False, got {getattr(self, name)!r}.")
        if self.key is not None:
            _check_template(self.key)
        if self.window is not None and milliseconds(self.window, "Unique window") <= 0:
            raise ConfigError(
                "Unique window: expected more than 0 seconds; leave it out to hold the key until the end."
            )
        if self.extend and self.window is None:
            raise ConfigError("Unique extend: expected a window, which is what it extends.")
        if self.keep_last and self.window is not None:
            raise ConfigError("Unique keep_last: expected no window, because the key is held until the job has ended.")

    @property
    def names(self) -> frozenset[str]:
        """The arguments that the key names."""
        return frozenset() if self.key is None else frozenset(name for _, name in _parts(self.key) if name is not None)

    def with_id(self, id: str) -> UniqueKey:
        """The rule for one job whose key has been worked out."""
        window_ms = None if self.window is None else milliseconds(self.window)
        return UniqueKey(id, window_ms, self.extend, self.replace, self.keep_last)


class UniqueKey(NamedTuple):
    """The key that a job wants, and how, as an engine gets it. `window_ms` None holds it until the job has ended; so
    does `keep_last`, whatever the window.
    """

    id: str
    window_ms: int | None = None
    extend: bool = False
    replace: bool = False
    keep_last: bool = False

    @property
    def held_ms(self) -> int | None:
        """How long the key is held; None until the job has ended."""
        return None if self.keep_last or not self.window_ms else self.window_ms

    def stored(self) -> str:
        """The JSON under `opts.de`."""
        value: dict[str, Any] = {"id": self.id}
        if self.window_ms is not None:
            value["ttl"] = self.window_ms
        for name, given in (("extend", self.extend), ("replace", self.replace), ("keepLastIfActive", self.keep_last)):
            if given:
                value[name] = True
        return codec.encode(value)


def filled(template: str, values: dict[str, str]) -> str:
    """A key's text with its arguments in place of their names."""
    return "".join(literal + ("" if name is None else values[name]) for literal, name in _parts(template))


def with_key(opts: str, key: UniqueKey) -> str:
    """Stored options with a unique key among them."""
    return f'{opts[:-1]},"de":{key.stored()}}}'


def _parts(template: str) -> list[tuple[str, str | None]]:
    return [(literal, name) for literal, name, _, _ in Formatter().parse(template)]


def _check_template(template: Any) -> None:
    expected = 'Unique key: expected text with arguments in braces, such as "report:{user_id}"'
    if not isinstance(template, str) or not template or not template.isprintable():
        raise ConfigError(f"{expected}, got {template!r}.")
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"{expected}, got {template!r} ({error}).") from None
    for _, name, spec, conversion in parts:
        if name is not None and (not name.isidentifier() or spec or conversion):
            raise ConfigError(f"{expected}, got {template!r}: {{{name}}} is not the bare name of an argument.")
