"""Durations, sizes and rates as people write them."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from fractions import Fraction
from typing import NamedTuple

from toril.errors import ConfigError

Duration = float | int | str | timedelta
"""Seconds (int, float), a timedelta, or text such as `"5m"`, `"1h30m"`, `"250ms"`, `"7d"`."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_SIZE_UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
# 100 years: above this a number is surely a mistake (milliseconds given as seconds, say).
LONGEST_S = 100 * 365 * 86400.0
_RATE = re.compile(r"(\d{1,9})\s*/\s*(\S.*)")


class Rate(NamedTuple):
    """At most so many of something in a time, in milliseconds."""

    most: int
    per_ms: int


def seconds(value: Duration, what: str = "duration") -> float:
    """`value` in seconds.

    `what` names the option in the error. Raises ConfigError for anything that is no duration, is negative or is not
    finite.
    """
    if isinstance(value, timedelta):
        result = value.total_seconds()
    elif isinstance(value, str):
        result = _parse(value, what)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        # An int too big for a float is too big for a duration.
        result = float(value) if abs(value) <= LONGEST_S else math.inf
    else:
        raise ConfigError(_expected(what, value))
    if not math.isfinite(result) or result < 0 or result > LONGEST_S:
        raise ConfigError(_expected(what, value))
    return result


def milliseconds(value: Duration, what: str = "duration") -> int:
    """`value` in whole milliseconds, rounded. Raises ConfigError as `seconds` does."""
    return round(seconds(value, what) * 1000)


def size_bytes(value: int | str, what: str = "size") -> int:
    """A size in bytes: an int, or text such as `"512kb"`, `"1MiB"`. Raises ConfigError for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match and match[2].lower() in _SIZE_UNITS:
            return round(Fraction(match[1]) * _SIZE_UNITS[match[2].lower()])
    raise ConfigError(f'{what}: expected bytes or text such as "512kb" or "1MiB", got {value!r}.')


def rate_of(value: str, what: str = "rate") -> Rate:
    """A rate out of text such as `"3000/s"` or `"1000/15m"`. Raises ConfigError for anything else, and for 0."""
    match = _RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match:
        time = match[2] if match[2][0].isdigit() else f"1{match[2]}"
        rate = Rate(int(match[1]), 0 if time.isdigit() else milliseconds(time, what))
        if rate.most and rate.per_ms:
            return rate
    raise ConfigError(f'{what}: expected a number per time, such as "3000/s" or "1000/15m", got {value!r}.')


def human(value_s: float) -> str:
    """Seconds as short text, for messages: `0.25 s`, `12 s`, `3 m 20 s`, `2 h 5 m`, `3 d 4 h`."""
    if value_s < 1:
        return f"{value_s:.2g} s"
    whole = int(value_s)
    for unit, length, below, name in ((86400, 3600, "h", "d"), (3600, 60, "m", "h"), (60, 1, "s", "m")):
        if whole >= unit:
            rest = whole % unit // length
            return f"{whole // unit} {name}" + (f" {rest} {below}" if rest else "")
    return f"{value_s:.3g} s"


def _parse(text: str, what: str) -> float:
    compact = text.strip().lower()
    total, position = 0.0, 0
    for match in _PART.finditer(compact):
        if compact[position : match.start()].strip():
            break
        total += float(match[1]) * _UNITS[match[2]]
        position = match.end()
    if not compact or compact[position:].strip():
        try:
            return float(compact)
        except ValueError:
            raise ConfigError(_expected(what, text)) from None
    return total


def _expected(what: str, found: object) -> str:
    return f'{what}: expected seconds, a timedelta or text such as "250ms", "5m", "1h30m", "7d", got {found!r}.'
