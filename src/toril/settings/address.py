"""Which store is used, and what decided it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote

from toril.settings.section import is_true, whole_number
from toril.settings.whole import Settings
from toril.settings.work import DEFAULT_URL

UNSET = "neither TORIL_URL nor REDIS_URL is set"
# One that is explicitly false keeps jobs off Redis, whatever REDIS_URL says.
_FLAGS = ("USE_BULLMQ", "BULLMQ_ENABLED", "REDIS_ENABLED")


class Address(NamedTuple):
    """The URL of the store, what decided it, and a warning for the log, if any."""

    url: str
    decided_by: str
    warning: str | None


def store_address(argument: str | None, settings: Settings, environ: Mapping[str, str] | None = None) -> Address:
    """Which store to use: the argument, else TORIL_URL, else REDIS_URL or REDIS_HOST (unless a flag is false), else an
    embedded SQLite file. Raises ConfigError for a REDIS_PORT or REDIS_DB that is no number.
    """
    environ = os.environ if environ is None else environ
    if argument is not None:
        return Address(argument, "the argument of Toril()", None)
    if settings.url:
        return Address(settings.url, "TORIL_URL", None)
    refused = next((name for name in _FLAGS if _is_false(environ.get(name))), None)
    named = next((name for name in ("REDIS_URL", "REDIS_HOST") if environ.get(name)), None)
    if refused is not None:
        return Address(DEFAULT_URL, f"{refused} is {environ[refused].strip()}, {UNSET}", None)
    if named == "REDIS_URL":
        return Address(environ[named].strip(), named, None)
    if named is not None:
        return Address(_url_of_parts(environ), named, None)
    wanted = next((name for name in _FLAGS if is_true(environ.get(name))), None)
    warning = wanted and (
        f"{wanted} is {environ[wanted].strip()}, but neither REDIS_URL nor REDIS_HOST is set: jobs go to the embedded "
        f"SQLite file. Set REDIS_URL=redis://localhost:6379, or take {wanted} away."
    )
    return Address(DEFAULT_URL, UNSET, warning)


def _is_false(value: str | None) -> bool:
    return value is not None and value.strip().lower() in ("0", "false", "no", "off")


def _url_of_parts(environ: Mapping[str, str]) -> str:
    host = environ["REDIS_HOST"].strip()
    port = whole_number("REDIS_PORT", environ.get("REDIS_PORT") or "6379", "a number from 1 to 65535")
    db = whole_number("REDIS_DB", environ.get("REDIS_DB") or "0", "a number from 0 on")
    user, password = environ.get("REDIS_USERNAME", ""), environ.get("REDIS_PASSWORD", "")
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
    return f"redis://{login}{f'[{host}]' if ':' in host else host}:{port}/{db}"
