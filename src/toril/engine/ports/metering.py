"""How limits are counted, in Python: pure arithmetic over what is kept for a key. `lua/limits/take.lua` is the same
for Redis; the conformance suite holds the two together.

Times are whole microseconds. A meter is kept as a tuple of integers: `(full,)` for GCRA, the time at which all is free
again; `(start, used, used, …)` for a window, the start of its newest part and what was counted in each, newest first.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from toril.engine.ports.limits import NEVER, Check, Verdict
from toril.errors import ConfigError

PARTS = 16
LONGEST_KEY = 512
# What is in memory is bounded by a number of keys; the one used longest ago is forgotten.
_MOST_IN_MEMORY = 100_000
Meter = tuple[int, ...]


class Measured(NamedTuple):
    """The verdict on a check, the meter if it is counted, and when that meter may be forgotten."""

    verdict: Verdict
    counted: Meter
    until: int


class Meters:
    """Meters in this process's memory. Safe to share between threads."""

    def __init__(self, most: int = _MOST_IN_MEMORY) -> None:
        self._most = most
        self._meters: OrderedDict[str, tuple[Meter, int]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, checks: Sequence[Check], *, now: int, count: bool = True) -> tuple[Verdict, ...]:
        """As `LimitStore.take`. Raises ConfigError."""
        now *= 1000
        meters, measured, fits = self._meters, [], True
        with self._lock:
            for check in checks:
                if not 1 <= len(check.key) <= LONGEST_KEY:
                    check_key(check.key)
                known = meters.get(check.key)
                one = measure(check, known[0] if known is not None and known[1] > now else (), now)
                fits = fits and one.verdict.retry_ms == 0
                measured.append(one)
            if count and fits:
                for check, one in zip(checks, measured, strict=True):
                    if check.cost:
                        meters[check.key] = (one.counted, one.until)
                        meters.move_to_end(check.key)
                while len(meters) > self._most:
                    meters.popitem(last=False)
        return tuple([one.verdict for one in measured])

    def reset(self, keys: Sequence[str]) -> int:
        """As `LimitStore.reset`."""
        with self._lock:
            return sum(self._meters.pop(key, None) is not None for key in keys)


def check_key(key: str) -> None:
    """Raises ConfigError for a key that no store takes."""
    if not 1 <= len(key) <= LONGEST_KEY or "\x00" in key:
        raise ConfigError(f"key: expected text of 1 to {LONGEST_KEY} characters without NUL, got {key[:80]!r}.")


def measure(check: Check, meter: Meter, now: int) -> Measured:
    """Judge a check by its meter; an empty meter is one that nothing was counted in."""
    return _gcra(check, meter, now) if check.burst else _window(check, meter, now)


def _gcra(check: Check, meter: Meter, now: int) -> Measured:
    step = max(1, -(-check.per_ms * 1000 // check.most))
    room = check.burst * step
    present = max(meter[0] if meter else now, now)
    full = present + check.cost * step
    if full - now > room:
        retry = NEVER if check.cost > check.burst else _ms(full - now - room)
        return Measured(Verdict((room - present + now) // step, retry, _ms(present - now)), meter, present)
    return Measured(Verdict((room - full + now) // step, 0, _ms(full - now)), (full,), full)


def _window(check: Check, meter: Meter, now: int) -> Measured:
    length = max(1, -(-check.per_ms * 1000 // PARTS))
    if meter and now - meter[0] < length:
        # Nothing has left the window since: by far the most frequent case.
        total = sum(meter) - meter[0] + check.cost
        if total <= check.most and meter[1] + check.cost:
            left = meter[0] + (PARTS + 1) * length - now
            counted = (meter[0], meter[1] + check.cost, *meter[2:])
            return Measured(Verdict(check.most - total, 0, _ms(left)), counted, now + left)
    start, used = _moved(meter, now, length)
    total = sum(used)
    if total + check.cost > check.most:
        wait = _wait(used, total + check.cost - check.most, start, length, now)
        retry = NEVER if check.cost > check.most else _ms(wait)
        return Measured(Verdict(max(check.most - total, 0), retry, _ms(_left(used, start, length, now))), meter, now)
    used[0] += check.cost
    left = _left(used, start, length, now)
    verdict = Verdict(check.most - total - check.cost, 0, _ms(left))
    return Measured(verdict, (start, *used), now + left)


def _moved(meter: Meter, now: int, length: int) -> tuple[int, list[int]]:
    """The meter's parts as they are now: those that have left the window are gone."""
    if not meter:
        return now, [0]
    start, *used = meter
    steps = max(now - start, 0) // length
    if steps > PARTS:
        return now, [0]
    return start + steps * length, ([0] * steps + used)[: PARTS + 1]


def _wait(used: list[int], wanted: int, start: int, length: int, now: int) -> int:
    """How long until so much has come free."""
    for place in range(len(used) - 1, -1, -1):
        wanted -= used[place]
        if wanted <= 0:
            return start + (PARTS + 1 - place) * length - now
    return 0


def _left(used: list[int], start: int, length: int, now: int) -> int:
    """How long until the newest part that holds something has left the window."""
    for place, count in enumerate(used):
        if count:
            return start + (PARTS + 1 - place) * length - now
    return 0


def _ms(us: int) -> int:
    return -(-us // 1000)
