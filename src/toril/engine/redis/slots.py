"""Which slot of a Redis Cluster a key lies in, where a command names its key, and which node holds what."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from typing import Any, NamedTuple

import hiredis

from toril.engine.redis.records import text
from toril.engine.redis.wire import Arg

SLOTS = 16_384

# Where the first key stands in a command; most commands have it behind their name.
_KEY_AT = dict.fromkeys((b"XINFO", b"XGROUP", b"OBJECT", b"MEMORY", b"BITOP"), 2)
_COUNTED = frozenset({b"EVAL", b"EVALSHA", b"EVAL_RO", b"EVALSHA_RO", b"FCALL", b"FCALL_RO"})
_KEYLESS = frozenset(
    b"ACL ASKING AUTH CLIENT CLUSTER COMMAND CONFIG DBSIZE DEBUG ECHO FLUSHALL FLUSHDB FUNCTION HELLO INFO KEYS "
    b"LATENCY PING PSUBSCRIBE PUBLISH PUBSUB PUNSUBSCRIBE RANDOMKEY RESET ROLE SCAN SCRIPT SELECT SLOWLOG SUBSCRIBE "
    b"TIME UNSUBSCRIBE WAIT WAITAOF".split()
)

Place = tuple[str, int]
"""Host and port of a node."""


def tag_of(key: bytes) -> bytes:
    """What of a key decides its slot: the text between its first braces, or all of it."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1) if start >= 0 else -1
    return key[start + 1 : end] if end > start + 1 else key


def is_tagged(key: bytes) -> bool:
    """Whether other keys can be put into the slot of a key by its tag."""
    return tag_of(key) != key


def key_slot(key: Arg) -> int:
    """The slot of a key."""
    return crc_hqx(tag_of(_bytes(key)), 0) % SLOTS


def name_of(command: Sequence[Arg]) -> bytes:
    """The first word of a command, in capitals."""
    return _bytes(command[0]).upper()


def key_of(command: Sequence[Arg]) -> bytes | None:
    """The first key of a command; None for one without."""
    name = name_of(command)
    if name in _KEYLESS:
        return None
    at = _KEY_AT.get(name, 1)
    if name in _COUNTED:
        at = 3 if _bytes(command[2]) != b"0" else len(command)
    elif name in {b"XREAD", b"XREADGROUP"}:
        at = 1 + next((at for at, word in enumerate(command) if _bytes(word).upper() == b"STREAMS"), len(command))
    return _bytes(command[at]) if at < len(command) else None


def slot_of(command: Sequence[Arg]) -> int | None:
    """The slot that a command goes to, by its first key; None for one that any node can answer."""
    key = key_of(command)
    return None if key is None else key_slot(key)


def slot_of_encoded(payload: bytes) -> int | None:
    """As `slot_of`, for a command as it is written."""
    reader = hiredis.Reader()
    reader.feed(payload)
    return slot_of(reader.gets())


class Range(NamedTuple):
    """Slots from `first` to `last`, both included, that lie on the node `place`."""

    first: int
    last: int
    place: Place


def ranges_of(reply: Any, asked: str) -> list[Range]:
    """What CLUSTER SLOTS answers. A node that names no host is on the host `asked`."""
    found = []
    for first, last, master, *_ in reply:
        host = text(master[0]) if master[0] else ""
        found.append(Range(int(first), int(last), (asked if host in {"", "?"} else host, int(master[1]))))
    return sorted(found)


def _bytes(word: Arg) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()
