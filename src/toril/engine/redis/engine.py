"""`RedisEngine`: the ports over one Redis or Valkey server, or a cluster of them."""

from __future__ import annotations

import logging
import time
from typing import Any, Literal, get_args

from toril.engine.ports.bus import Bus
from toril.engine.ports.channels import ChannelStore
from toril.engine.ports.flows import FlowStore
from toril.engine.ports.inspect import JobInspector
from toril.engine.ports.jobs import JobStore
from toril.engine.ports.keyvalue import KeyValueStore
from toril.engine.ports.leases import LeaseStore
from toril.engine.ports.limits import LimitStore
from toril.engine.ports.schedules import ScheduleStore
from toril.engine.protocol import Capabilities, Engine, Health
from toril.engine.redis.address import Address, parse_address
from toril.engine.redis.bus import RedisBus
from toril.engine.redis.channels import RedisChannelStore
from toril.engine.redis.clients import Clients, Locator
from toril.engine.redis.cluster import Cluster, parse_cluster
from toril.engine.redis.flows import RedisFlowStore
from toril.engine.redis.inspect import RedisJobInspector
from toril.engine.redis.jobs import RedisJobStore
from toril.engine.redis.keys import CLUSTER_PREFIX, DEFAULT_PREFIX, Keys
from toril.engine.redis.keyvalue import RedisKeyValueStore
from toril.engine.redis.leases import RedisLeaseStore
from toril.engine.redis.limits import RedisLimitStore
from toril.engine.redis.link import ClientOptions
from toril.engine.redis.registry import QueueRegistry
from toril.engine.redis.schedules import RedisScheduleStore
from toril.engine.redis.server import check
from toril.engine.redis.survey import scripts_loaded, shown, survey
from toril.errors import ConfigError, EngineClosed, EngineUnavailable, TorilError
from toril.settings import RedisSettings

Wire = Literal["auto", "bullmq5", "bullmq6"]

OWN_OPTIONS = ("prefix", "wire", "eviction")

_log = logging.getLogger("toril.redis")


class RedisEngine:
    """Everything on one Redis or Valkey server or cluster, jobs in BullMQ's layout under `prefix`. In a Cluster it has
    a hash tag, by default one for each queue.

    `address` is a URL or an `Address`. `wire` says whose rules hold where BullMQ's major versions differ: `auto` finds
    out queue by queue. `allow_eviction` accepts a server that may throw jobs away when its memory is full. `start`
    raises EngineUnavailable, and ConfigError for a server that is too old or not fit to keep jobs.
    """

    name = "redis"

    def __init__(
        self,
        address: Address | Locator | Cluster | str,
        *,
        prefix: str = DEFAULT_PREFIX,
        wire: str = "auto",
        allow_eviction: bool = False,
        client: ClientOptions = ClientOptions(),  # noqa: B008 - frozen
    ) -> None:
        self._address = _place(address) if isinstance(address, str) else address
        if wire not in get_args(Wire):
            raise ConfigError(f"wire: expected {', '.join(map(repr, get_args(Wire)))}, got {wire!r}.")
        if not prefix:
            raise ConfigError("prefix: expected text that is not empty, such as 'bull'.")
        cluster = isinstance(self._address, Cluster)
        self._keys = Keys(CLUSTER_PREFIX if cluster and prefix == DEFAULT_PREFIX else prefix, cluster=cluster)
        self._wire = wire
        self._allow_eviction = allow_eviction
        self._client = client
        self._parts: _Parts | None = None
        self._unreached: _Parts | None = None
        self.location = self._address.redacted
        self.capabilities = Capabilities(shared=True, durable=True, immediate_cancel=False, own_clock=True)

    @property
    def jobs(self) -> JobStore:
        return self._opened().jobs

    @property
    def inspect(self) -> JobInspector:
        return self._opened().inspect

    @property
    def keyvalue(self) -> KeyValueStore:
        return self._opened().keyvalue

    @property
    def bus(self) -> Bus:
        return self._opened().bus

    @property
    def schedules(self) -> ScheduleStore:
        return self._opened().schedules

    @property
    def flows(self) -> FlowStore:
        return self._opened().flows

    @property
    def channels(self) -> ChannelStore:
        return self._opened().channels

    @property
    def limits(self) -> LimitStore:
        return self._opened().limits

    @property
    def leases(self) -> LeaseStore:
        return self._opened().leases

    async def start(self) -> None:
        if self._parts is not None:
            return
        # Clients that did not get through go on trying, and know what they have told already.
        parts, self._unreached = self._unreached, None
        if parts is None:
            parts = _Parts(Clients(self._address, self._client), self._keys, self._wire)
        try:
            found = await survey(parts.clients)
            cluster = self._keys.cluster
            for warning in check(found.server, self.location, allow_eviction=self._allow_eviction, cluster=cluster):
                _log.warning("%s", warning)
        except EngineUnavailable:
            await self._keep_trying(parts)
            raise
        except BaseException:
            await parts.clients.close()
            raise
        if not self._settle(parts):
            # Somebody else has started it in the meantime.
            await parts.clients.close()

    async def close(self) -> None:
        left, self._parts, self._unreached = (self._parts, self._unreached), None, None
        for parts in left:
            if parts is not None:
                await parts.clients.close()

    async def health(self) -> Health:
        detail: dict[str, Any] = {"location": self.location, "prefix": self._keys.prefix("<queue>"), "wire": self._wire}
        begun = time.perf_counter()
        try:
            clients = self._opened().clients
            await clients.call("PING", repeatable=True)
            round_trip_ms = (time.perf_counter() - begun) * 1000
            found = await survey(clients)
            scripts = await scripts_loaded(clients, found.there)
            nodes = {"nodes": list(found.nodes)} if found.nodes else {}
        except TorilError as error:
            return Health(False, (time.perf_counter() - begun) * 1000, {**detail, "error": str(error)})
        return Health(True, round_trip_ms, detail | shown(found.server) | nodes | scripts)

    async def _keep_trying(self, parts: _Parts) -> None:
        if self._unreached is None:
            self._unreached = parts
        else:
            await parts.clients.close()

    def _settle(self, parts: _Parts) -> bool:
        if self._parts is None:
            self._parts = parts
        return self._parts is parts

    def _opened(self) -> _Parts:
        if self._parts is None:
            raise EngineClosed(f"{self.location}: the engine is not started, or closed. Call start() first.")
        return self._parts


