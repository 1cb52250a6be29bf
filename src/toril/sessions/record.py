"""A session as it is stored."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Protocol

from toril.errors import InvalidArguments
from toril.kernel import codec

_log = logging.getLogger("toril.sessions")


class Cipher(Protocol):
    """Encryption at rest."""

    def seal(self, plain: bytes) -> bytes:
        """Encrypt and authenticate."""
        ...

    def unseal(self, sealed: bytes) -> bytes | None:
        """Decrypt; None for what was sealed otherwise."""
        ...


@dataclass(frozen=True, slots=True)
class Record:
    """One session. `created` and `seen` are milliseconds; `next` is where a session is that goes on under another id,
    `agent` and `address` say where its user logged in.
    """

    data: dict[str, Any]
    created: int
    seen: int
    user: str | None = None
    agent: str = ""
    address: str = ""
    next: str | None = None

    def encoded(self) -> bytes:
        """The record as JSON. Raises InvalidArguments for values that JSON cannot carry."""
        body: dict[str, Any] = {"d": self.data, "c": self.created, "s": self.seen}
        if self.user is not None:
            body |= {"u": self.user, "g": self.agent, "a": self.address}
        if self.next is not None:
            body["n"] = self.next
        try:
            return codec.encode(body).encode()
        except ValueError as error:
            raise InvalidArguments(f"session: expected values that JSON can carry: {error}") from None


def record_of(plain: bytes) -> Record | None:
    """The record of JSON; None, with a line in the log, for what is none."""
    try:
        body = codec.decode(plain)
        return Record(
            dict(body["d"]),
            int(body["c"]),
            int(body["s"]),
            body.get("u"),
            str(body.get("g", "")),
            str(body.get("a", "")),
            body.get("n"),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        _log.warning("A stored session cannot be read, and counts as none.")
        return None
