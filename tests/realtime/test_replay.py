"""Coming back without a gap: after a cut, under load, and when the store was away."""

import asyncio
import time

import pytest

from tests.redis.conftest import shared_server, start_server
from tests.redis.server import RedisServer
from toril import ChannelMessage, Toril
from toril.realtime.channel import Channel

__all__ = ["shared_server", "start_server"]

LONG = 30.0


async def publish(channel: Channel[int], numbers: range, ids: list[str]) -> None:
    """One by one, as a worker tells its progress."""
    for number in numbers:
        id_ = await channel.publish(number)
        ids.append(id_)


async def listen(channel: Channel[int], after: str, until: int, seen: list[ChannelMessage[int]]) -> str:
    """Take messages until one of at least that number. Answers the last id."""
    async with asyncio.timeout(LONG), channel.subscribe(after=after) as messages:
        async for message in messages:
            assert isinstance(message, ChannelMessage), "nothing may be missing"
            seen.append(message)
            if message.data >= until:
                break
    return seen[-1].id


@pytest.mark.timeout(60)
async def test_cut_and_resumed_there_is_no_gap_and_no_duplicate(toril: Toril) -> None:
    # A22, S3-35
    channel = toril.channel("stream", int, history=5_000)
    ids: list[str] = []
    seen: list[ChannelMessage[int]] = []
    publishing = asyncio.create_task(publish(channel, range(1_500), ids))
    after = "0"
    for until in (100, 101, 400, 800, 1_200, 1_499):
        after = await listen(channel, after, until, seen)
        # Cut: for a while it hears nothing.
        behind = len(ids)
        while not publishing.done() and len(ids) < behind + 50:
            await asyncio.sleep(0)
    await publishing
    assert [message.id for message in seen] == ids
    assert [message.data for message in seen] == list(range(1_500))


@pytest.mark.timeout(60)
async def test_many_publishers_and_listeners_who_come_and_go(url: str) -> None:
    """Three applications on one store: whoever was there from the beginning has the same log."""
    # A22
    apps = [Toril(url)] if url == "sqlite://" else [Toril(url) for _ in range(3)]
    try:
        channels = [app.channel("stream", int, history=5_000) for app in apps]
        seen: list[list[ChannelMessage[int]]] = [[] for _ in range(6)]

        async def follow(number: int) -> None:
            after, mine = "0", seen[number]
            while len(mine) < 600:
                async with asyncio.timeout(LONG), channels[number % len(apps)].subscribe(after=after) as messages:
                    for _ in range(min(40 + 17 * number, 600 - len(mine))):
                        message = await anext(messages)
                        assert isinstance(message, ChannelMessage)
                        mine.append(message)
                after = mine[-1].id

        followers = [asyncio.create_task(follow(number)) for number in range(6)]
        ids: list[str] = []
        parts = [range(start, start + 200) for start in (0, 200, 400)]
        await asyncio.gather(*(publish(channels[n % len(apps)], part, ids) for n, part in enumerate(parts)))
        await asyncio.gather(*followers)
    finally:
        for app in apps:
            await app.close()
    assert all([message.id for message in mine] == [message.id for message in seen[0]] for mine in seen)
    assert sorted(message.id for message in seen[0]) == sorted(ids)


@pytest.mark.timeout(60)
async def test_listening_survives_the_loss_of_its_connection(shared_server: RedisServer) -> None:
    # S3-35, A22
    async with Toril(shared_server.url) as toril:
        channel = toril.channel(f"cut-{time.time_ns()}", int)
        async with channel.subscribe() as messages:
            for number in range(3):
                await channel.publish(number)
                client = toril.engine.inner.inner._opened().clients  # type: ignore[attr-defined]
                await client.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                await channel.publish(number + 10)
                async with asyncio.timeout(LONG):
                    pair = [await anext(messages), await anext(messages)]
                assert [each.data for each in pair if isinstance(each, ChannelMessage)] == [number, number + 10]


@pytest.mark.timeout(60)
async def test_a_store_that_is_away_is_told_and_heard_again(start_server: object) -> None:
    # A22: readiness shows dead subscriptions
    server: RedisServer = start_server("--appendonly", "yes")  # type: ignore[operator]
    async with Toril(server.url) as toril:
        channel = toril.channel("news", int)
        async with channel.subscribe() as messages:
            await channel.publish(1)
            assert (await anext(messages)) is not None
            assert toril.realtime.status().failing_s == 0
            server.kill()
            async with asyncio.timeout(LONG):
                while not toril.realtime.status().failing_s:
                    await asyncio.sleep(0.05)
            server.start()
            id_ = ""
            async with asyncio.timeout(LONG):
                while not id_:
                    try:
                        id_ = await channel.publish(2)
                    except Exception:  # noqa: BLE001 - until it is back
                        await asyncio.sleep(0.05)
                message = await anext(messages)
                assert isinstance(message, ChannelMessage)
                assert (message.id, message.data) == (id_, 2)
                while toril.realtime.status().failing_s:
                    await asyncio.sleep(0.05)
