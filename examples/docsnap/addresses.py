"""The guard against requests to the inside of a network (server-side request forgery).

The check sits where the socket is opened: a name is resolved once, every address it has is checked, and the connection
goes to a checked address. A redirect, or a name that changes its answer between check and use, meets the same guard.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable

import httpcore

from docsnap.errors import AddressRefused
from docsnap.settings import plain_host

Resolver = Callable[[str, int], Awaitable[list[str]]]
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of `host`, in the order the system prefers.

    Raises:
        OSError: the name is unknown or the resolver does not answer.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def refusal(address: str) -> str | None:
    """Why an address must not be contacted, or None when it belongs to the public internet."""
    ip = _innermost(ipaddress.ip_address(address))
    if ip.is_loopback:
        return "a loopback address"
    if ip.is_link_local:
        return "a link-local address"
    if ip.is_unspecified:
        return "the unspecified address"
    if ip.is_multicast:
        return "a multicast address"
    if ip.is_private or (isinstance(ip, ipaddress.IPv6Address) and ip.is_site_local):
        return "a private address"
    if ip.is_reserved or not ip.is_global:
        return "a reserved address"
    return None


def _innermost(ip: IpAddress) -> IpAddress:
    """The IPv4 address which an IPv6 address carries, if it is one of the forms that do."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    carried = ip.ipv4_mapped or ip.sixtofour
    if carried is None and int(ip) >> 32 == 0 and int(ip) > 1:
        carried = ipaddress.IPv4Address(int(ip))  # ::a.b.c.d, deprecated but still routed by some systems
    return carried or ip


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Opens connections to public addresses only, and to the `allow_private` host:port pairs."""

    def __init__(
        self,
        allow_private: Iterable[str] = (),
        *,
        resolver: Resolver = resolve,
        backend: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._allowed = frozenset(allow_private)
        self._resolver = resolver
        self._backend = backend or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check, connect.

        Raises:
            AddressRefused: one of the addresses is not public and not allowed.
            httpcore.ConnectError, httpcore.ConnectTimeout: nothing answers there.
        """
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._resolver(host, port)
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"{host}: the name was not resolved within {timeout} s") from None
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host}: the name cannot be resolved ({error})") from error
        self._check(host, port, addresses)
        failure: Exception = httpcore.ConnectError(f"{host}: the name has no address")
        for address in addresses:
            try:
                return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Never opened: a crawler has no business on a local socket."""
        raise AddressRefused(f"{path} is a local socket; only http and https addresses can be crawled")

    async def sleep(self, seconds: float) -> None:
        """Wait between two attempts of the connection pool."""
        await self._backend.sleep(seconds)

    def _check(self, host: str, port: int, addresses: list[str]) -> None:
        if f"{plain_host(host)}:{port}" in self._allowed:
            return
        for address in addresses:
            reason = refusal(address)
            # One bad address refuses the name: a mixed answer is what an attacker sends, not what a site needs.
            if reason is not None and f"{plain_host(address)}:{port}" not in self._allowed:
                raise AddressRefused(
                    f"{host}:{port} is {reason} ({address}), and only public sites are crawled; "
                    "an operator can allow it by adding host:port to DOCSNAP_ALLOW"
                )
