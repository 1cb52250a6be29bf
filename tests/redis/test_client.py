"""The client against a real server: replies to their calls, whatever happens around them."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Awaitable
from typing import Any

import pytest

from tests.redis.fake import FakeRedis, Peer
from tests.redis.server import RedisServer
from toril.engine.redis.address import Address, parse_address
from toril.engine.redis.client import RedisClient
from toril.engine.redis.link import ClientOptions
from toril.engine.redis.replies import ReplyError
from toril.errors import ConfigError, EngineClosed, EngineUnavailable


async def nothing(peer: Peer, command: list[bytes]) -> bytes | None:
    """Answer as usual, and ECHO with what it was given."""
    return b"$%d\r\n%b\r\n" % (len(command[1]), command[1]) if command[0] == b"ECHO" else None


async def gather(*futures: Awaitable[Any]) -> list[Any]:
    return await asyncio.gather(*futures, return_exceptions=True)


async def test_commands_are_answered(client: RedisClient) -> None:
    assert await client.call(b"SET", "key", 1) == b"OK"
    assert await client.call("APPEND", b"key", "é") == 3
    assert await client.call("GET", "key") == "1é".encode()
    assert await client.call("GET", "none") is None
    assert await client.call("RPUSH", "list", 1, 2.5, "x") == 3
    assert await client.call("LRANGE", "list", 0, -1) == [b"1", b"2.5", b"x"]
    assert client.is_connected
    with pytest.raises(ReplyError, match="wrong kind") as caught:
        await client.call("INCR", "list")
    assert caught.value.code == "WRONGTYPE"
    with pytest.raises(TypeError):
        await client.call("SET", "key", None)  # type: ignore[arg-type]
    assert await client.call("GET", "key") == "1é".encode()


@pytest.mark.parametrize(("protocol", "reply"), [(3, {b"f": b"v"}), (2, [b"f", b"v"])])
async def test_both_protocols_are_spoken(shared_server: RedisServer, protocol: int, reply: Any) -> None:
    client = RedisClient(parse_address(f"{shared_server.url}/5?protocol={protocol}"))
    await client.call("HSET", "h", "f", "v")
    assert await client.call("HGETALL", "h") == reply
    assert await client.call("EVAL", "return {1, 'x', false, redis.call('HGETALL', KEYS[1])}", 1, "h") == [
        1,
        b"x",
        None,
        [b"f", b"v"],
    ]
    assert client.protocol == protocol
    await client.close()


async def test_an_old_server_is_spoken_to_in_resp2() -> None:
    async def old(peer: Peer, command: list[bytes]) -> bytes | None:
        return b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n" if command[0] == b"HELLO" else None

    async with FakeRedis(old) as fake:
        client = RedisClient(parse_address(fake.url.replace("//", "//:secret@")))
        await client.start()
        assert client.protocol == 2
        assert fake.named(b"AUTH") == [[b"AUTH", b"secret"]]
        await client.close()


async def test_database_and_name_hold_for_every_connection(shared_server: RedisServer) -> None:
    client = RedisClient(parse_address(f"{shared_server.url}/7"), options=ClientOptions(name="bull:abc="))
    for _ in range(2):
        info = (await client.call("CLIENT", "INFO", repeatable=True)).decode()
        assert " db=7 " in info
        assert " name=bull:abc= " in info
        client.drop("the test wants a new one")
    await client.close()


async def test_nothing_is_connected_before_the_first_call() -> None:
    async with FakeRedis(nothing) as fake:
        client = RedisClient(parse_address(fake.url))
        await asyncio.sleep(0)
        assert (fake.connections, client.is_connected, client.protocol) == (0, False, 0)
        await client.close()
        unused = RedisClient(parse_address(fake.url))
        assert await unused.call("ECHO", "x") == b"x"
        await unused.close()
        assert fake.connections == 1


async def test_calls_of_one_turn_are_one_write() -> None:
    async with FakeRedis(nothing) as fake:
        client = RedisClient(parse_address(fake.url))
        await client.start()
        fake.reads.clear()
        assert await gather(*[client.call("ECHO", n) for n in range(100)]) == [b"%d" % n for n in range(100)]
        # The first may go ahead alone.
        assert len(fake.reads) <= 2
        await client.close()


async def many_calls(client: RedisClient, number: int, tasks: int) -> None:
    """Every task checks each of its replies; some calls fail on the server, some are long, some come in bunches."""
    await client.call("SET", "text", "x")
    draw = random.Random(7)

    async def one(task: int) -> None:
        for n in range(number // tasks // 4):
            word = b"%d:%d" % (task, n) + b"x" * (5000 if draw.random() < 0.001 else 0)
            first, second = client.call(b"ECHO", word), client.call(b"ECHO", word + b"!")
            wrong = client.call(b"LPUSH", b"text", word)
            assert await first == word
            assert await second == word + b"!"
            with pytest.raises(ReplyError, match="WRONGTYPE"):
                await wrong
            assert await client.call(b"ECHO", n) == b"%d" % n

    await asyncio.gather(*[one(task) for task in range(tasks)])


async def test_interleaved_calls_get_their_own_replies(client: RedisClient) -> None:
    await many_calls(client, 100_000, 100)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_a_million_interleaved_calls_get_their_own_replies(client: RedisClient) -> None:
    await many_calls(client, 1_000_000, 200)


async def cancelled_calls(client: RedisClient, number: int) -> None:
    draw = random.Random(11)
    loop = asyncio.get_running_loop()
    counts = {"kept": 0, "cancelled": 0}

    async def one(task: int) -> None:
        for n in range(number):
            word = b"%d:%d" % (task, n)
            future = client.call(b"ECHO", word)
            match draw.randrange(5):
                case 0:
                    future.cancel()
                case 1:
                    loop.call_soon(future.cancel)
                case 2:
                    loop.call_later(draw.random() * 0.001, future.cancel)
            try:
                assert await future == word
                counts["kept"] += 1
            except asyncio.CancelledError:
                counts["cancelled"] += 1

    await asyncio.gather(*[one(task) for task in range(50)])
    assert min(counts.values()) > number


async def test_cancelling_under_load_shifts_no_reply(client: RedisClient) -> None:
    await cancelled_calls(client, 500)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_cancelling_under_long_load_shifts_no_reply(client: RedisClient) -> None:
    await cancelled_calls(client, 20_000)


async def test_a_call_that_is_cancelled_before_it_is_written_never_reaches_the_server(client: RedisClient) -> None:
    futures = [client.call("INCR", "n") for _ in range(10)]
    for future in futures[5:]:
        future.cancel()
    await gather(*futures)
    # The first ones were gathered for the same write, so all five of the others were stopped.
    assert await client.call("GET", "n") == b"5"


async def test_a_deadline_is_kept_without_harming_others(client: RedisClient) -> None:
    slow = client.call("EVAL", "local n = 0 while n < 3e7 do n = n + 1 end return 'done'", 0)
    late = client.call("ECHO", "late", timeout_s=0.01)
    patient = client.call("ECHO", "patient")
    with pytest.raises(EngineUnavailable, match=r"ECHO may or may not have been executed: no reply in time") as caught:
        await late
    assert caught.value.ambiguous
    assert not slow.done()
    assert (await slow, await patient) == (b"done", b"patient")
    # The server was slow, not gone: still the same connection.
    assert client.is_connected


async def test_a_server_that_reads_nothing_fills_the_queue_up_to_its_bound() -> None:
    reading = asyncio.Event()

    async def stuck(peer: Peer, command: list[bytes]) -> bytes | None:
        if command[0] == b"STOP":
            await reading.wait()
            return b"+OK\r\n"
        return b":1\r\n" if command[0] == b"SET" else None

    async with FakeRedis(stuck) as fake:
        options = ClientOptions(max_waiting=50, max_waiting_bytes=40_000_000)
        client = RedisClient(parse_address(fake.url), options=options)
        await client.start()
        stop, block = client.call("STOP"), b"x" * 1_000_000
        written = []
        while client.is_connected:
            written.append(client.call("SET", "k", block))
            await asyncio.sleep(0)
        parked = [client.call("SET", "k", block) for _ in range(39)]
        with pytest.raises(EngineUnavailable, match=r"39 calls with .* wait already") as caught:
            await client.call("SET", "k", block)
        assert not caught.value.ambiguous
        parked[0].cancel()
        again = client.call("SET", "k", block)
        small = [client.call("SET", "k", 1) for _ in range(11)]
        with pytest.raises(EngineUnavailable, match="50 calls"):
            await client.call("SET", "k", 1)
        reading.set()
        assert set(await gather(stop, *written, *parked[1:], again, *small)) == {b"OK", 1}
        await client.close()


async def test_a_closed_client_says_so(shared_server: RedisServer) -> None:
    client = RedisClient(parse_address(shared_server.url))
    await client.start()
    under_way = client.call("ECHO", "finish")
    await client.close()
    await client.close()
    assert await under_way == b"finish"
    assert not client.is_connected
    with pytest.raises(EngineClosed, match="closed"):
        await client.call("PING")


async def test_closing_ends_what_does_not_finish() -> None:
    async def silent(peer: Peer, command: list[bytes]) -> bytes | None:
        return b"" if command[0] == b"ECHO" else None

    async with FakeRedis(silent) as fake:
        client = RedisClient(parse_address(fake.url))
        await client.start()
        written = client.call("ECHO", 1)
        await asyncio.sleep(0)
        await client.close(timeout_s=0.01)
        with pytest.raises(EngineUnavailable) as caught:
            await written
        assert caught.value.ambiguous


async def test_the_place_is_asked_for_before_each_connection() -> None:
    async with FakeRedis(nothing) as first, FakeRedis(nothing) as second:
        places = [parse_address(first.url), parse_address(second.url)]

        async def locate() -> Address:
            return places.pop(0) if len(places) > 1 else places[0]

        client = RedisClient(locate=locate, options=ClientOptions(backoff_s=0.001))
        assert await client.call("ECHO", 1) == b"1"
        assert client.location == f"{first.url}/0"
        client.drop("fail-over")
        assert await client.call("ECHO", 2, repeatable=True) == b"2"
        assert (first.connections, second.connections) == (1, 1)
        await client.close()


def test_a_client_needs_one_place() -> None:
    async def locate() -> Address:
        return Address()

    with pytest.raises(ConfigError, match="either an address or a function"):
        RedisClient()
    with pytest.raises(ConfigError, match="either an address or a function"):
        RedisClient(Address(), locate=locate)


def test_toril_alone_loads_no_redis_driver() -> None:
    code = "import sys, toril; sys.exit(bool({'redis', 'hiredis', 'toril.engine.redis'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=9).returncode == 0
