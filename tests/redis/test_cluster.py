"""Applications on a real cluster: queues on all of its masters, slots that move, nodes that die."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.redis.conftest import StartCluster, StartServer
from tests.redis.nodes import ClusterServers
from tests.redis.test_doctor import diagnose
from toril import EngineError, Settings, Toril
from toril.cli import redis_checks
from toril.cli.checks import Level
from toril.engine.protocol import Health
from toril.engine.redis.address import parse_address
from toril.engine.redis.client import RedisClient
from toril.engine.redis.engine import RedisEngine
from toril.engine.redis.slots import SLOTS, key_slot
from toril.errors import ConfigError
from toril.settings import JobSettings, RedisSettings, WorkerSettings

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
PARTLY = ("--cluster-require-full-coverage", "no")
WITHIN_S = 40.0

# With both prefixes that are used here they lie on all of three masters.
QUEUES = ("q10", "q11", "q12", "q13", "q14")


class Site:
    """An application with a worker on several queues, and a producer that never gives up."""

    def __init__(self, url: str, queues: tuple[str, ...]) -> None:
        self.accepted: set[str] = set()
        self.done: Counter[str] = Counter()
        self.queues = queues
        jobs = JobSettings(enqueue_timeout=5.0, keep_completed_max=100_000, on_outage="fail")
        worker = WorkerSettings(shutdown_timeout=2.0, poll=1.0)
        settings = Settings(jobs=jobs, redis=RedisSettings(timeout=2.0), worker=worker)
        self.toril = Toril(url, settings=settings)

        async def note(word: str) -> str:
            self.done[word] += 1
            return word

        self.notes = {queue: self.toril.task(name=f"note-{queue}", queue=queue)(note) for queue in queues}
        self.worker = self.toril.worker(concurrency=5, queues=list(queues))

    async def add(self, queue: str, word: str) -> None:
        """Add a job, however long it takes."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                with suppress(EngineError):
                    await self.notes[queue].enqueue(word)
                    self.accepted.add(word)
                    return
                await asyncio.sleep(0.05)

    async def produce(self) -> None:
        number = 0
        while True:
            number += 1
            await self.add(self.queues[number % len(self.queues)], str(number))
            await asyncio.sleep(0.005)

    async def all_done(self) -> None:
        """Return when every job that was accepted has been done."""
        async with asyncio.timeout(WITHIN_S):
            while self.accepted - self.done.keys():
                await asyncio.sleep(0.02)

    async def works(self, queue: str) -> None:
        """Return when a job that was added now has been done."""
        await self.add(queue, f"now-{len(self.accepted)}")
        await self.all_done()


@asynccontextmanager
async def working(url: str, *queues: str) -> AsyncIterator[Site]:
    site = Site(url, queues)
    async with site.toril, site.worker:
        for queue in queues:
            await site.works(queue)
        yield site


@asynccontextmanager
async def producing(site: Site) -> AsyncIterator[None]:
    producer = asyncio.create_task(site.produce())
    try:
        yield
    finally:
        producer.cancel()
        await asyncio.wait([producer])


async def more(site: Site, many: int) -> None:
    """Return when so many more jobs have been done."""
    wanted = len(site.done) + many
    async with asyncio.timeout(WITHIN_S):
        while len(site.done) < wanted:
            await asyncio.sleep(0.02)


