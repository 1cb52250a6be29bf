"""Which events of a queue are written to its log."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from toril.errors import ConfigError


class Told(StrEnum):
    """How much a queue tells."""

    ALL = "all"
    FINISHED = "finished"
    """How jobs ended, and what their handlers report (progress, log lines)."""
    OFF = "off"


def told_of(given: Any) -> Told:
    """As people write it. Raises ConfigError."""
    try:
        return Told(given)
    except ValueError:
        expected = ", ".join(repr(one.value) for one in Told)
        raise ConfigError(f"events: expected one of {expected}, got {given!r}.") from None
