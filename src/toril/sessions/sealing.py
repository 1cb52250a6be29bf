"""Encryption at rest, by the Fernet of `cryptography` (extra `web`)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

_PURPOSE = b"toril.session.rest.1:"


class FernetCipher:
    """Encrypts with a key made of the first secret, decrypts with any."""

    def __init__(self, secrets: Sequence[str]) -> None:
        keys = [hashlib.sha256(_PURPOSE + secret.encode()).digest() for secret in secrets]
        self._fernet = MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in keys])

    def seal(self, plain: bytes) -> bytes:
        return self._fernet.encrypt(plain)

    def unseal(self, sealed: bytes) -> bytes | None:
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken:
            return None
