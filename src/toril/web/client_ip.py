"""Who is on the other end: the address of the client behind proxies that are trusted, and only behind those."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.types import Scope

from toril.errors import ConfigError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_REMEMBERED = 10_000


class ClientAddresses:
    """Reads the client's address of a connection, as text that is the same for one client.

    `trusted` are addresses and networks of proxies, such as `"10.0.0.0/8"`. What they say in `Forwarded` or
    `X-Forwarded-For` is believed, read from the right up to the first address that is no proxy; what anybody else says
    is not. Of an IPv6 address the first `ipv6_bits` count: one client has many. Raises ConfigError for what is no
    network.
    """

    def __init__(self, trusted: Sequence[str] = (), *, ipv6_bits: int = 64) -> None:
        self._trusted = [_network(text) for text in trusted]
        self._ipv6_bits = ipv6_bits
        self._shown = lru_cache(maxsize=_REMEMBERED)(self._show)
        self._is_proxy = lru_cache(maxsize=_REMEMBERED)(self._is_trusted)

    def of(self, scope: Scope) -> str:
        """The client of a request, `""` when the server does not know it (a Unix socket)."""
        client = scope.get("client")
        peer = client[0] if client else ""
        if not self._trusted or not self._is_proxy(peer):
            return self._shown(peer)
        for hop in reversed(_hops(scope["headers"])):
            peer = hop
            if not self._is_proxy(hop):
                break
        return self._shown(peer)

    def _show(self, text: str) -> str:
        address = _address(text)
        if address is None:
            return text[:100]
        if isinstance(address, IPv6Address):
            return str(ip_network((address, self._ipv6_bits), strict=False))
        return str(address)

    def _is_trusted(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._trusted)


def _network(text: str) -> Network:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise ConfigError(
            f"trusted_proxies: expected addresses or networks such as '10.0.0.0/8', got {text!r}."
        ) from None


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _hops(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """Who passed the request on, first the client. `Forwarded` (RFC 7239) counts before `X-Forwarded-For`."""
    forwarded: list[str] = []
    old: list[str] = []
    for name, value in headers:
        if name == b"forwarded":
            forwarded += [_for(element) for element in value.decode("latin-1").split(",")]
        elif name == b"x-forwarded-for":
            old += [_bare(element) for element in value.decode("latin-1").split(",")]
    return forwarded or old


def _for(element: str) -> str:
    for pair in element.split(";"):
        name, _, value = pair.partition("=")
        if name.strip().lower() == "for":
            return _bare(value.strip().strip('"'))
    return "unknown"


def _bare(text: str) -> str:
    """An address without brackets and port."""
    text = text.strip()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
