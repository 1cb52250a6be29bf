"""The value of a session's cookie: a random id and a signature, so that made-up ids never reach the store."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets as random
from collections.abc import Sequence
from typing import NamedTuple

from toril.errors import ConfigError

LEAST_SECRET = 32
_ID_BYTES = 32
_ID_LENGTH = 43
_SIGNATURE_LENGTH = 43
_PURPOSE = b"toril.session.cookie.1:"


class Named(NamedTuple):
    """What a cookie says. `newest` is false when it was signed with a secret that is on its way out."""

    id: str
    newest: bool


class CookieSigner:
    """Signs with the first secret, believes all of them: put a new one in front, take the old one away later.

    Raises ConfigError for no secret, or one of less than 32 bytes.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        if not secrets:
            raise ConfigError(
                "sessions: expected a secret, found none: set TORIL_SESSIONS_SECRET to random text, made with: "
                "python -c 'import secrets; print(secrets.token_urlsafe(48))'"
            )
        for secret in secrets:
            if len(secret.encode()) < LEAST_SECRET:
                raise ConfigError(
                    f"sessions: expected secrets of at least {LEAST_SECRET} bytes, got one of {len(secret.encode())}."
                )
        self._keys = [hashlib.sha256(_PURPOSE + secret.encode()).digest() for secret in secrets]

    @property
    def secrets(self) -> int:
        """How many secrets are believed."""
        return len(self._keys)

    def new_id(self) -> str:
        """A fresh id of 256 random bits."""
        return random.token_urlsafe(_ID_BYTES)

    def signed(self, id: str) -> str:
        """The cookie's value for an id."""
        return f"{id}.{_signature(self._keys[0], id)}"

    def read(self, value: str) -> Named | None:
        """The id in a cookie's value; None for one that was not signed here."""
        id_, _, signature = value.partition(".")
        if len(id_) != _ID_LENGTH or len(signature) != _SIGNATURE_LENGTH or not value.isascii():
            return None
        for number, key in enumerate(self._keys):
            if hmac.compare_digest(_signature(key, id_), signature):
                return Named(id_, number == 0)
        return None


def key_of(id: str) -> str:
    """Where a session is stored: who reads the store learns no id."""
    return f"session:{hashlib.sha256(id.encode()).hexdigest()}"


def _signature(key: bytes, id: str) -> str:
    return base64.urlsafe_b64encode(hmac.digest(key, id.encode(), "sha256")).rstrip(b"=").decode()
