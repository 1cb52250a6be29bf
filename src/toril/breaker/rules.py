"""What a breaker is told: when it opens, for how long, and what counts as a failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from toril.errors import ConfigError
from toril.kernel.durations import Duration, milliseconds, seconds

LONGEST_NAME = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of a breaker, checked; times are milliseconds unless the name says otherwise.

    `timeout_s` is how long a call may take. It opens when of at least `volume` calls in `window_ms` a part of
    `error_threshold` failed, or a part of `slow_threshold` took longer than `slow_ms`. Open, it refuses calls for
    `reset_ms`; then `probes` calls are let through over all processes, and when they all succeed it closes. It opens
    for all processes once `quorum` of them have seen failures; one alone opens for itself before.
    """

    timeout_s: float | None = None
    error_threshold: float = 0.5
    volume: int = 10
    window_ms: int = 10_000
    reset_ms: int = 30_000
    probes: int = 1
    slow_ms: int | None = None
    slow_threshold: float = 1.0
    quorum: int = 1

    @property
    def probe_ms(self) -> int:
        """How long a probe may go on before its slot is given to another."""
        return max(10_000, round(2000 * (self.timeout_s or 30.0)))

    def patched(self, patch: Mapping[str, Any]) -> Rules:
        """These rules with what was changed while it runs; names that are not known here count as not given."""
        known = {name: value for name, value in patch.items() if name in CHANGEABLE}
        return replace(self, **known) if known else self


CHANGEABLE = frozenset(field.name for field in fields(Rules)) - {"quorum"}


def rules_of(
    name: str,
    *,
    timeout: Duration | None,
    error_threshold: float,
    volume: int,
    window: Duration,
    reset_after: Duration,
    probes: int,
    slow_after: Duration | None,
    slow_threshold: float,
    quorum: int,
) -> Rules:
    """Rules as people write them. Raises ConfigError."""
    what = f"Breaker {name!r}"
    return Rules(
        timeout_s=None if timeout is None else _positive(seconds(timeout, f"{what}: timeout"), f"{what}: timeout"),
        error_threshold=_part(error_threshold, f"{what}: error_threshold"),
        volume=_whole(volume, f"{what}: volume"),
        window_ms=max(1, milliseconds(window, f"{what}: window")),
        reset_ms=max(1, milliseconds(reset_after, f"{what}: reset_after")),
        probes=_whole(probes, f"{what}: probes"),
        slow_ms=None if slow_after is None else max(1, milliseconds(slow_after, f"{what}: slow_after")),
        slow_threshold=_part(slow_threshold, f"{what}: slow_threshold"),
        quorum=_whole(quorum, f"{what}: quorum"),
    )


def patch_of(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Changes as people write them (`timeout="1m"`), as `Rules` knows them. Raises ConfigError for a wrong one, and for
    one that cannot be changed while it runs.
    """
    what = f"Breaker {name!r}"
    found: dict[str, Any] = {}
    for word, value in given.items():
        if word in ("error_threshold", "slow_threshold"):
            found[word] = _part(value, f"{what}: {word}")
        elif word in ("volume", "probes"):
            found[word] = _whole(value, f"{what}: {word}")
        elif word == "timeout":
            found["timeout_s"] = _positive(seconds(value, f"{what}: timeout"), f"{what}: timeout")
        elif word in _DURATIONS:
            found[_DURATIONS[word]] = max(1, milliseconds(value, f"{what}: {word}"))
        else:
            raise ConfigError(
                f"{what}: expected one of error_threshold, slow_threshold, volume, probes, timeout, "
                f"{', '.join(_DURATIONS)}, got {word!r}."
            )
    return found


_DURATIONS = {"window": "window_ms", "reset_after": "reset_ms", "slow_after": "slow_ms"}


def check_breaker_name(name: Any, what: str = "breaker") -> str:
    """`name`, if a breaker or a group can be called so. Raises ConfigError."""
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise ConfigError(f"{what}: expected a name of 1 to {LONGEST_NAME} printable characters, got {name!r}.")
    return name


def _part(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ConfigError(f"{what}: expected a part above 0 and up to 1, such as 0.5, got {value!r}.")
    return float(value)


def _whole(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1_000_000:
        raise ConfigError(f"{what}: expected a whole number from 1 on, got {value!r}.")
    return value


def _positive(value: float, what: str) -> float:
    if value <= 0:
        raise ConfigError(f"{what}: expected more than 0 seconds; leave it out for none.")
    return value
