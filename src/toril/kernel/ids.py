"""Job ids: `j`, nine characters of milliseconds, ten characters of randomness, in lower-case Crockford base 32.

Ids sort by time of creation, and ids of one process never go backwards: within a millisecond, or when the clock is set
back, the random part is counted up instead of drawn again (the monotonic rule of the ULID specification,
github.com/ulid/spec).
"""

from __future__ import annotations

import re
import secrets
import threading

from toril.kernel.clock import Clock, SystemClock

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_RANDOM_BITS = 50
# Fresh randomness leaves the top bit free, so that counting up cannot overflow within a millisecond.
_FRESH_BITS = _RANDOM_BITS - 1

CUSTOM_ID = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


class JobIds:
    """Makes job ids. Safe to share between threads."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._last_ms = -1
        self._random = 0
        self._prefix = ""

    def new(self) -> str:
        """The next id, greater than every id that this object made before."""
        with self._lock:
            now = self._clock.now_ms()
            if now > self._last_ms:
                self._last_ms = now
                self._random = secrets.randbits(_FRESH_BITS)
                self._prefix = "j" + _encode(now, 10)[1:]
            else:
                self._random += 1
            return self._prefix + _encode(self._random, 10)


def _encode(value: int, width: int) -> str:
    """`value` in base 32, padded to an even `width`, two characters per step."""
    parts = []
    for _ in range(width // 2):
        parts.append(_PAIRS[value & 1023])
        value >>= 10
    parts.reverse()
    return "".join(parts)


def created_ms(job_id: str) -> int | None:
    """Milliseconds at which an id of ours was made, or None for an id of another kind."""
    if len(job_id) != 20 or job_id[0] != "j":
        return None
    value = 0
    for char in job_id[1:]:
        digit = _ALPHABET.find(char)
        if digit < 0:
            return None
        value = value * 32 + digit
    return value >> _RANDOM_BITS


def token_hex(size: int = 8) -> str:
    """Random hexadecimal text, for worker, batch and boot ids."""
    return secrets.token_hex(size)
