"""Where a Redis is and how to get in, read from a URL. No message of this module shows a password."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from toril.errors import ConfigError

DEFAULT_PORT = 6379

_FORMS = "expected redis://[user:password@]host[:port][/db], rediss://… for TLS or unix:///path/to/socket[?db=0]"
_TCP = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}
_OPTION = re.compile(r"[a-z]+(_[a-z]+)+")
_YES_NO = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One Redis server as a client reaches it. Make one with `parse_address`, vary it with `dataclasses.replace`.

    `path` is that of a Unix socket; then `host` and `port` say nothing. `username` and `password` None mean: do not
    authenticate; `username` None with a password means the user `default`. `protocol` is the RESP version that is
    spoken at most. `options` holds the query options that the caller of `parse_address` named as its own.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    path: str | None = None
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    db: int = 0
    protocol: int = 3
    tls: bool = False
    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_keyfile_password: str | None = field(default=None, repr=False)
    ssl_check_hostname: bool = True
    ssl_cert_reqs: str = "required"
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def redacted(self) -> str:
        """The URL for logs and errors: user and place, never a password, no options but the database."""
        login = "" if self.password is None else f"{quote(self.username or '', safe='')}:***@"
        if self.path is not None:
            return f"unix://{login}{quote(self.path)}{f'?db={self.db}' if self.db else ''}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{login}{host}:{self.port}/{self.db}"

    def ssl_context(self) -> ssl.SSLContext | None:
        """What TLS needs, None without TLS. It reads files, so make it once. Raises ConfigError for a bad file."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ssl_ca_certs)
        except (OSError, ssl.SSLError) as error:
            raise self._bad_file("ssl_ca_certs", "a file with PEM certificates", self.ssl_ca_certs, error) from None
        context.check_hostname = self.ssl_check_hostname and self.ssl_cert_reqs == "required"
        if self.ssl_cert_reqs == "none":
            context.verify_mode = ssl.CERT_NONE
        if self.ssl_certfile is not None:
            # A function that answers keeps OpenSSL from asking on the terminal when the key is encrypted.
            password = self.ssl_keyfile_password or ""
            try:
                context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile, password=lambda: password)
            except (OSError, ssl.SSLError) as error:
                files = " and ".join(filter(None, (self.ssl_certfile, self.ssl_keyfile)))
                raise self._bad_file("ssl_certfile", "PEM files with certificate and key", files, error) from None
        return context

    def _bad_file(self, option: str, expected: str, found: str | None, error: OSError) -> ConfigError:
        reason = error.strerror or getattr(error, "reason", None) or "it cannot be read"
        return ConfigError(f"{self.redacted}: {option}: expected {expected}, got {found!r} ({reason}).")


def parse_address(url: str, *, own_options: Iterable[str] = ()) -> Address:
    """Read `redis://`, `rediss://`, `valkey://`, `valkeys://` or `unix://`; user, password and path percent-encoded.

    `own_options` are names of query options that are the caller's: they are left in `Address.options`.
    Raises ConfigError saying what was expected and what was found, without showing a password.
    """
    shown = _shown(url)
    scheme, separator, rest = url.strip().partition("://")
    scheme = scheme.lower()
    if not separator:
        raise ConfigError(f"The URL {shown} has no scheme: {_FORMS}.")
    if scheme != "unix" and scheme not in _TCP:
        raise ConfigError(f"The URL {shown} has the unknown scheme {scheme!r}: {_FORMS}.")
    cut = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    authority, (path, query) = rest[:cut], _path_and_query(rest[cut:], shown)
    login, at, place = authority.rpartition("@")
    values: dict[str, Any] = dict(_login(login, shown)) if at else {}
    options = _Options(query, shown)
    if scheme == "unix":
        if place or not path.strip("/"):
            raise ConfigError(f"The URL {shown} names no socket: expected unix:///path/to/socket, with three slashes.")
        values |= {"path": unquote(path)}
    else:
        values |= {"host": "", "tls": _TCP[scheme], **_place(place, shown)}
        if db := path.strip("/"):
            values["db"] = _db(db, shown)
    values |= options.take("db", lambda text: _db(text, shown))
    values |= options.take("protocol", lambda text: int(options.one_of("protocol", text, ("2", "3"))))
    values |= _tls(options, tls=bool(values.get("tls")), shown=shown)
    own = {name: options.values.pop(name) for name in own_options if name in options.values}
    options.refuse_the_rest(own_options)
    return Address(**values, options=MappingProxyType(own))


