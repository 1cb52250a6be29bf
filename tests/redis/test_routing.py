"""The client of a cluster on nodes that do what a test tells them: they send away, hold back, name each other, die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.redis.fake import FakeRedis, HangUp, Peer
from toril.engine.redis.cluster import parse_cluster
from toril.engine.redis.link import ClientOptions
from toril.engine.redis.routing import ClusterClient
from toril.engine.redis.slots import SLOTS, key_slot
from toril.errors import ConfigError, EngineUnavailable

OPTIONS = ClientOptions(timeout_s=20.0, connect_timeout_s=5.0, backoff_s=0.01, backoff_cap_s=0.05)
HALF = SLOTS // 2
LOW, HIGH = "b", "a"
"""Two keys: the first lies in the lower half of the slots, the second in the upper."""

Rule = Callable[[int, list[bytes]], Awaitable[bytes | None]]


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


class Nodes:
    """Nodes of a cluster. `halves` says which of them holds the lower and which the upper half, as all of them tell.

    `rule` may answer in place of a node; else a node answers with its number.
    """

    def __init__(self, many: int) -> None:
        self.halves = [0, 1]
        self.rule: Rule | None = None
        self.maps = True
        self.fakes = [FakeRedis(self._answers(number)) for number in range(many)]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(fake.url.removeprefix("redis://") for fake in self.fakes)

    def port(self, number: int) -> int:
        return int(self.fakes[number].url.rpartition(":")[2])

    def moved(self, key: str, number: int, word: str = "MOVED") -> bytes:
        return f"-{word} {key_slot(key)} 127.0.0.1:{self.port(number)}\r\n".encode()

    def of(self, name: bytes) -> list[int]:
        """How often each node got the command."""
        return [len(fake.named(name)) for fake in self.fakes]

    def _answers(self, number: int) -> Callable[[Peer, list[bytes]], Awaitable[bytes | None]]:
        async def answer(peer: Peer, command: list[bytes]) -> bytes | None:
            if command[0] == b"CLUSTER":
                return self._slots() if self.maps else b"-NOPERM this user has no permissions\r\n"
            if command[0] in {b"HELLO", b"PING", b"CLIENT"}:
                return None
            told = None if self.rule is None else await self.rule(number, command)
            return b":%d\r\n" % number if told is None else told

        return answer

    def _slots(self) -> bytes:
        reply = b"*2\r\n"
        for half, number in enumerate(self.halves):
            node = b"*3\r\n" + bulk(b"127.0.0.1") + b":%d\r\n" % self.port(number) + bulk(b"id")
            reply += b"*3\r\n:%d\r\n:%d\r\n" % (half * HALF, (half + 1) * HALF - 1) + node
        return reply


@asynccontextmanager
async def opened(many: int = 2, options: ClientOptions = OPTIONS) -> AsyncIterator[tuple[Nodes, ClusterClient]]:
    nodes = Nodes(many)
    async with AsyncExitStack() as stack:
        for fake in nodes.fakes:
            await stack.enter_async_context(fake)
        client = ClusterClient(parse_cluster(nodes.url), options)
        stack.push_async_callback(client.close)
        yield nodes, client


async def test_each_command_goes_to_the_node_that_holds_its_key() -> None:
    async with opened() as (nodes, client):
        assert [master[2:] for master in await client.masters()] == [(0, HALF), (HALF, HALF)]
        replies = await asyncio.gather(*(client.call("INCR", key) for key in (LOW, HIGH) * 50))
        assert replies == [0, 1] * 50
        assert nodes.of(b"INCR") == [50, 50]


async def test_a_command_finds_its_node_before_the_map_is_known() -> None:
    async with opened() as (nodes, client):

        async def rule(number: int, command: list[bytes]) -> bytes | None:
            key = command[1].decode()
            right = 0 if key == LOW else 1
            return None if number == right else nodes.moved(key, right)

        nodes.rule = rule
        assert list(await asyncio.gather(client.call("INCR", HIGH), client.call("INCR", LOW))) == [1, 0]


async def test_a_slot_that_has_moved_is_found_and_remembered() -> None:
    async with opened() as (nodes, client):
        await client.masters()

        async def rule(number: int, command: list[bytes]) -> bytes | None:
            return nodes.moved(LOW, 1) if number == 0 else None

        nodes.rule = rule
        nodes.halves = [1, 1]
        assert await asyncio.gather(*(client.call("INCR", LOW, index) for index in range(10))) == [1] * 10
        assert nodes.of(b"INCR") == [10, 10]
        assert await client.call("INCR", LOW) == 1
        assert nodes.of(b"INCR") == [10, 11]


async def test_a_slot_on_the_move_is_asked_for_at_both_ends() -> None:
    async with opened() as (nodes, client):
        await client.masters()

        async def rule(number: int, command: list[bytes]) -> bytes | None:
            return nodes.moved(LOW, 1, "ASK") if number == 0 and command[0] == b"INCR" else None

        nodes.rule = rule
        calls = [client.call("INCR", LOW), client.call("DECR", HIGH), client.call("INCR", LOW)]
        assert await asyncio.gather(*calls) == [1, 1, 1]
        got = [command for command in nodes.fakes[1].commands if command[0] in {b"ASKING", b"INCR", b"DECR"}]
        before = [got[index - 1][0] for index, command in enumerate(got) if command[0] == b"INCR"]
        assert before == [b"ASKING", b"ASKING"]
        assert await client.call("INCR", LOW) == 1
        assert nodes.of(b"INCR") == [3, 3]


async def test_a_call_that_must_wait_holds_up_no_other() -> None:
    async with opened() as (nodes, client):
        await client.masters()
        ready = asyncio.Event()

        async def rule(number: int, command: list[bytes]) -> bytes | None:
            held = command[0] == b"EVALSHA" and not ready.is_set()
            return b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n" if held else None

        nodes.rule = rule
        held = client.call("EVALSHA", "digest", 2, f"{{{LOW}}}", f"{{{LOW}}}x", repeatable=True)
        for _ in range(20):
            assert await client.call("INCR", LOW) == 0
        assert not held.done()
        ready.set()
        assert await held == 0


async def test_two_nodes_that_name_each_other_are_not_asked_without_end() -> None:
    async with opened(options=ClientOptions(timeout_s=1.0, backoff_s=0.01)) as (nodes, client):

        async def rule(number: int, command: list[bytes]) -> bytes | None:
            return nodes.moved(LOW, 1 - number)

        nodes.rule = rule
        with pytest.raises(EngineUnavailable) as caught:
            await client.call("INCR", LOW)
        assert not caught.value.ambiguous
        assert sum(nodes.of(b"INCR")) < 50


async def test_what_a_dead_node_did_not_answer_goes_to_its_successor() -> None:
    async with opened(3) as (nodes, client):
        await client.masters()

        async def rule(number: int, command: list[bytes]) -> bytes | None:
            if number == 0 and command[0] == b"INCR":
                nodes.halves = [2, 1]
                raise HangUp
            return None

        nodes.rule = rule
        once = client.call("INCR", LOW)
        again = client.call("INCR", LOW, repeatable=True)
        with pytest.raises(EngineUnavailable) as caught:
            await once
        assert caught.value.ambiguous
        assert await again == 2
        assert await client.call("INCR", LOW) == 2
        assert [master.address.port for master in await client.masters()] == [nodes.port(1), nodes.port(2)] or [
            nodes.port(2),
            nodes.port(1),
        ]


async def test_what_waits_for_a_dead_node_goes_to_its_successor() -> None:
    async with opened(3) as (nodes, client):
        await client.masters()
        await nodes.fakes[0].__aexit__(None, None, None)
        calls = [client.call("SET", LOW, index, repeatable=True) for index in range(100)]
        nodes.halves = [2, 1]
        assert await asyncio.gather(*calls) == [2] * 100
        assert nodes.of(b"SET")[2] == 100


async def test_many_keys_are_split_and_joined() -> None:
    async with opened() as (nodes, client):
        await client.masters()

        async def rule(number: int, command: list[bytes]) -> bytes | None:
            return bulk(command[1]) if command[0] == b"GET" else None

        nodes.rule = rule
        assert await client.call("MGET", LOW, HIGH, LOW) == [b"b", b"a", b"b"]
        assert await client.call(b"del", LOW, HIGH, HIGH) == 2
        assert nodes.of(b"DEL") == [1, 2]
        assert await client.call("DEL", f"{{{LOW}}}1", f"{{{LOW}}}2") == 0
        assert nodes.fakes[0].named(b"DEL")[-1] == [b"DEL", b"{b}1", b"{b}2"]


async def test_a_user_who_may_not_ask_for_the_map_gets_through_all_the_same() -> None:
    async with opened() as (nodes, client):
        nodes.maps = False

        async def rule(number: int, command: list[bytes]) -> bytes | None:
            return nodes.moved(HIGH, 1) if number == 0 else None

        nodes.rule = rule
        assert await client.call("INCR", HIGH) == 1
        with pytest.raises(ConfigError, match=r"\+cluster\|slots"):
            await client.masters()
        nodes.maps = True
        assert len(await client.masters()) == 2


async def test_a_blocking_wait_follows_its_slot() -> None:
    async with opened() as (nodes, client):
        await client.masters()
        waits = client.blocking(key_slot(LOW), OPTIONS)

        async def rule(number: int, command: list[bytes]) -> bytes | None:
            return nodes.moved(LOW, 1) if number == 0 else None

        nodes.rule = rule
        nodes.halves = [1, 1]
        assert await waits.wait("BZPOPMIN", LOW, 5, block_s=5.0) is None
        assert await waits.wait("BZPOPMIN", LOW, 5, block_s=5.0) == 1
        assert nodes.of(b"BZPOPMIN") == [1, 1]
        await waits.close()


async def test_a_blocking_wait_has_found_nothing_while_its_slot_moves() -> None:
    async with opened() as (nodes, client):
        answers = [b"-TRYAGAIN wait\r\n", nodes.moved(LOW, 1, "ASK"), None]
        waits = client.blocking(key_slot(LOW), OPTIONS)

        async def rule(number: int, command: list[bytes]) -> bytes | None:
            return answers.pop(0)

        nodes.rule = rule
        assert await waits.wait("BZPOPMIN", LOW, 5, block_s=5.0) is None
        assert await waits.wait("BZPOPMIN", LOW, 5, block_s=5.0) is None
        assert await waits.wait("BZPOPMIN", LOW, 5, block_s=5.0) == 0
        await waits.close()


async def test_nobody_is_there() -> None:
    options = ClientOptions(timeout_s=0.3, backoff_s=0.01)
    client = ClusterClient(parse_cluster("redis+cluster://:hunter2@127.0.0.1:1,127.0.0.1:2"), options)
    for ask in (client.call("GET", "k"), client.masters()):
        with pytest.raises(EngineUnavailable) as caught:
            await ask
        assert "hunter2" not in str(caught.value)
        assert not caught.value.ambiguous
    await client.close()
