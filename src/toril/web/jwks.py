"""Public keys for checking tokens: a JSON Web Key Set, given whole, in a file, or behind a URL (RFC 7517).

The URL is the operator's and nothing in a token can change it: `jku`, `x5u` and `jwk` headers are not looked at, and
redirects are not followed. Keys are kept for five minutes; a key id that is not known asks again, at most every ten
seconds, so that a rotated key works soon and a flood of invented ids does not become a flood of requests.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import IO, Any, NamedTuple, Protocol
from urllib.error import HTTPError
from urllib.parse import urlsplit

from jwt import PyJWK
from jwt.exceptions import PyJWTError

from toril.errors import ConfigError
from toril.kernel import codec
from toril.web.loopback import is_loopback

_log = logging.getLogger("toril.web")

LIFETIME_S = 300.0
COOLDOWN_S = 10.0
STALE_S = 3600.0
TIMEOUT_S = 5.0
MOST_BYTES = 256 * 1024
MOST_KEYS = 100
LEAST_RSA_BITS = 2048

# Which kind of key each algorithm needs: key type and curves. There is no shared secret here, and never can be.
KINDS: dict[str, tuple[str, frozenset[str]]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", frozenset[str]())),
    "ES256": ("EC", frozenset({"P-256"})),
    "ES384": ("EC", frozenset({"P-384"})),
    "ES512": ("EC", frozenset({"P-521"})),
    "EdDSA": ("OKP", frozenset({"Ed25519", "Ed448"})),
}


class KeysUnavailable(Exception):
    """No keys are known and the source of keys does not answer."""


class PublicKey(NamedTuple):
    """One key of a set. `alg` is set when the set ties the key to one algorithm."""

    kid: str | None
    type: str
    curve: str
    alg: str | None
    key: Any

    def fits(self, alg: str) -> bool:
        """True when the key may check signatures of this algorithm."""
        key_type, curves = KINDS[alg]
        return self.type == key_type and (not curves or self.curve in curves) and self.alg in (None, alg)


class Keys(Protocol):
    """Where public keys come from."""

    async def find(self, kid: str | None, alg: str) -> Any | None:
        """The key for a token's `kid` and `alg`, or None. Raises KeysUnavailable."""
        ...


class FixedKeys:
    """A key set that was given whole."""

    def __init__(self, keys: tuple[PublicKey, ...]) -> None:
        self._keys = keys

    async def find(self, kid: str | None, alg: str) -> Any | None:
        return select(self._keys, kid, alg)


