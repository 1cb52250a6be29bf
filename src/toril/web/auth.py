"""Who is asking: the `Auth` protocol, and JSON Web Tokens as the one that comes with Toril."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jwt
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection

from toril.errors import ConfigError
from toril.kernel.durations import Duration, seconds
from toril.web.jwks import (
    KINDS,
    MOST_BYTES,
    FixedKeys,
    Keys,
    KeysUnavailable,
    LoadedKeys,
    PublicKey,
    check_url,
    fetch,
    keys_of,
    parse,
)
from toril.web.problems import RETRY_AFTER_S, ApiError

_log = logging.getLogger("toril.web")

Claims = Mapping[str, Any]
LONGEST_TOKEN = 8192
LONGEST_SUBJECT = 256
# RFC 7518 section 3.2: a key of at least the size of the hash.
_HASH_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (jwt.ExpiredSignatureError, "The token has expired."),
    (jwt.ImmatureSignatureError, "The token is not valid yet."),
    (jwt.InvalidAudienceError, "The token is not for this audience."),
    (jwt.InvalidIssuerError, "The token is not from the expected issuer."),
    (jwt.MissingRequiredClaimError, "The token lacks a required claim."),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is asking. `subject` owns the jobs that it adds; an `admin` sees all jobs and the counts."""

    subject: str
    admin: bool = False

    def sees(self, owner: str | None) -> bool:
        """True when jobs of `owner` are this identity's to see. Jobs without an owner are for admins only."""
        same = owner is not None and hmac.compare_digest(owner.encode(), self.subject.encode())
        return self.admin or (same and bool(self.subject))


class Auth(Protocol):
    """Finds out who sends a request. Write your own for sessions, API keys or a gateway's headers."""

    async def identify(self, request: HTTPConnection) -> Identity | None:
        """The identity behind a request, None when it carries no credentials (the answer is 401 then).

        Raises ApiError for credentials that are wrong, with the status and words of the answer.
        """
        ...


@runtime_checkable
class DescribedAuth(Auth, Protocol):
    """An `Auth` that also says how it looks in the OpenAPI schema."""

    @property
    def scheme(self) -> Callable[..., Any]:
        """One of FastAPI's security schemes, made with `auto_error=False`."""
        ...


@dataclass(frozen=True, slots=True)
class ClaimHas:
    """A check for `JWTAuth(admin=…)`: true when the claim equals `value` or is a list that holds it."""

    claim: str
    value: str

    def __call__(self, claims: Claims) -> bool:
        found = claims.get(self.claim)
        return self.value in found if isinstance(found, list) else found == self.value


ROLE_ADMIN = ClaimHas("role", "admin")


class JWTAuth:
    """Bearer tokens in the `Authorization` header, checked with one shared secret or with public keys.

    Exactly one source of keys: `secret` (HS256; at least 32 bytes), `jwks` (a key set, or the https URL of one, which
    is fetched when the first token comes and again as it ages or rotates), or `jwks_file` (read again likewise).
    `algorithms` are the accepted ones: `HS256` by default with a secret, `RS256` and `ES256` with public keys; the two
    families cannot be mixed, so that a public key is never taken for a secret, and `none` is never accepted.

    Every token must carry `exp` and `owner_claim`, whose text becomes the identity's subject. `audience` and `issuer`
    are checked when given; a token that names an audience is refused when none is given. `admin` decides from the
    claims, by default `role == "admin"`. `leeway` is a duration by which clocks may differ. Raises ConfigError.
    """

    scheme: Callable[..., Any] = HTTPBearer(
        scheme_name="bearer", bearerFormat="JWT", description="A JSON Web Token", auto_error=False
    )

    def __init__(
        self,
        *,
        secret: str | bytes | None = None,
        jwks: str | Mapping[str, Any] | None = None,
        jwks_file: str | Path | None = None,
        algorithms: Sequence[str] | None = None,
        audience: str | Sequence[str] | None = None,
        issuer: str | None = None,
        owner_claim: str = "sub",
        admin: Callable[[Claims], bool] = ROLE_ADMIN,
        leeway: Duration = 5.0,
    ) -> None:
        if sum(source is not None for source in (secret, jwks, jwks_file)) != 1:
            raise ConfigError("JWTAuth: expected exactly one of secret, jwks and jwks_file.")
        self._algorithms = _checked_algorithms(algorithms, shared=secret is not None)
        self._secret = None if secret is None else _checked_secret(secret, self._algorithms)
        self._keys = None if secret is not None else _keys(jwks, jwks_file)
        self._audience = audience if audience is None or isinstance(audience, str) else list(audience)
        self._issuer = issuer
        self._owner_claim = owner_claim
        self._admin = admin
        self._leeway_s = seconds(leeway, "leeway")

    def __repr__(self) -> str:
        return f"JWTAuth(algorithms={list(self._algorithms)})"

    async def identify(self, request: HTTPConnection) -> Identity | None:
        """The identity of the request's token. Raises ApiError: 401 for a wrong one, 503 when no key can be had."""
        token = _bearer(request)
        if token is None:
            return None
        claims = await self._claims(token)
        subject = claims.get(self._owner_claim)
        if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT:
            raise unauthenticated(f"The token's owner claim must be text of 1 to {LONGEST_SUBJECT} characters.")
        try:
            subject.encode()
        except UnicodeError:
            raise unauthenticated("The token's owner claim is no valid text.") from None
        return Identity(subject, bool(self._admin(claims)))

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            alg, kid = header.get("alg"), header.get("kid")
            if alg not in self._algorithms or "crit" in header:
                raise unauthenticated("The token is signed in a way that is not accepted.")
            key = await self._key(kid if isinstance(kid, str) else None, alg)
            return jwt.decode(
                token,
                key,
                algorithms=[alg],
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway_s,
                options={"require": ["exp", self._owner_claim]},
            )
        # The last three come out of nested, huge or odd JSON in a token before its signature is looked at.
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            reason = next((text for cls, text in _REASONS if isinstance(error, cls)), "The token is not valid.")
            _log.debug("A token was refused: %s", type(error).__name__)
            raise unauthenticated(reason) from None

    async def _key(self, kid: str | None, alg: str) -> Any:
        if self._keys is None:
            return self._secret
        try:
            key = await self._keys.find(kid, alg)
        except KeysUnavailable:
            raise ApiError(
                503,
                "auth_unavailable",
                "The keys that tokens are checked with are not available at the moment: try again.",
                headers={"Retry-After": str(RETRY_AFTER_S)},
                retryable=True,
            ) from None
        if key is None:
            raise unauthenticated("The token is signed with an unknown key.")
        return key


