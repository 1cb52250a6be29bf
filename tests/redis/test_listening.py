"""What the server says unasked, and waits that block: push messages, pub/sub, invalidation, BZPOPMIN."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.redis.conftest import StartServer
from tests.redis.fake import FakeRedis, Peer
from tests.redis.server import RedisServer
from toril.engine.redis.address import parse_address
from toril.engine.redis.blocking import BlockingClient
from toril.engine.redis.client import RedisClient
from toril.engine.redis.link import ClientOptions, Listener
from toril.errors import ConfigError, EngineUnavailable

FAST = ClientOptions(backoff_s=0.005, backoff_cap_s=0.05, silence_s=0.1)


class Ear:
    """Keeps push messages, and wakes who waits for one."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[list[Any]] = asyncio.Queue()

    async def next(self, kind: bytes) -> list[Any]:
        while True:
            message = await asyncio.wait_for(self.messages.get(), 5)
            if message[0] == kind:
                return message


async def test_invalidations_come_between_replies(client: RedisClient, shared_server: RedisServer) -> None:
    ear = Ear()
    listener = Listener(pushed=ear.messages.put_nowait, prepare=lambda: [("CLIENT", "TRACKING", "ON", "BCAST")])
    near = RedisClient(parse_address(shared_server.url), listener=listener)
    await near.start()
    words = [near.call("ECHO", n) for n in range(500)]
    await asyncio.gather(*[client.call("SET", f"k{n}", n) for n in range(100)])
    words += [near.call("ECHO", n) for n in range(500, 1000)]
    assert await asyncio.gather(*words) == [b"%d" % n for n in range(1000)]
    heard: set[bytes] = set()
    while len(heard) < 100:
        heard.update((await ear.next(b"invalidate"))[1])
    assert heard == {b"k%d" % n for n in range(100)}
    await near.close()


async def test_a_subscription_survives_a_lost_connection(
    client: RedisClient, shared_server: RedisServer
) -> None:  # S3-35
    ear = Ear()
    channels = {"first"}
    ups: asyncio.Queue[None] = asyncio.Queue()
    listener = Listener(
        pushed=ear.messages.put_nowait,
        prepare=lambda: [("SUBSCRIBE", *channels)],
        up=lambda: ups.put_nowait(None),
    )
    subscriber = RedisClient(parse_address(shared_server.url), options=FAST, listener=listener)
    await subscriber.start()
    await ups.get()
    channels.add("second")
    # The same connection goes on answering calls.
    replies: tuple[Any, ...] = await asyncio.gather(
        subscriber.call("ECHO", 1), subscriber.call("SUBSCRIBE", "second", "third"), subscriber.call("ECHO", 2)
    )
    assert tuple(replies) == (b"1", None, b"2")
    assert await client.call("PUBLISH", "second", "x") == 1
    assert (await ear.next(b"message"))[1:] == [b"second", b"x"]
    await client.call("CLIENT", "KILL", "ID", await subscriber.call("CLIENT", "ID"))
    await asyncio.wait_for(ups.get(), 5)
    assert await client.call("PUBLISH", "third", "lost") == 0
    assert await client.call("PUBLISH", "first", "kept") == 1
    assert (await ear.next(b"message"))[1:] == [b"first", b"kept"]
    assert await subscriber.call("UNSUBSCRIBE", "first", "second") is None
    assert await client.call("PUBLISH", "first", "x") == 0
    await subscriber.close()


async def test_push_messages_need_a_server_that_has_them() -> None:
    async def old(peer: Peer, command: list[bytes]) -> bytes | None:
        return b"-ERR unknown command 'HELLO'\r\n" if command[0] == b"HELLO" else None

    async with FakeRedis(old) as fake:
        client = RedisClient(parse_address(fake.url), options=FAST, listener=Listener(pushed=print))
        with pytest.raises(EngineUnavailable, match="RESP3, which push messages need"):
            await client.start()
        await client.close()


async def test_a_blocking_wait_gets_its_element(client: RedisClient, shared_server: RedisServer) -> None:
    blocking = BlockingClient(parse_address(shared_server.url), options=FAST)
    waiting = asyncio.create_task(blocking.wait("BZPOPMIN", "a", "b", 5, block_s=5))
    await asyncio.sleep(0)
    with pytest.raises(ConfigError, match="one blocking wait at a time"):
        await blocking.wait("BZPOPMIN", "c", 5, block_s=5)
    await client.call("ZADD", "b", 3, "marker")
    assert await waiting == [b"b", b"marker", 3.0]
    assert await blocking.wait("BZPOPMIN", "a", 0.01, block_s=0.01) is None
    with pytest.raises(ConfigError, match="above 0"):
        await blocking.wait("BZPOPMIN", "a", 0, block_s=0)
    await blocking.close(timeout_s=0)


async def test_a_cancelled_wait_stops_waiting_on_the_server_too(
    client: RedisClient, shared_server: RedisServer
) -> None:
    blocking = BlockingClient(parse_address(shared_server.url), options=FAST)
    await blocking.start()
    id_ = await blocking.call("CLIENT", "ID")
    waiting = asyncio.create_task(blocking.wait("BZPOPMIN", "a", 60, block_s=60))
    while b"flags=b" not in await client.call("CLIENT", "LIST", "ID", id_):
        pass
    waiting.cancel()
    await asyncio.wait([waiting])
    while await client.call("CLIENT", "LIST", "ID", id_):
        pass
    # Nobody is there any more to take what comes.
    await client.call("ZADD", "a", 1, "marker")
    assert await blocking.wait("BZPOPMIN", "a", 60, block_s=60) == [b"a", b"marker", 1.0]
    await blocking.close()


async def test_the_watchdog_of_a_blocking_wait(start_server: StartServer) -> None:
    server = start_server()
    blocking = BlockingClient(parse_address(server.url), options=FAST)
    await blocking.start()
    server.freeze()
    began = time.monotonic()
    with pytest.raises(EngineUnavailable, match="BZPOPMIN may or may not have been executed"):
        await blocking.wait("BZPOPMIN", "a", 0.1, block_s=0.1, margin_s=0.2)
    assert 0.2 < time.monotonic() - began < 2
    server.thaw()
    assert await blocking.wait("BZPOPMIN", "a", 0.1, block_s=0.1, margin_s=5) is None
    await blocking.close()
