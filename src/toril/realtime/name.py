"""Names of channels, with fields to be filled in: `"code-gen:{job_id}"`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from uuid import UUID

from toril.errors import ConfigError

Value = str | int | UUID
"""What a field of a name takes."""

_FIELD = re.compile(r"\{([^{}]*)\}")
_LONGEST = 480
# A value with these in it could make the name of another channel.
_ESCAPES = str.maketrans({mark: f"%{ord(mark):02X}" for mark in "%:{}\x00"})


class ChannelName:
    """A name that may have fields. Raises ConfigError for one that cannot be."""

    __slots__ = ("_parts", "fields", "template")

    def __init__(self, template: str) -> None:
        self.template = template
        parts = _FIELD.split(template)
        self._parts = parts
        self.fields = tuple(parts[1::2])
        for field in self.fields:
            if not field.isidentifier() or self.fields.count(field) > 1:
                raise ConfigError(
                    f"channel {template!r}: expected fields that are names, each once, such as {{job_id}}, "
                    f"got {{{field}}}."
                )
        if not template or len(template) > _LONGEST or any(mark in "".join(parts[::2]) for mark in "{}\x00"):
            raise ConfigError(
                f"channel: expected a name of 1 to {_LONGEST} characters with fields in braces, such as "
                f"'code-gen:{{job_id}}', got {template[:80]!r}."
            )

    def filled(self, values: Mapping[str, Value]) -> str:
        """The name with every field filled in. Raises ConfigError for a missing, unknown or odd value."""
        if values.keys() != set(self.fields):
            expected = ", ".join(self.fields) or "no fields"
            raise ConfigError(
                f"channel {self.template!r}: expected {expected}, got {', '.join(sorted(values)) or 'none'}."
            )
        parts = list(self._parts)
        parts[1::2] = [self._text(field, values[field]) for field in self.fields]
        name = "".join(parts)
        if len(name) > _LONGEST:
            raise ConfigError(
                f"channel {self.template!r}: expected a name of at most {_LONGEST} characters, got {len(name)}."
            )
        return name

    def _text(self, field: str, value: Value) -> str:
        if isinstance(value, bool) or not isinstance(value, str | int | UUID) or value == "":
            raise ConfigError(f"channel {self.template!r}: {field}: expected text or a number, got {value!r}.")
        return str(value).translate(_ESCAPES)
