"""Where our routes ended up in an application: no path twice, and no open mount on a public address."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

from fastapi import routing
from starlette.routing import BaseRoute, Mount

from toril.errors import AuthRequired, ConfigError
from toril.web.access import Gate
from toril.web.loopback import is_loopback

# FastAPI keeps included routers whole from the version on that has this function; before, it copied their routes.
_unfold: Callable[[Iterable[BaseRoute]], Iterable[Any]] = getattr(routing, "iter_route_contexts", iter)


@runtime_checkable
class Gated(Protocol):
    """What our endpoints are methods of."""

    @property
    def gate(self) -> Gate:
        """Who may pass."""
        ...


def check_paths(app: Any) -> None:
    """Raise ConfigError when a path of ours exists twice in `app`, by us or by anybody: the second would be dead."""
    seen: dict[tuple[str, str], Gated | None] = {}
    for method, path, owner in _endpoints(app.routes, ""):
        key = (method, path)
        if key in seen and (owner is not None or seen[key] is not None):
            raise ConfigError(
                f"{method} {path} is mounted twice: include Toril's routes once, or under another prefix, "
                "and remove a route of your own with the same path."
            )
        seen.setdefault(key, owner)


def check_bind(app: Any, host: str) -> None:
    """Raise AuthRequired when `app` holds routes of ours without auth and `host` is no loopback address.

    For what starts a server, to be called before it listens: the application itself learns its address only from
    requests, and refuses them one by one.
    """
    if is_loopback(host):
        return
    for method, path, owner in _endpoints(app.routes, ""):
        if owner is not None and owner.gate.auth is None:
            raise AuthRequired(
                f"{method} {path} has no auth, and the server is to listen on {host!r}: "
                "give auth=JWTAuth(…), or listen on 127.0.0.1."
            )


def _endpoints(routes: Iterable[BaseRoute], prefix: str) -> Iterator[tuple[str, str, Gated | None]]:
    for route in _unfold(routes):
        path = prefix + str(getattr(route, "path", ""))
        inner = getattr(route, "routes", None)
        if isinstance(route, Mount) or inner:
            yield from _endpoints(inner or (), path)
            continue
        owner = getattr(getattr(route, "endpoint", None), "__self__", None)
        for method in sorted(getattr(route, "methods", None) or ()):
            yield method, path, owner if isinstance(owner, Gated) else None