class _Parts:
    """What exists between `start` and `close`."""

    def __init__(self, clients: Clients, keys: Keys, wire: str) -> None:
        self.clients = clients
        registry = QueueRegistry(clients, keys)
        self.jobs: JobStore = RedisJobStore(clients, keys, wire, registry)
        self.inspect: JobInspector = RedisJobInspector(clients, keys, wire, registry)
        self.keyvalue: KeyValueStore = RedisKeyValueStore(clients, keys)
        self.bus: Bus = RedisBus(clients, keys)
        self.schedules: ScheduleStore = RedisScheduleStore(clients, keys, wire, registry)
        self.flows: FlowStore = RedisFlowStore(clients, keys, wire, registry)
        self.channels: ChannelStore = RedisChannelStore(clients, keys)
        self.limits: LimitStore = RedisLimitStore(clients, keys)
        self.leases: LeaseStore = RedisLeaseStore(clients, keys)


def engine_of(url: str, settings: RedisSettings | None = None) -> RedisEngine:
    """The engine that a URL asks for, not started. Raises ConfigError, without showing a password.

    Besides those of `parse_address` the URL's options are: `prefix`, `wire` and `eviction=allow`. They win over
    `settings`.
    """
    address = _place(url)
    options, given = address.options, settings or RedisSettings()
    eviction = options.get("eviction", given.eviction)
    if eviction not in {"allow", "refuse"}:
        raise ConfigError(f"{address.redacted}: eviction: expected allow or refuse, got {eviction!r}.")
    return RedisEngine(
        address,
        prefix=options.get("prefix", given.prefix),
        wire=options.get("wire", given.wire),
        allow_eviction=eviction == "allow",
        client=ClientOptions(
            timeout_s=given.timeout,
            connect_timeout_s=given.timeout,
            backoff_s=given.retry_delay,
            max_retries=given.max_retries,
        ),
    )


def _place(url: str) -> Address | Locator | Cluster:
    scheme = url.strip().partition("://")[0].lower()
    if scheme.endswith("+cluster"):
        return parse_cluster(url, own_options=OWN_OPTIONS)
    if not scheme.endswith("+sentinel"):
        return parse_address(url, own_options=OWN_OPTIONS)
    # The library behind it takes a quarter of a second to load.
    from toril.engine.redis.sentinel import parse_sentinels

    return parse_sentinels(url, own_options=OWN_OPTIONS)


_: type[Engine] = RedisEngine
