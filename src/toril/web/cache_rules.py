"""What HTTP says about keeping answers (RFC 9111), as far as a cache inside of an application needs it."""

from __future__ import annotations

from collections.abc import Iterable

Headers = list[tuple[bytes, bytes]]

REQUEST_OWN = frozenset({b"authorization", b"cookie", b"proxy-authorization"})
"""Request headers that make an answer somebody's own."""

_LONGEST_S = 366 * 86_400


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The value of a header, those of several joined; None without it. `name` in lower case."""
    found = [value for each, value in headers if each == name]
    return b", ".join(found) if found else None


def directives(value: bytes | None) -> dict[str, str]:
    """What a Cache-Control says, in lower case."""
    found: dict[str, str] = {}
    for part in (value or b"").decode("latin-1").split(","):
        name, _, argument = part.strip().partition("=")
        if name:
            found[name.lower()] = argument.strip().strip('"')
    return found


def listed(value: bytes | None) -> frozenset[bytes]:
    """The names in a header such as Vary, in lower case."""
    return frozenset(name.strip().lower() for name in (value or b"").split(b",") if name.strip())


def age_ms_of(said: dict[str, str], otherwise: int) -> int:
    """How long an answer is fresh: by its s-maxage, its max-age, or else as given. Milliseconds."""
    for name in ("s-maxage", "max-age"):
        if name in said:
            text = said[name]
            return min(int(text), _LONGEST_S) * 1000 if text.isdigit() else 0
    return otherwise


def matches(wanted: bytes, etag: bytes) -> bool:
    """Whether If-None-Match names an ETag; a weak one is as good as a strong one."""
    bare = etag.removeprefix(b"W/")
    return any(each.strip().removeprefix(b"W/") in (bare, b"*") for each in wanted.split(b","))
