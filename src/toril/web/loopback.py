"""What counts as this machine, and when routes without auth may answer.

Routes mounted with `auth=None` give everybody everything, so they may be reached from this machine only. ASGI does not
tell an application where its server listens, so each request is judged by what cannot be forged from outside:

- the connection's own end (`scope["server"]`) and its other end (`scope["client"]`) must both be loopback addresses. A
  server bound to all interfaces therefore still refuses every other machine. A unix socket has no client address and
  is refused: what stands in front of one is a proxy;
- no header of a proxy may be present. A proxy on this machine makes the whole world look like loopback;
- the `Host` must be a loopback name, else a web page could rebind its own name to 127.0.0.1 and read the answers;
- an `Origin`, if there is one, must be loopback too, else any web page could send forms here.

Whoever starts the server knows more and calls `check_bind` first.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

_OF_PROXIES = frozenset(["forwarded", "via", "x-real-ip", "true-client-ip", "cf-connecting-ip", "x-client-ip"])


def is_loopback(host: str | None) -> bool:
    """True for `localhost`, names below it, and loopback addresses of both families."""
    if not host:
        return False
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def why_not_local(connection: HTTPConnection) -> str | None:
    """What shows that a request may come from another machine or for another site; None when nothing does."""
    server, client = connection.scope.get("server"), connection.scope.get("client")
    if not client or not is_loopback(client[0]):
        return "the client is not on loopback"
    if not server or not is_loopback(server[0]):
        return "the server's address is not on loopback"
    headers = connection.headers
    forwarded = [name for name in headers if name in _OF_PROXIES or name.startswith("x-forwarded-")]
    if forwarded:
        return f"a proxy has added {forwarded[0]!r}"
    if not _is_local(f"//{headers.get('host', '')}"):
        return "the Host header is no loopback name"
    origin = headers.get("origin")
    if origin is not None and not _is_local(origin):
        return "the Origin header names another site"
    return None


def _is_local(url: str) -> bool:
    try:
        return is_loopback(urlsplit(url).hostname)
    except ValueError:
        return False
