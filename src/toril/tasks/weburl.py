"""`WebUrl`: an http(s) address, checked when a job is enqueued and again when it runs."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

LONGEST = 8192
# Nearly every address; the rest is looked at more slowly.
_PLAIN = re.compile(r"https?://[A-Za-z0-9][A-Za-z0-9.-]*(?:[/?#][!-~]*)?")


def check_web_url(value: str) -> str:
    """`value` without surrounding blanks. Raises ValueError unless it is an absolute http or https address."""
    if len(value) <= LONGEST and _PLAIN.fullmatch(value):
        return value
    value = value.strip()
    if len(value) > LONGEST:
        raise ValueError(f"a web address of at most {LONGEST} characters was expected, this one has {len(value)}")
    if any(char <= " " or char == "\x7f" for char in value):
        raise ValueError("a web address without blanks and control characters was expected")
    try:
        parts = urlsplit(value)
        port_ok = parts.port is None or parts.port > 0
    except ValueError as error:
        raise ValueError(f"a web address was expected ({error})") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("a web address was expected that begins with http:// or https://")
    if not parts.hostname or not port_ok:
        raise ValueError("a web address was expected with a host, such as https://example.com/page")
    return value


WebUrl = Annotated[str, AfterValidator(check_web_url)]
"""A `str` that holds an absolute http or https address."""