class _Options:
    """The query of a URL, taken apart name by name."""

    def __init__(self, query: str, shown: str) -> None:
        self.values: dict[str, str] = {}
        self._known: list[str] = []
        self._shown = shown
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name in self.values:
                raise ConfigError(f"The URL {shown} has an option twice: expected each once.")
            self.values[name] = value
        self._given = frozenset(self.values)

    def take(self, name: str, read: Callable[[str], Any] = str) -> dict[str, Any]:
        """Name and value as read, or nothing when the URL does not have it."""
        self._known.append(name)
        return {name: read(self.values.pop(name))} if name in self.values else {}

    def one_of(self, name: str, text: str, choices: Iterable[str]) -> str:
        if text.lower() not in choices:
            raise ConfigError(f"The URL {self._shown}: {name}: expected {' or '.join(choices)}, got {text!r}.")
        return text.lower()

    def yes_no(self, name: str) -> dict[str, Any]:
        return self.take(name, lambda text: _YES_NO[self.one_of(name, text, _YES_NO)])

    def refuse_the_rest(self, own: Iterable[str]) -> None:
        if unknown := next(iter(self.values), None):
            # The name may be the rest of a password with a bare '&': only what looks like an option is shown.
            harmless = _OPTION.fullmatch(unknown) and "ssl_keyfile_password" not in self._given
            name = repr(unknown) if harmless else f"of {len(unknown)} characters (not shown, it may be secret)"
            known = ", ".join([*self._known, *own])
            raise ConfigError(f"The URL {self._shown} has the unknown option {name}: expected some of {known}.")


def _path_and_query(text: str, shown: str) -> tuple[str, str]:
    path, _, query = text.partition("?")
    # A '/', '?' or '#' that was left bare in a password ends the authority too early.
    if "@" in text:
        raise ConfigError(
            f"The URL {shown} has an '@' behind a '/', '?' or '#': expected user and password percent-encoded "
            "('/' as %2F, '?' as %3F, '#' as %23, '@' as %40)."
        )
    if "#" in text:
        raise ConfigError(f"The URL {shown} has a '#': expected none; if it belongs to a name write %23.")
    return path, query


def _login(text: str, shown: str) -> Mapping[str, str]:
    user, colon, password = text.partition(":")
    if not colon:
        # What stands alone before '@' is more often a password than a user without one.
        raise ConfigError(
            f"The URL {shown} has one word before '@': expected user:password@, or :password@ for the default user."
        )
    named = {"username": unquote(user)} if user else {}
    return {**named, "password": unquote(password)} if user or password else {}


def _place(text: str, shown: str) -> Mapping[str, Any]:
    if text.startswith("["):
        host, bracket, behind = text[1:].partition("]")
        if not bracket or (behind and not behind.startswith(":")):
            raise ConfigError(f"The URL {shown}: expected an IPv6 address as [::1] or [::1]:6379.")
        port = behind[1:]
    else:
        host, _, port = text.partition(":")
    host = unquote(host)
    if not host or not all(char.isprintable() and not char.isspace() for char in host):
        raise ConfigError(f"The URL {shown} names no host: {_FORMS}.")
    if not port:
        return {"host": host}
    # `redis://user:password` without '@' looks like host and port: what is no number is not shown.
    if not (port.isascii() and port.isdigit()):
        raise ConfigError(
            f"The URL {shown} has no number as port: expected 1 to 65535, got {len(port)} other characters. "
            "If that is a password, '@' and the host are missing behind it."
        )
    if not 1 <= int(port[:6]) <= 65535:
        raise ConfigError(
            f"The URL {shown}: port: expected a number from 1 to 65535, got {len(port)} digits beyond it."
        )
    return {"host": host, "port": int(port)}


def _db(text: str, shown: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        found = repr(text) if text.lstrip("-").isdigit() else f"{len(text)} characters that are none"
        raise ConfigError(f"The URL {shown}: database: expected a number from 0 on, got {found}.")
    return int(text)


def _tls(options: _Options, *, tls: bool, shown: str) -> dict[str, Any]:
    if not tls and any(name.startswith("ssl_") for name in options.values):
        raise ConfigError(f"The URL {shown} has an ssl_ option without TLS: expected rediss:// with it.")
    values = {
        **options.take("ssl_ca_certs"),
        **options.take("ssl_certfile"),
        **options.take("ssl_keyfile"),
        **options.take("ssl_keyfile_password"),
        **options.yes_no("ssl_check_hostname"),
        **options.take("ssl_cert_reqs", lambda text: options.one_of("ssl_cert_reqs", text, ("required", "none"))),
    }
    if "ssl_keyfile" in values and "ssl_certfile" not in values:
        raise ConfigError(f"The URL {shown} has ssl_keyfile alone: expected ssl_certfile with it.")
    return values


def _shown(url: str) -> str:
    """As much of a URL that may be wrong anywhere as surely holds no password, quoted."""
    scheme, separator, rest = url.strip().partition("://")
    if not separator:
        return "(not shown, it may hold a password)"
    _, at, place = rest.rpartition("@")
    authority, slash, path = place.partition("?")[0].partition("/")
    host, colon, port = authority.partition(":")
    # Without '@' what follows the colon may be the password: only a number is surely a port.
    if colon and not authority.startswith("[") and not (port.isdigit() and len(port) < 6 and int(port) < 65536):
        authority, slash, path = f"{host}:***", "", ""
    if path and not path.isdigit() and (authority or scheme != "unix"):
        path = "…"
    return repr(f"{scheme}://{'***@' if at else ''}{authority}{slash}{path}")