async def all_completed(site: Site) -> None:
    """Return when the store has no job of the queues that is not completed: none is left behind in any key."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            counts = [await site.toril.engine.inspect.counts(queue) for queue in site.queues]
            if all(each.completed == each.total for each in counts):
                return
            await asyncio.sleep(0.02)


@pytest.mark.timeout(60)
async def test_one_worker_serves_queues_on_all_masters(shared_cluster: ClusterServers) -> None:
    # A16
    owners = {shared_cluster.owner(key_slot(f"five-{queue}")) for queue in QUEUES}
    assert owners == {0, 1, 2}
    toril = Toril(f"{shared_cluster.url}?prefix={{five-<queue>}}")

    async def double(number: int) -> int:
        return 2 * number

    doubles = {queue: toril.task(name=f"double-{queue}", queue=queue)(double) for queue in QUEUES}
    async with toril, toril.worker(queues=list(QUEUES)):
        handles = [await doubles[queue].enqueue(number) for number in range(10) for queue in QUEUES]
        assert await asyncio.gather(*(handle.result(timeout=20) for handle in handles)) == [
            2 * number for number in range(10) for _ in QUEUES
        ]
        later = await doubles["q12"].with_options(delay=3600).enqueue(1)
        assert await later.cancel() is True
        stats = await toril.stats()
        assert {one.name: one.counts.completed for one in stats.queues} == dict.fromkeys(QUEUES, 10)
        assert (await toril.engine.inspect.get(handles[-1].id)) is not None
        names = [
            line
            for number in range(3)
            for line in shared_cluster.ask(number, "CLIENT", "LIST").splitlines()
            if ":w:" in line and "name={five-" in line
        ]
        # BullMQ counts these connections as the workers of a queue.
        assert len(names) == len(QUEUES)


@pytest.mark.timeout(90)
async def test_a_slot_is_moved_under_load(shared_cluster: ClusterServers) -> None:
    # A16
    slot = key_slot("moving")
    home = shared_cluster.owner(slot)
    async with working(f"{shared_cluster.url}?prefix={{moving}}", "left", "right") as site:
        async with producing(site):
            for target in ((home + 1) % 3, (home + 2) % 3, home):
                await more(site, 20)
                await asyncio.to_thread(shared_cluster.begin_move, slot, target)
                await asyncio.to_thread(shared_cluster.move_keys, slot, target, 25)
                during = asyncio.create_task(site.add("left", f"during-{target}"))
                await asyncio.to_thread(shared_cluster.end_move, slot, target)
                await during
            await more(site, 20)
        await site.all_done()
        await all_completed(site)
    assert site.accepted <= site.done.keys()
    # Nobody vanished, so nothing ran twice.
    assert set(site.done.values()) == {1}


@pytest.mark.timeout(90)
async def test_a_node_is_killed_and_started_again(start_cluster: StartCluster, tmp_path: Path) -> None:
    # A01
    cluster = await asyncio.to_thread(start_cluster, *DURABLE, *PARTLY, "--cluster-node-timeout", "2000")
    slots = {queue: key_slot(f"bull-{queue}") for queue in QUEUES}
    victim = cluster.owner(slots["q10"])
    [other, *_] = [queue for queue in QUEUES if cluster.owner(slots[queue]) != victim]
    async with working(cluster.url, *QUEUES) as site:
        cluster.nodes[victim].kill()
        # Those whose masters live do not wait for those whose master is away.
        await site.works(other)
        added = asyncio.create_task(site.add("q10", "when it is back"))
        await site.works(other)
        assert not added.done()
        await kept_and_done(site, cluster, victim, other, tmp_path)
        await added
        await site.all_done()
        for queue in QUEUES:
            await site.works(queue)


async def kept_and_done(site: Site, cluster: ClusterServers, victim: int, other: str, folder: Path) -> None:
    """What another application adds while a node is away: what is for that node waits in the spool until it is back."""
    jobs = JobSettings(spool_url=f"sqlite:///{folder / 'spool.db'}")
    toril = Toril(cluster.url, settings=Settings(jobs=jobs, redis=RedisSettings(timeout=1.0)))

    async def note(word: str) -> str:
        return word

    notes = {queue: toril.task(name=f"note-{queue}", queue=queue)(note) for queue in ("q10", other)}
    async with toril:
        await notes["q10"].enqueue("kept")
        await notes[other].enqueue("at once")
        site.accepted.add("at once")
        await site.all_done()
        assert "kept" not in site.done
        nodes = (await toril.engine.health()).detail["nodes"]
        assert [node["location"] for node in nodes if "error" in node] == [f"{cluster.nodes[victim].url}/0"]
        await asyncio.to_thread(cluster.nodes[victim].start)
        site.accepted.add("kept")
        await site.all_done()


@pytest.mark.timeout(120)
async def test_a_replica_takes_over(start_cluster: StartCluster) -> None:
    # A01 A16
    settings = ("--cluster-node-timeout", "1500", "--repl-diskless-sync-delay", "0")
    cluster = await asyncio.to_thread(start_cluster, *DURABLE, *PARTLY, *settings, replicas=1)
    queue = next(queue for queue in QUEUES if cluster.owner(key_slot(f"bull-{queue}")) == 0)
    async with working(cluster.url, queue) as site:
        async with producing(site):
            await more(site, 20)
            # In good order: nothing may be lost, and nothing runs twice.
            await asyncio.to_thread(cluster.take_over, 3)
            await more(site, 20)
        await site.all_done()
        assert set(site.done.values()) == {1}
        await asyncio.to_thread(cluster.until, lambda: "master_link_status:up" in cluster.ask(0, "INFO", "replication"))
        await asyncio.to_thread(cluster.until, lambda: cluster.ask(3, "WAIT", 1, 1000) == 1)
        cluster.nodes[3].kill()
        await site.works(queue)
        nodes = (await site.toril.engine.health()).detail["nodes"]
        assert f"redis://127.0.0.1:{cluster.nodes[0].port}/0" in [node["location"] for node in nodes]


def test_doctor_shows_the_nodes(shared_cluster: ClusterServers) -> None:
    found = diagnose(shared_cluster.url)
    assert found["nodes"]["level"] == "pass"
    assert all(f"127.0.0.1:{node.port}/0 (546" in found["nodes"]["found"] for node in shared_cluster.nodes)
    assert "keys begin with {bull-<queue>}" in found["store"]["found"]
    assert found["persistence"]["level"] == "warn"


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([{"location": "a", "slots": SLOTS - 1, "version": "8"}], "nobody holds"),
        (
            [{"location": "a", "slots": 1, "version": "8"}, {"location": "b", "slots": SLOTS - 1, "error": "x"}],
            "what is away",
        ),
    ],
)
def test_what_a_cluster_lacks_is_told(nodes: list[dict[str, Any]], said: str) -> None:
    detail = {"location": "redis+cluster://a", "prefix": "{bull}", "wire": "auto", "policy": "noeviction"}
    [told] = [
        one for one in redis_checks.server(Health(True, 1.0, detail | {"nodes": nodes})) if one.level is not Level.PASS
    ]
    assert told.name == "nodes"
    assert said in told.todo


async def test_a_cluster_must_be_one(shared_cluster: ClusterServers, start_server: StartServer) -> None:
    single = start_server()
    with pytest.raises(ConfigError, match="expected a node of a Redis Cluster"):
        await RedisEngine(single.url.replace("redis:", "redis+cluster:")).start()
    with pytest.raises(ConfigError, match=r"Write redis\+cluster"):
        await RedisEngine(shared_cluster.nodes[0].url).start()


async def test_a_sweep_begins_anew_when_its_master_is_gone(shared_cluster: ClusterServers) -> None:
    engine = RedisEngine(shared_cluster.url)
    await engine.start()
    await engine.keyvalue.set([(f"swept-{number}", b"x") for number in range(30)], ttl_ms=60_000, now=0)
    wanted = {f"swept-{number}" for number in range(30)}
    for cursor in (None, "5461-abcdef-7", "17-0-3", "3"):
        found: set[str] = set()
        while True:
            page = await engine.keyvalue.scan("swept-", now=0, limit=7, cursor=cursor)
            found |= set(page.keys)
            cursor = page.cursor
            if cursor is None:
                break
        assert found == wanted
    with pytest.raises(ConfigError, match="cursor of an earlier page"):
        await engine.keyvalue.scan("swept-", now=0, cursor="1-2")
    await engine.close()


@pytest.mark.timeout(60)
async def test_a_cluster_with_tls(start_server: StartServer, tmp_path: Path) -> None:
    # A16 S0-29
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    files = ("--tls-cert-file", tmp_path / "server.pem", "--tls-key-file", tmp_path / "server.pem")
    words = (*map(str, files), "--tls-ca-cert-file", str(tmp_path / "ca.pem"), "--tls-auth-clients", "no")
    server = start_server(*words, "--cluster-enabled", "yes", "--tls-cluster", "yes", plain=False)
    place, query = f"127.0.0.1:{server.port}", f"ssl_ca_certs={tmp_path / 'ca.pem'}"
    admin = RedisClient(parse_address(f"rediss://{place}?{query}"))
    await admin.call("CLUSTER", "ADDSLOTS", *range(SLOTS))
    await until_ok(admin)
    async with working(f"rediss+cluster://{place}?{query}", "q10") as site:
        assert site.toril.engine.location == f"rediss+cluster://{place}"
    await admin.close()


async def until_ok(admin: RedisClient) -> None:
    async with asyncio.timeout(WITHIN_S):
        while b"cluster_state:ok" not in await admin.call("CLUSTER", "INFO"):
            await asyncio.sleep(0.05)


@pytest.mark.timeout(60)
async def test_a_cluster_with_password_and_rights(start_server: StartServer) -> None:
    """One node that holds all slots, and knows no address of its own."""
    server = start_server("--cluster-enabled", "yes", "--requirepass", "root")
    admin = RedisClient(parse_address(server.url.replace("//", "//:root@")))
    await admin.call("CLUSTER", "ADDSLOTS", *range(SLOTS))
    rights = "~{bull-*:* ~toril:* -@all +@read +@write +@connection +@scripting -@dangerous +time +info +script|exists"
    await admin.call("ACL", "SETUSER", "ann", "on", ">hunter2", *rights.split())
    await until_ok(admin)
    url = server.url.replace("redis://", "redis+cluster://ann:hunter2@")
    with pytest.raises(ConfigError, match=r"\+cluster\|slots") as caught:
        await RedisEngine(url).start()
    assert "hunter2" not in str(caught.value)
    await admin.call("ACL", "SETUSER", "ann", "+cluster|slots")
    async with working(url, "q10") as site:
        detail = (await site.toril.engine.health()).detail
        assert [node["slots"] for node in detail["nodes"]] == [SLOTS]
        assert "hunter2" not in str(detail)
    await admin.close()


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_a_minute_of_changes_under_load(start_cluster: StartCluster) -> None:
    """Masters change places with their replicas, slots wander, connections are cut: nothing is lost or left behind."""
    # A16
    cluster = await asyncio.to_thread(start_cluster, *PARTLY, "--repl-diskless-sync-delay", "0", replicas=1)
    chance = random.Random(7)
    ends = time.monotonic() + 60.0
    async with working(cluster.url, *QUEUES) as site:
        async with producing(site):
            while time.monotonic() < ends:
                await asyncio.to_thread(chance.choice([changed_places, wandered, cut]), cluster, chance)
                await more(site, 20)
        await site.all_done()
        await all_completed(site)
    # A lock that ran out during a change is a stall, and the job runs again: seldom.
    assert sum(many - 1 for many in site.done.values()) <= 5


def changed_places(cluster: ClusterServers, chance: random.Random) -> None:
    [replica] = [number for number in (0, 3) if "role:slave" in cluster.ask(number, "INFO", "replication")]
    cluster.until(lambda: "master_link_status:up" in cluster.ask(replica, "INFO", "replication"))
    cluster.take_over(replica)


def wandered(cluster: ClusterServers, chance: random.Random) -> None:
    slot = key_slot(f"bull-{chance.choice(QUEUES)}")
    target = chance.choice([number for number in cluster.masters() if number != cluster.owner(slot)])
    cluster.begin_move(slot, target)
    cluster.move_keys(slot, target, chance.randrange(40))
    cluster.end_move(slot, target)


def cut(cluster: ClusterServers, chance: random.Random) -> None:
    cluster.ask(chance.randrange(4), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
