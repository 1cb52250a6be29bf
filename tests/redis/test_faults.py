"""Servers that die, freeze, restart, hang up and refuse: deadlines hold, nothing is sent twice, it goes on alone."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.redis.conftest import StartServer
from tests.redis.fake import FakeRedis, HangUp, Peer
from toril.engine.redis.address import parse_address
from toril.engine.redis.client import RedisClient
from toril.engine.redis.link import ClientOptions, Listener
from toril.errors import EngineUnavailable

FAST = ClientOptions(backoff_s=0.005, backoff_cap_s=0.05, timeout_s=3.0, silence_s=0.1)
DEAF = Listener()


@asynccontextmanager
async def connected(url: str, options: ClientOptions = FAST, listener: Listener = DEAF) -> AsyncIterator[RedisClient]:
    client = RedisClient(parse_address(url), options=options, listener=listener)
    try:
        yield client
    finally:
        await client.close(timeout_s=0)


def undisturbed() -> float:
    """Seconds that pass for this thread, without those in which other programs kept the processors from it, where the
    system (Linux) tells them.
    """
    told = Path("/proc/thread-self/schedstat")
    kept_away_ns = int(told.read_text().split()[1]) if told.exists() else 0
    return time.monotonic() - kept_away_ns / 1e9


@contextmanager
def short_turns(limit_s: float) -> Iterator[None]:
    """No callback of the loop may take longer: whoever shares the loop would wait."""
    loop = asyncio.get_running_loop()
    longest, last = 0.0, undisturbed()
    running = True

    def beat() -> None:
        nonlocal longest, last
        now = undisturbed()
        longest, last = max(longest, now - last), now
        if running:
            loop.call_later(0.001, beat)

    beat()
    yield
    running = False
    assert longest < limit_s


async def ended(*futures: Awaitable[Any]) -> list[Any]:
    return await asyncio.gather(*futures, return_exceptions=True)


def ambiguous(errors: list[Any]) -> set[bool]:
    assert all(isinstance(error, EngineUnavailable) for error in errors), errors
    return {error.ambiguous for error in errors}


async def test_a_hang_up_at_any_byte_of_a_reply_is_ambiguous_and_the_next_call_works() -> None:
    reply = b"*3\r\n$5\r\nh\r\nlo\r\n:12\r\n$-1\r\n"
    cut = 0

    async def torn(peer: Peer, command: list[bytes]) -> bytes | None:
        if command[0] == b"GET" and peer.number % 2 == 1:
            await peer.write(reply[:cut], split=cut % 3 == 0)
            raise HangUp
        return reply if command[0] == b"GET" else None

    options = ClientOptions(backoff_s=0.001, backoff_cap_s=0.005)
    async with FakeRedis(torn) as fake, connected(fake.url, options) as client:
        for cut in range(len(reply)):
            await client.start()
            error, never_sent_twice = await ended(client.call("GET", "a"), client.call("GET", "b"))
            assert ambiguous([error, never_sent_twice]) == {True}
            assert len(fake.named(b"GET")) == 3 * cut + 1
            assert await client.call("GET", "c") == [b"h\r\nlo", 12, None]
            # A repeatable one is sent again by itself.
            client.drop("the next odd connection")
            await client.start()
            assert await client.call("GET", "d", repeatable=True) == [b"h\r\nlo", 12, None]
            fake.commands = fake.named(b"GET")[: 3 * cut + 3]
            client.drop("an odd one again")
        assert fake.connections >= 2 * len(reply)


async def test_a_whole_reply_before_a_hang_up_counts() -> None:
    async def last_words(peer: Peer, command: list[bytes]) -> bytes | None:
        if command[0] == b"GET":
            await peer.write(b"$1\r\nx\r\n")
            raise HangUp
        return None

    async with FakeRedis(last_words) as fake, connected(fake.url) as client:
        for _ in range(5):
            await client.start()
            assert await client.call("GET", "a") == b"x"


async def test_a_killed_server_costs_only_what_was_under_way(start_server: StartServer) -> None:
    server = start_server()
    async with connected(server.url) as client:
        await client.start()
        server.freeze()
        written = [client.call("INCR", "n") for _ in range(20)]
        repeatable = client.call("GET", "n", repeatable=True)
        await asyncio.sleep(0)
        server.kill()
        assert ambiguous(await ended(*written)) == {True}
        waiting = [client.call("INCR", "n") for _ in range(20)]
        server.start()
        assert sorted(await asyncio.gather(*waiting)) == list(range(1, 21))
        assert await repeatable in {None, b"20"}


async def test_calls_to_a_server_that_is_away_fail_in_time_and_unambiguously(start_server: StartServer) -> None:
    server = start_server()
    server.stop()
    async with connected(server.url) as client:
        with short_turns(0.5):
            began = time.monotonic()
            errors = await ended(*[client.call("INCR", "n", timeout_s=0.3) for _ in range(100)], client.start(0.3))
            assert 0.25 < time.monotonic() - began < 2
        assert ambiguous(errors) == {False}
        assert "was not executed: no connection in time (Conn" in str(errors[0])
        assert str(server.port) in str(errors[0])
        server.start()
        await client.start()


async def test_a_frozen_server_holds_nobody_beyond_the_deadline(start_server: StartServer) -> None:
    server = start_server()
    options = ClientOptions(backoff_s=0.005, backoff_cap_s=0.05, silence_s=0.1, connect_timeout_s=0.3)
    async with connected(server.url, options) as client:
        await client.start()
        server.freeze()
        with short_turns(0.5):
            began = time.monotonic()
            first = await ended(*[client.call("INCR", "n", timeout_s=0.3) for _ in range(100)])
            assert time.monotonic() - began < 2
            assert ambiguous(first) == {True}
            # The silent connection is gone, and a new one is not answered either.
            assert ambiguous(await ended(client.call("INCR", "m", timeout_s=0.5))) == {False}
            assert not client.is_connected
        server.thaw()
        assert await client.call("INCR", "m", timeout_s=5) == 1


async def test_a_frozen_server_is_noticed_on_an_idle_connection(start_server: StartServer) -> None:
    server = start_server()
    down = asyncio.Event()
    options = ClientOptions(ping_after_s=0.05, timeout_s=0.2, silence_s=0.1, connect_timeout_s=0.2)
    listener = Listener(down=lambda reason: down.set())
    async with connected(server.url, options, listener) as client:
        await client.start()
        server.freeze()
        await asyncio.wait_for(down.wait(), 5)


async def test_an_idle_connection_is_pinged_and_kept() -> None:
    pings = asyncio.Event()

    async def counting(peer: Peer, command: list[bytes]) -> bytes | None:
        if len(fake.named(b"PING")) > 4:
            pings.set()
        return None

    async with FakeRedis(counting) as fake, connected(fake.url, ClientOptions(ping_after_s=0.01)) as client:
        await client.start()
        await asyncio.wait_for(pings.wait(), 5)
        assert fake.connections == 1
        assert client.is_connected


async def test_a_killed_connection_is_replaced(start_server: StartServer) -> None:
    server = start_server()
    heard: list[str] = []
    listener = Listener(up=lambda: heard.append("up"), down=heard.append)
    async with connected(server.url, FAST, listener) as client, connected(server.url) as admin:
        for _ in range(5):
            id_ = await client.call("CLIENT", "ID", repeatable=True)
            assert await admin.call("CLIENT", "KILL", "ID", id_) == 1
            assert await client.call("CLIENT", "ID", repeatable=True) > id_
    assert heard[0] == "up"
    assert heard.count("up") == 6
    assert heard[1] == "the server closed the connection"


async def test_load_goes_on_through_restarts(start_server: StartServer) -> None:
    server = start_server("--appendonly", "yes", "--appendfsync", "always")
    done = asyncio.Event()
    acknowledged: list[int] = []
    doubtful: list[int] = []
    never_sent: list[int] = []

    async def one(client: RedisClient, task: int) -> None:
        number = task
        while not done.is_set():
            number += 1000
            try:
                added = await client.call("SADD", "numbers", number)
            except EngineUnavailable as error:
                (doubtful if error.ambiguous else never_sent).append(number)
            else:
                assert added == 1, "it was sent twice"
                acknowledged.append(number)

    async with connected(server.url, ClientOptions(backoff_s=0.005, backoff_cap_s=0.05)) as client:
        tasks = [asyncio.create_task(one(client, task)) for task in range(50)]
        for _ in range(3):
            enough = len(acknowledged) + 500
            while len(acknowledged) < enough:
                await client.call("PING", repeatable=True)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
        done.set()
        await asyncio.gather(*tasks)
        stored = {int(number) for number in await client.call("SMEMBERS", "numbers")}
    assert never_sent == [], "they had seconds left to be sent on the next connection"
    assert stored >= set(acknowledged)
    assert stored <= set(acknowledged) | set(doubtful)
    assert len(doubtful) <= 150


@pytest.mark.parametrize(
    "code", ["LOADING Redis is loading the dataset in memory", "READONLY You can't write", "BUSY x"]
)
async def test_a_refusal_that_passes_is_waited_for(code: str) -> None:
    refusals = 3
    others: list[bytes] = []

    async def for_a_while(peer: Peer, command: list[bytes]) -> bytes | None:
        nonlocal refusals
        if command[0] == b"SET" and refusals:
            refusals -= 1
            return b"-%b\r\n" % code.encode()
        if command[0] == b"SET":
            others.append(command[2])
            return b"+OK\r\n"
        return None

    async with FakeRedis(for_a_while) as fake, connected(fake.url) as client:
        await client.start()
        # None of them was executed when it was refused, and none twice afterwards.
        assert await ended(*[client.call("SET", "k", n) for n in range(10)]) == [b"OK"] * 10
        assert sorted(others) == [b"%d" % n for n in range(10)]


@pytest.mark.parametrize("code", ["READONLY You can't write", "BUSY Redis is busy running a script"])
async def test_a_refusal_that_does_not_pass_ends_at_the_deadline(code: str) -> None:
    async def for_ever(peer: Peer, command: list[bytes]) -> bytes | None:
        return b"-%b\r\n" % code.encode() if command[0] == b"SET" else None

    async with FakeRedis(for_ever) as fake, connected(fake.url) as client:
        errors = await ended(*[client.call("SET", "k", n, timeout_s=0.3) for n in range(10)])
        assert ambiguous(errors) == {False}
        assert code in str(errors[0])
        # Backing off, not hammering.
        assert fake.connections < 60


async def test_a_server_that_still_loads_is_not_used_before_it_is_ready() -> None:
    loading = 3

    async def loads(peer: Peer, command: list[bytes]) -> bytes | None:
        nonlocal loading
        if command[0] == b"PING" and loading:
            loading -= 1
            return b"-LOADING Redis is loading the dataset in memory\r\n"
        return b"+OK\r\n" if command[0] == b"SET" else None

    async with FakeRedis(loads) as fake, connected(fake.url) as client:
        assert await client.call("SET", "k", 1) == b"OK"
        assert fake.connections == 4
        assert len(fake.named(b"SET")) == 1


async def test_other_refusals_reach_the_caller() -> None:
    async def refuse(peer: Peer, command: list[bytes]) -> bytes | None:
        return b"-%b x\r\n" % command[1] if command[0] == b"SAY" else None

    async with FakeRedis(refuse) as fake, connected(fake.url) as client:
        for code in ("NOSCRIPT", "OOM", "MISCONF", "NOPERM", "CROSSSLOT"):
            with pytest.raises(Exception, match=f"^{code} x$"):
                await client.call("SAY", code)
        assert fake.connections == 1


async def test_a_full_server_is_waited_for(start_server: StartServer) -> None:
    server = start_server("--maxclients", "1")
    async with connected(server.url) as first, connected(server.url) as second:
        await first.start()
        with pytest.raises(EngineUnavailable, match="max number of clients"):
            await second.start(0.2)
        await first.close()
        await second.start()


async def test_waiting_calls_fail_after_so_many_attempts(start_server: StartServer) -> None:
    server = start_server()
    server.kill()
    options = ClientOptions(backoff_s=0.001, backoff_cap_s=0.01, timeout_s=60, max_retries=3)  # S3-20 S4-07
    async with connected(server.url, options) as client:
        for _ in range(2):
            with pytest.raises(EngineUnavailable) as caught:
                await client.start()
            assert not caught.value.ambiguous


async def test_few_words_are_said_while_away(start_server: StartServer, caplog: pytest.LogCaptureFixture) -> None:
    server = start_server()
    server.stop()
    caplog.set_level(logging.DEBUG, "toril.redis")
    async with connected(server.url.replace("//", "//:secret@")) as client:
        for _ in range(5):
            await ended(client.start(0.1))
        first = list(caplog.records)
        assert len(first) == 1
        assert "is away" in first[0].message
        assert "secret" not in first[0].message


@pytest.mark.timeout(60)
async def test_many_waiting_calls_do_not_stop_the_loop(start_server: StartServer) -> None:
    server = start_server()
    server.stop()
    async with connected(server.url, ClientOptions(max_waiting=20_000)) as client:
        # Each with a deadline of its own: were each looked at by itself, it would be 400 million looks: minutes.
        waiting = [client.call("INCR", "n", timeout_s=0.3 + n / 20_000) for n in range(20_000)]
        with pytest.raises(EngineUnavailable, match="20000 calls"):
            await client.call("INCR", "n")
        began = undisturbed()
        with short_turns(0.5):
            assert ambiguous(await ended(*waiting)) == {False}
        assert 0.5 < undisturbed() - began < 4


async def test_a_call_after_a_drop_goes_to_the_next_connection(start_server: StartServer) -> None:
    server = start_server()
    async with connected(server.url) as client:
        await client.start()
        for n in range(1, 20):
            client.drop("fail-over")
            assert await client.call("INCR", "n") == n


async def test_a_bug_of_a_listener_stops_nothing(start_server: StartServer) -> None:
    server = start_server()

    def broken(*_: object) -> None:
        raise LookupError("a bug")

    async with connected(server.url, FAST, Listener(up=broken, down=broken)) as client:
        await client.start()
        client.drop("to hear down")
        await client.start()


async def test_whatever_goes_wrong_while_connecting_is_tried_again() -> None:
    attempts: list[int] = []

    async def working(peer: Peer, command: list[bytes]) -> bytes | None:
        return None

    async with FakeRedis(working) as fake:

        def prepare() -> list[tuple[str, ...]]:
            attempts.append(1)
            if len(attempts) < 3:
                raise LookupError("a bug")
            return [("CLIENT", "TRACKING", "on")]

        async with connected(fake.url, FAST, Listener(prepare=prepare)) as client:
            await client.start()
    assert len(attempts) == 3


@pytest.mark.parametrize("name", [b"HELLO", b"SELECT", b"PING"])
async def test_a_server_that_falls_silent_in_the_greeting_is_left(name: bytes) -> None:
    async def silent(peer: Peer, command: list[bytes]) -> bytes | None:
        return b"" if command[0] == name and peer.number == 1 else None

    options = ClientOptions(connect_timeout_s=0.1, backoff_s=0.001)
    async with FakeRedis(silent) as fake, connected(f"{fake.url}/1", options) as client:
        await client.start()
        assert fake.connections == 2
