"""What is stored for a key: until when it is fresh, its tags with their generations, and the value's bytes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

# Version and flags, number of tags, until when it is fresh (ms), how long making it took (ms), bytes of all tag names.
_HEADER = struct.Struct(">BBQIH")
_VERSION = 0x10
_COMPRESSED = 0x01
GENERATION_BYTES = 8
MOST_TAGS = 100


class Entry(NamedTuple):
    """One stored value. `generations` are those of `tags` when it was made, joined."""

    payload: bytes
    fresh_until: int
    cost_ms: int
    tags: tuple[str, ...]
    generations: bytes


def encode(
    payload: bytes,
    *,
    fresh_until: int,
    cost_ms: int,
    tags: Sequence[str],
    generations: Sequence[bytes],
    compress_above: int,
) -> bytes:
    """The bytes of an entry; payloads above `compress_above` bytes are compressed when that makes them smaller."""
    flags = _VERSION
    if len(payload) > compress_above:
        smaller = zlib.compress(payload, 1)
        if len(smaller) < len(payload):
            payload, flags = smaller, flags | _COMPRESSED
    names = "\n".join(tags).encode()
    header = _HEADER.pack(flags, len(tags), fresh_until, min(cost_ms, 0xFFFFFFFF), len(names))
    return b"".join((header, *generations, names, payload))


def decode(data: bytes) -> Entry | None:
    """An entry out of its bytes; None for what another version has written, or what is damaged."""
    try:
        flags, count, fresh_until, cost_ms, names_length = _HEADER.unpack_from(data)
        if flags & 0xF0 != _VERSION:
            return None
        names_at = _HEADER.size + count * GENERATION_BYTES
        end = names_at + names_length
        payload = data[end:]
        if flags & _COMPRESSED:
            payload = zlib.decompress(payload)
        tags = tuple(data[names_at:end].decode().split("\n")) if count else ()
        if len(data) < end or len(tags) != count:
            return None
        return Entry(payload, fresh_until, cost_ms, tags, data[_HEADER.size : names_at])
    except (struct.error, zlib.error, UnicodeDecodeError):
        return None
