"""Which key a job of a task has: the text of `Unique(key=…)` filled with its arguments, or a digest of them all."""

from __future__ import annotations

import hashlib
from typing import Any

from toril.errors import ConfigError
from toril.jobs.unique import Unique, UniqueKey, filled
from toril.kernel import codec
from toril.tasks.signature import Signature

_DIGEST = 32
# A key is part of the name of a record in the store; a longer one is cut and told apart by its digest.
_LONGEST_KEY = 200


class KeyRule:
    """The rule of one task with one `Unique`. Raises ConfigError when the key names no parameter of the task."""

    __slots__ = ("_signature", "_task", "_unique")

    def __init__(self, unique: Unique, task: str, signature: Signature) -> None:
        unknown = sorted(unique.names - set(signature.names))
        if unknown:
            known = ", ".join(signature.names) or "none"
            raise ConfigError(f"Task {task!r}: the key of Unique names {unknown[0]!r}, expected a parameter ({known}).")
        self._unique = unique
        self._task = task
        self._signature = signature

    def key_of(self, data: str) -> UniqueKey:
        """The key of a job with these arguments (JSON). Arguments that are left out count with their defaults."""
        values = self._signature.with_defaults(data)
        if self._unique.key is None:
            return self._unique.with_id(f"{self._task}:{_digest(_canonical(values))}")
        key = filled(self._unique.key, {name: _shown(values.get(name)) for name in self._unique.names})
        if len(key) > _LONGEST_KEY:
            key = f"{key[:_LONGEST_KEY]}:{_digest(key)}"
        return self._unique.with_id(key)


def _canonical(value: Any) -> str:
    """JSON text that is the same for equal values, in whatever order they were given."""
    return codec.encode(_sorted(value))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(each) for each in value] if isinstance(value, list) else value


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else _canonical(value)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]