class LoadedKeys:
    """A key set that is loaded by `load`, in a thread of its own, and loaded again as time passes.

    When the source is away the known keys are used for up to an hour more. Safe to share between event loops.
    """

    def __init__(self, load: Callable[[], bytes], what: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._what = what
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._pending: Future[None] | None = None
        self._keys: tuple[PublicKey, ...] = ()
        self._loaded_at = self._tried_at = float("-inf")

    async def find(self, kid: str | None, alg: str) -> Any | None:
        if self._age(self._loaded_at) >= LIFETIME_S:
            await self._refresh()
        if self._age(self._loaded_at) >= LIFETIME_S + STALE_S:
            raise KeysUnavailable(f"{self._what} gives no keys.")
        found = select(self._keys, kid, alg)
        if found is None:
            await self._refresh()
            found = select(self._keys, kid, alg)
        return found

    def _age(self, moment: float) -> float:
        return self._monotonic() - moment

    async def _refresh(self) -> None:
        with self._lock:
            if self._pending is None:
                if self._age(self._tried_at) < COOLDOWN_S:
                    return
                self._pending = Future()
                threading.Thread(target=self._run, args=(self._pending,), name="toril-jwks", daemon=True).start()
            pending = self._pending
        # `wait` cancels nothing: one who gives up must not end the load that all who wait share.
        await asyncio.wait({asyncio.wrap_future(pending)}, timeout=2 * TIMEOUT_S)

    def _run(self, pending: Future[None]) -> None:
        try:
            keys = parse(self._load())
            if not keys:
                raise ValueError("no key in it can check signatures")
            self._keys, self._loaded_at = keys, self._monotonic()
        except Exception as error:  # noqa: BLE001 - whatever a foreign server does, the known keys stay in use
            _log.warning("Could not load keys from %s: %s", self._what, error)
        with self._lock:
            self._tried_at = self._monotonic()
            self._pending = None
        pending.set_result(None)


def select(keys: tuple[PublicKey, ...], kid: str | None, alg: str) -> Any | None:
    """The key of that id; without an id the only key that fits, and None when several do."""
    fitting = [key for key in keys if key.fits(alg) and (kid is None or key.kid == kid)]
    return fitting[0].key if len(fitting) == 1 else None


def parse(text: bytes) -> tuple[PublicKey, ...]:
    """The usable keys of a key set's JSON. Raises ValueError for anything that is no key set."""
    return keys_of(codec.decode(text))


def keys_of(value: Any) -> tuple[PublicKey, ...]:
    """The usable keys of a key set: public, for signatures, of a known type and of sufficient size.

    Raises ValueError for anything that is no key set.
    """
    listed = value.get("keys") if isinstance(value, Mapping) else None
    if not isinstance(listed, list):
        raise ValueError('expected an object with a list of "keys"')
    if len(listed) > MOST_KEYS:
        raise ValueError(f"expected at most {MOST_KEYS} keys, found {len(listed)}")
    return tuple(key for item in listed if isinstance(item, Mapping) and (key := _usable(item)) is not None)


def check_url(url: str) -> str:
    """`url`, if keys may be fetched from it. Raises ConfigError."""
    parts = urlsplit(url)
    local = parts.scheme == "http" and is_loopback(parts.hostname)
    if not parts.hostname or not (parts.scheme == "https" or local):
        raise ConfigError("jwks: expected an https:// URL, or http:// on loopback: keys could be forged on the way.")
    if parts.username is not None or parts.password is not None:
        raise ConfigError("jwks: expected a URL without user and password; key sets are public.")
    return url


def fetch(url: str, *, timeout_s: float = TIMEOUT_S, most: int = MOST_BYTES) -> bytes:
    """The body behind `url`, within `timeout_s` seconds in all but the look-up of the name.

    Raises OSError, or ValueError for an answer that is no plain 200 or is too large.
    """
    # A proxy cannot reach this machine's loopback, so one set in the environment is left out there.
    proxies = urllib.request.ProxyHandler({} if is_loopback(urlsplit(url).hostname) else None)
    opener = urllib.request.build_opener(_NoRedirect(), proxies)
    request = urllib.request.Request(url, headers={"Accept": "application/json", "User-Agent": "toril"})  # noqa: S310 - checked by check_url
    deadline = time.monotonic() + timeout_s
    body = bytearray()
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            if answer.status != 200:
                raise ValueError(f"expected status 200, found {answer.status}")
            while chunk := answer.read1(65536):
                body += chunk
                if len(body) > most:
                    raise ValueError(f"expected at most {most} bytes, found more")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the answer took longer than {timeout_s:g} s")
    except HTTPError as error:
        error.close()
        raise ValueError(f"expected status 200, found {error.code}") from None
    return bytes(body)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str) -> None:
        return None


def _usable(item: Mapping[str, Any]) -> PublicKey | None:
    key_type, curve, alg = item.get("kty"), item.get("crv", ""), item.get("alg")
    fitting = [name for name, (kind, curves) in KINDS.items() if kind == key_type and (not curves or curve in curves)]
    if not fitting or item.get("use", "sig") != "sig" or alg not in (None, *fitting):
        return None
    if "d" in item:
        _log.warning("A key set holds a private key (kid %r): it is not used, and should be replaced.", item.get("kid"))
        return None
    try:
        key = PyJWK(dict(item), algorithm=fitting[0]).key
    except (PyJWTError, ValueError, TypeError) as error:
        _log.warning("A key of a key set cannot be read (kid %r): %s", item.get("kid"), type(error).__name__)
        return None
    if key_type == "RSA" and key.key_size < LEAST_RSA_BITS:
        _log.warning("An RSA key of %d bits is not used (kid %r): too short.", key.key_size, item.get("kid"))
        return None
    kid = item.get("kid")
    return PublicKey(kid if isinstance(kid, str) else None, str(key_type), str(curve), alg, key)
