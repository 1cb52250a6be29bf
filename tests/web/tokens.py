"""Keys and tokens as an identity provider makes them."""

import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from starlette.requests import HTTPConnection

SECRET = "a-secret-of-at-least-thirty-two-bytes!"


def claims(sub: str = "ada", **more: Any) -> dict[str, Any]:
    """What a token of `sub` says, valid for an hour: some are made while tests are collected, long before they run."""
    return {"sub": sub, "exp": int(time.time()) + 3600, **more}


def shared(sub: str = "ada", *, secret: str = SECRET, algorithm: str = "HS256", **more: Any) -> str:
    """A token signed with the shared secret."""
    return jwt.encode(claims(sub, **more), secret, algorithm)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class Rsa:
    """An RSA key of an identity provider."""

    def __init__(self, kid: str, bits: int = 2048) -> None:
        self.kid = kid
        self.private = rsa.generate_private_key(public_exponent=65537, key_size=bits)

    def token(self, payload: dict[str, Any], **header: Any) -> str:
        return jwt.encode(payload, self.private, "RS256", headers={"kid": self.kid, **header})

    def public(self, **more: Any) -> dict[str, Any]:
        """The key as an entry of a key set."""
        shown: dict[str, Any] = json.loads(RSAAlgorithm.to_jwk(self.private.public_key()))
        return {**shown, "kid": self.kid, "use": "sig", **more}


class Ec:
    """An elliptic-curve key of an identity provider."""

    def __init__(self, kid: str) -> None:
        self.kid = kid
        self.private = ec.generate_private_key(ec.SECP256R1())

    def token(self, payload: dict[str, Any]) -> str:
        return jwt.encode(payload, self.private, "ES256", headers={"kid": self.kid})

    def public(self) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(self.private.public_key()))
        return {**shown, "kid": self.kid, "use": "sig"}


def request(*, headers: dict[str, str] | list[tuple[str, str]] | None = None, **scope: Any) -> HTTPConnection:
    """A request from this machine to this machine, with what differs."""
    pairs = list(headers.items()) if isinstance(headers, dict) else headers or []
    if not any(name.lower() == "host" for name, _ in pairs):
        pairs = [("host", "127.0.0.1:8000"), *pairs]
    return HTTPConnection(
        {
            "type": "http",
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs],
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 50000),
            **scope,
        }
    )
