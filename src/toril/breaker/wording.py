"""Errors of other services as short text that can be shown: no keys, no passwords."""

from __future__ import annotations

import re

MOST_CHARS = 300
_HIDDEN = "***"
_IN_URL = re.compile(r"(?<=://)[^\s/@]+@")
_NAMED = re.compile(
    r"""(?ix)
    (authorization|api[-_ ]?key|[\w-]*(?:token|secret|password|passwd|credential)[\w-]*)  # what it is called
    (["']?\s*[:=]\s*["']?(?:bearer\s+|basic\s+)?)  # what stands between
    [^\s"',;&]+
    """
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}")
# Keys of providers are long words with digits in them, most with a prefix such as sk-.
_KEY = re.compile(
    r"\b(?:sk|pk|rk|ghp|gho|xox[abp]|AIza|AKIA)[-_]?[\w-]{8,}|\b(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{32,}\b"
)


def described(error: BaseException) -> str:
    """The error's class and message, shortened, without what looks like a secret."""
    try:
        message = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - an error that cannot say what it is must not hide the call's own
        message = ""
    message = _IN_URL.sub(f"{_HIDDEN}@", message[: 4 * MOST_CHARS])
    message = _BEARER.sub(rf"\1 {_HIDDEN}", message)
    message = _NAMED.sub(rf"\1\2{_HIDDEN}", message)
    message = _KEY.sub(_HIDDEN, message)
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= MOST_CHARS else text[: MOST_CHARS - 1] + "…"
