"""Flows whose queues cannot be written in one step are refused before anything is sent."""

import pytest

from toril.engine.redis.address import parse_address
from toril.engine.redis.clients import Clients
from toril.engine.redis.flows import RedisFlowStore
from toril.engine.redis.keys import Keys
from toril.engine.redis.link import ClientOptions
from toril.engine.redis.registry import QueueRegistry
from toril.errors import CrossSlotFlow, EngineUnavailable
from toril.jobs.flow import FlowNode
from toril.jobs.model import NewJob

NODES = [FlowNode("top", NewJob("p", "work", "{}", "{}", 1)), FlowNode("below", NewJob("a", "work", "{}", "{}", 1), 0)]


async def added(keys: Keys) -> None:
    """Add a flow over two queues to a server that is not there."""
    clients = Clients(parse_address("redis://127.0.0.1:1"), ClientOptions(timeout_s=0.2, connect_timeout_s=0.2))
    try:
        await RedisFlowStore(clients, keys, "auto", QueueRegistry(clients, keys)).add(NODES, batch="one", now=1)
    finally:
        await clients.close()


async def test_two_slots_of_a_cluster_are_one_too_many() -> None:
    with pytest.raises(CrossSlotFlow, match=r"'top' under \{bull-top\} and 'below' under \{bull-below\}"):
        await added(Keys("{bull-<queue>}", cluster=True))


@pytest.mark.parametrize(
    "keys", [Keys("{bull}", cluster=True), Keys("{bull-<queue>}"), Keys()], ids=["tag", "one", "plain"]
)
async def test_one_slot_or_one_server_is_fine(keys: Keys) -> None:
    with pytest.raises(EngineUnavailable):
        await added(keys)


@pytest.mark.parametrize(
    ("prefix", "key", "found"),
    [
        ("bull", "bull:docs:j1", ("docs", "j1")),
        ("bull", "bull:docs:repeat:nightly:17", ("docs", "repeat:nightly:17")),
        ("{bull-<queue>}", "{bull-docs}:docs:j1", ("docs", "j1")),
    ],
)
def test_a_key_tells_its_queue_and_id(prefix: str, key: str, found: tuple[str, str]) -> None:
    assert Keys(prefix).split(key) == found
