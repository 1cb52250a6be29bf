"""From a call of a function to its key and its tags, by templates that are checked when the function is decorated."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from string import Formatter
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from toril.errors import ConfigError, InvalidArguments

LONGEST_KEY = 400
_REFUSED_KINDS: dict[Any, str] = {
    inspect.Parameter.VAR_POSITIONAL: "*{name}",
    inspect.Parameter.VAR_KEYWORD: "**{name}",
}
_METHOD = ("self", "cls")


class CallKeys:
    """Makes keys and tags out of calls of one function.

    Raises ConfigError for a field of a template that is no parameter, and for functions that take `*args` or `**kwargs`
    and have no template of their own.
    """

    def __init__(self, function: Callable[..., Any], name: str, key: str | None, tags: Sequence[str]) -> None:
        self._what = f"cached function {name!r}"
        self._signature = inspect.signature(function)
        names = list(self._signature.parameters)
        # A method is the same for every instance, unless its template says otherwise.
        self._first = 1 if names and names[0] in _METHOD else 0
        self._names = names[self._first :]
        if key is None:
            self._check_parameters()
        self._name = name
        self._key = None if key is None else _Template(key, names, self._what, "key")
        self._tags = [_Template(tag, names, self._what, "tag") for tag in tags]
        self._defaults = any(
            parameter.default is not inspect.Parameter.empty for parameter in self._signature.parameters.values()
        )

    def key_and_tags(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
        """The key and the tags of a call. Raises TypeError as the function itself would, and InvalidArguments for an
        argument that cannot be part of a key.
        """
        if kwargs or self._defaults or len(args) != len(self._names) + self._first:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            given = bound.arguments
        else:
            given = dict(zip(self._signature.parameters, args, strict=True))
        if self._key is None:
            key = f"{self._name}:{self._listed([given[name] for name in self._names])}"
        else:
            key = self._key.filled(given)
        return bounded(key), tuple(sorted({bounded(tag.filled(given)) for tag in self._tags}))

    def _listed(self, values: list[Any]) -> str:
        return _json(values, self._what)

    def _check_parameters(self) -> None:
        for parameter in self._signature.parameters.values():
            refused = _REFUSED_KINDS.get(parameter.kind)
            if refused is not None:
                raise ConfigError(
                    f"{self._what}: takes {refused.format(name=parameter.name)}, of which no key can be made: give one "
                    'with key="…".'
                )


class _Template:
    """Text with fields, such as `"user:{user_id}"` or `"user:{user.id}"`."""

    def __init__(self, text: str, names: Sequence[str], what: str, kind: str) -> None:
        if not text:
            raise ConfigError(f"{what}: expected a {kind} that is not empty.")
        try:
            parts = list(Formatter().parse(text))
        except ValueError as error:
            raise ConfigError(f"{what}: the {kind} {text!r} cannot be read: {error}.") from None
        self._what = what
        self._parts: list[tuple[str, str | None, tuple[str, ...]]] = []
        for literal, field, spec, conversion in parts:
            if spec or conversion:
                raise ConfigError(f"{what}: the {kind} {text!r} has a format; expected plain {{names}} of parameters.")
            if field is None:
                self._parts.append((literal, None, ()))
                continue
            name, *path = field.split(".")
            if name not in names or not all(part.isidentifier() for part in path):
                raise ConfigError(
                    f"{what}: the {kind} {text!r} names {field!r}, which is no parameter; expected one of "
                    f"{', '.join(names) or 'none'}."
                )
            self._parts.append((literal, name, tuple(path)))

    def filled(self, given: dict[str, Any]) -> str:
        text = ""
        for literal, name, path in self._parts:
            text += literal
            if name is not None:
                value = given[name]
                for step in path:
                    value = getattr(value, step)
                text += _shown(value, self._what)
        return text


def bounded(key: str) -> str:
    """A key that stores can take: a long one keeps its begin, by which it can be deleted."""
    if len(key) <= LONGEST_KEY and "\x00" not in key:
        return key
    digest = hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return f"{key[: LONGEST_KEY - 40].replace(chr(0), '')}#{digest}"


def _shown(value: Any, what: str) -> str:
    """A value as part of a key: no two values of one type look alike, and none of them reaches into its neighbour."""
    if type(value) is str:
        return value if value.isalnum() else value.replace("%", "%25").replace(":", "%3A")
    if type(value) is int:
        return str(value)
    text = _json(value, what)
    return text.strip('"') if text.startswith('"') else text


def _json(value: Any, what: str) -> str:
    try:
        return to_json(value).decode()
    except (PydanticSerializationError, ValueError, UnicodeError) as error:
        raise InvalidArguments(
            f'{what}: an argument cannot be part of a key ({error}). Give a key of your own with key="…{{name}}…".'
        ) from None