def unauthenticated(reason: str | None = None) -> ApiError:
    """The 401 answer (RFC 6750): without credentials when `reason` is None, else for a wrong token."""
    challenge = 'Bearer realm="toril"'
    if reason is None:
        message = "This needs a bearer token: Authorization: Bearer <token>."
        return ApiError(401, "unauthenticated", message, headers={"WWW-Authenticate": challenge})
    challenge += f', error="invalid_token", error_description="{reason}"'
    return ApiError(401, "invalid_token", reason, headers={"WWW-Authenticate": challenge})


def _bearer(request: HTTPConnection) -> str | None:
    values = request.headers.getlist("authorization")
    if not values:
        return None
    if len(values) > 1:
        raise unauthenticated("The request has more than one Authorization header.")
    scheme, _, token = values[0].partition(" ")
    if scheme.lower() != "bearer":
        return None
    if not 0 < len(token) <= LONGEST_TOKEN:
        raise unauthenticated(f"The token must have 1 to {LONGEST_TOKEN} characters.")
    return token.strip()


def _checked_algorithms(algorithms: Sequence[str] | None, *, shared: bool) -> tuple[str, ...]:
    known = _HASH_BYTES if shared else KINDS
    if algorithms is None:
        return ("HS256",) if shared else ("RS256", "ES256")
    wrong = [name for name in algorithms if name not in known]
    if wrong or not algorithms or isinstance(algorithms, str):
        source = "a secret" if shared else "public keys"
        raise ConfigError(f"algorithms: expected a list of {', '.join(known)} with {source}, got {algorithms!r}.")
    return tuple(algorithms)


def _checked_secret(secret: str | bytes, algorithms: tuple[str, ...]) -> bytes:
    value = secret.encode() if isinstance(secret, str) else secret
    least = max(_HASH_BYTES[name] for name in algorithms)
    if len(value) < least:
        raise ConfigError(
            f"secret: expected at least {least} bytes for {', '.join(algorithms)}, got {len(value)}; "
            "make one with: python -c 'import secrets; print(secrets.token_urlsafe(48))'"
        )
    if value.lstrip().startswith(b"-----BEGIN"):
        raise ConfigError("secret: expected random text, got a PEM key; public keys belong into jwks.")
    return value


def _keys(jwks: str | Mapping[str, Any] | None, jwks_file: str | Path | None) -> Keys:
    if isinstance(jwks, str):
        url = check_url(jwks)
        return LoadedKeys(lambda: fetch(url), url)
    if jwks_file is None:
        return FixedKeys(_usable_keys(lambda: keys_of(jwks), "jwks"))
    path = Path(jwks_file)
    _usable_keys(lambda: parse(_read(path)), f"jwks_file {str(path)!r}")
    return LoadedKeys(lambda: _read(path), str(path))


def _usable_keys(make: Callable[[], tuple[PublicKey, ...]], what: str) -> tuple[PublicKey, ...]:
    try:
        keys = make()
    except OSError as error:
        raise ConfigError(f"{what}: expected a file that can be read, got {error.strerror}.") from None
    except ValueError as error:
        raise ConfigError(f"{what}: expected a JSON Web Key Set ({error}).") from None
    if not keys:
        raise ConfigError(f"{what}: expected at least one public RSA, EC or OKP key for signatures, found none.")
    return keys


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MOST_BYTES)
