"""Where a Redis Cluster is and how to get in, read from a URL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

from toril.engine.redis.address import Address, parse_address
from toril.errors import ConfigError

_FORM = "expected redis+cluster://[user:password@]host[:port],host2,host3, or rediss+cluster:// for TLS"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Some nodes of a cluster, of which one is asked for all others; and how to get in, the same for all."""

    seeds: tuple[Address, ...]
    _turns: Iterator[int] = field(default_factory=count, compare=False, repr=False)

    @property
    def options(self) -> Mapping[str, str]:
        """The query options that are the engine's."""
        return self.seeds[0].options

    @property
    def redacted(self) -> str:
        """As a URL, without passwords."""
        scheme = "rediss" if self.seeds[0].tls else "redis"
        login = "***@" if self.seeds[0].password else ""
        hosts = ((f"[{seed.host}]" if ":" in seed.host else seed.host, seed.port) for seed in self.seeds)
        return f"{scheme}+cluster://{login}{','.join(f'{host}:{port}' for host, port in hosts)}"

    async def locate(self) -> Address:
        """One of the nodes, another one each time: any will do for what has no key."""
        return self.seeds[next(self._turns) % len(self.seeds)]


def parse_cluster(url: str, *, own_options: Iterable[str] = ()) -> Cluster:
    """Read `redis+cluster://` or `rediss+cluster://`. Raises ConfigError without showing a password."""
    scheme, _, rest = url.strip().partition("://")
    before, mark, query = rest.partition("?")
    login, at, tail = before.rpartition("@")
    hosts, slash, path = tail.partition("/")
    if not hosts:
        raise ConfigError(f"The URL of the cluster names no host: {_FORM}.")
    plain = scheme.lower().removesuffix("+cluster")
    seeds = tuple(
        parse_address(f"{plain}://{login}{at}{host}{slash}{path}{mark}{query}", own_options=own_options)
        for host in hosts.split(",")
    )
    if seeds[0].db:
        raise ConfigError(f"The URL of the cluster names database {seeds[0].db}: a cluster has only 0. Leave it out.")
    return Cluster(seeds)
