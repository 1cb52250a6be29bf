"""Finding the primary through Sentinel: asked before every attempt to connect, so that a fail-over needs no restart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from toril.engine.redis.address import Address, parse_address
from toril.errors import ConfigError

_PORT = 26379
_ANSWERS_WITHIN_S = 1.0
_LOGIN = ("sentinel_username", "sentinel_password")
_FORM = "expected redis+sentinel://[user:password@]host:26379,host2,host3/name-of-the-primary[/db]"


@dataclass(frozen=True, slots=True)
class Sentinels:
    """The sentinels that watch the primary `service`. `address` is how to get in there; its place says nothing."""

    places: tuple[tuple[str, int], ...]
    service: str
    address: Address

    @property
    def options(self) -> Mapping[str, str]:
        """The query options that are the engine's."""
        return self.address.options

    @property
    def redacted(self) -> str:
        """As a URL, without passwords."""
        scheme = "rediss" if self.address.tls else "redis"
        login = "***@" if self.address.password else ""
        places = ",".join(f"{host}:{port}" for host, port in self.places)
        return f"{scheme}+sentinel://{login}{places}/{self.service}/{self.address.db}"

    async def locate(self) -> Address:
        """The primary of this moment. Raises OSError when no sentinel knows one."""
        options: dict[str, Any] = {"socket_timeout": _ANSWERS_WITHIN_S, "socket_connect_timeout": _ANSWERS_WITHIN_S}
        given = self.address.options
        # Who asked tries again by himself, and the next sentinel may know.
        options["retry"] = Retry(NoBackoff(), 0)
        options |= {name.removeprefix("sentinel_"): given[name] for name in _LOGIN if name in given}
        if self.address.tls:
            options |= {"ssl": True, "ssl_ca_certs": self.address.ssl_ca_certs}
            options |= {"ssl_certfile": self.address.ssl_certfile, "ssl_keyfile": self.address.ssl_keyfile}
            options |= {"ssl_check_hostname": self.address.ssl_check_hostname}
            options |= {"ssl_cert_reqs": self.address.ssl_cert_reqs}
        sentinel = Sentinel(list(self.places), sentinel_kwargs=options)  # type: ignore[no-untyped-call]  # redis-py's
        try:
            host, port = await sentinel.discover_master(self.service)
        except RedisError as error:
            raise OSError(f"no sentinel of {self.redacted} knows a primary that answers ({error})") from None
        finally:
            for client in sentinel.sentinels:
                await client.aclose()
        return replace(self.address, host=host, port=int(port))


def parse_sentinels(url: str, *, own_options: Iterable[str] = ()) -> Sentinels:
    """Read `redis+sentinel://` or `rediss+sentinel://`. Raises ConfigError without showing a password."""
    scheme, _, rest = url.strip().partition("://")
    before, mark, query = rest.partition("?")
    login, at, tail = before.rpartition("@")
    hosts, _, path = tail.partition("/")
    service, slash, db = path.partition("/")
    if not hosts or not service:
        raise ConfigError(f"The URL of the sentinels names no {'primary' if hosts else 'host'}: {_FORM}.")
    plain = scheme.lower().removesuffix("+sentinel")
    end = f"{slash}{db}{mark}{query}"
    own, places = (*own_options, *_LOGIN), []
    for host in hosts.split(","):
        address = parse_address(f"{plain}://{login}{at}{host}{end}", own_options=own)
        has_port = bool(host.rpartition("]")[2].partition(":")[2])
        places.append((address.host, address.port if has_port else _PORT))
    return Sentinels(tuple(places), service, address)
