"""The Redis engine against the suite on a cluster of three masters: all queues in one slot, and each in its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count

import pytest_asyncio

from tests.engines.test_redis import AGE
from tests.redis.conftest import shared_cluster
from tests.redis.nodes import ClusterServers
from toril.engine.protocol import Engine
from toril.engine.redis.address import parse_address
from toril.engine.redis.client import RedisClient
from toril.engine.redis.engine import RedisEngine
from toril.kernel.clock import Clock
from toril.testing.conformance.concurrency import ConcurrencyCases
from toril.testing.conformance.counts import CountsCases
from toril.testing.conformance.events import EventCases
from toril.testing.conformance.factory import EngineFactory
from toril.testing.conformance.locks import LockCases
from toril.testing.conformance.opening import OpeningCases
from toril.testing.conformance.pause import PauseCases
from toril.testing.conformance.removal import RemovalCases
from toril.testing.conformance.schedules import ScheduleCases
from toril.testing.conformance.shared import DurableCases, SharedCases
from toril.testing.conformance.suite import Conformance
from toril.testing.conformance.waking import WakingCases

__all__ = ["shared_cluster"]


class ClusterEngines(EngineFactory):
    """Each store of a case has a prefix of its own, and so another slot."""

    numbers = count()

    def __init__(self, cluster: ClusterServers, prefix: str) -> None:
        self.url = cluster.url
        self.prefix = prefix
        self.nodes = [RedisClient(parse_address(node.url)) for node in cluster.nodes]
        self.prefixes: dict[Engine, str] = {}
        self.first: list[Engine] = []

    async def open(self, clock: Clock) -> Engine:
        # Values have no prefix.
        for node in self.nodes:
            await node.call("FLUSHALL")
        return await self.started(self.prefix.replace("<n>", str(next(self.numbers))), first=True)

    async def second(self, engine: Engine) -> Engine:
        return await self.started(self.prefixes[engine])

    async def reopen(self, engine: Engine) -> Engine:
        await engine.close()
        return await self.started(self.prefixes[engine], first=True)

    async def elapse(self, engine: Engine, ms: int) -> None:
        # Two engines on one store have one cluster, whose clocks are moved once.
        if engine in self.first:
            for node in self.nodes:
                await node.call("EVAL", AGE, 0, ms)

    async def close(self) -> None:
        for node in self.nodes:
            await node.close()

    async def started(self, prefix: str, *, first: bool = False) -> Engine:
        engine = RedisEngine(self.url, prefix=prefix)
        await engine.start()
        self.prefixes[engine] = prefix
        if first:
            self.first.append(engine)
        return engine


class OnCluster:
    prefix: str

    @pytest_asyncio.fixture
    async def engines(self, shared_cluster: ClusterServers) -> AsyncIterator[EngineFactory]:
        factory = ClusterEngines(shared_cluster, self.prefix)
        yield factory
        await factory.close()


class TestOneSlot(OnCluster, Conformance):
    # A16
    prefix = "{bull-<n>}"


class TestSlotPerQueue(
    OnCluster,
    LockCases,
    CountsCases,
    PauseCases,
    RemovalCases,
    EventCases,
    ConcurrencyCases,
    WakingCases,
    ScheduleCases,
    SharedCases,
    DurableCases,
    OpeningCases,
):
    # A16: what has to do with more than one queue, or with waiting. Flows over several queues need one slot.
    prefix = "{bull-<n>-<queue>}"
