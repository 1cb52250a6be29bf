"""Publishing and listening."""

import asyncio
import gc
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from toril import ChannelMessage, ChannelResync, ConfigError, InvalidArguments, PayloadTooLarge, Settings, Toril
from toril.errors import EngineClosed
from toril.realtime.channel import Channel, Subscription
from toril.settings import RealtimeSettings

LONG = 30.0

pytestmark = pytest.mark.timeout(60)


class Progress(BaseModel):
    progress: int
    status: str = ""


async def take(messages: Subscription[Any], many: int) -> list[Any]:
    """The next messages; a resync is shown as such."""
    taken: list[Any] = []
    async with asyncio.timeout(LONG):
        while len(taken) < many:
            message = await anext(messages)
            taken.append(message.data if isinstance(message, ChannelMessage) else "resync")
    return taken


async def test_everybody_who_listens_gets_each_message_in_its_type(toril: Toril) -> None:
    # S3-35, S3-16
    channel = toril.channel("code-gen:{job_id}", Progress).of(job_id="j1")
    other = toril.channel("code-gen:{job_id}", Progress).of(job_id="j2")
    await channel.publish(Progress(progress=0))
    async with channel.subscribe() as one, channel.subscribe() as two, other.subscribe() as apart:
        ids = [await channel.publish(Progress(progress=number, status="drawing")) for number in (1, 2)]
        ids += await channel.publish_many([Progress(progress=3), Progress(progress=4)])
        await other.publish(Progress(progress=9))
        first = await anext(one)
        assert isinstance(first, ChannelMessage)
        assert (first.id, first.data) == (ids[0], Progress(progress=1, status="drawing"))
        assert first.at > 1_700_000_000_000
        assert [each.progress for each in await take(one, 3)] == [2, 3, 4]
        assert [each.progress for each in await take(two, 4)] == [1, 2, 3, 4]
        assert [each.progress for each in await take(apart, 1)] == [9]
    assert toril.realtime.status() == (0, 0, 0.0)


async def test_one_who_comes_back_gets_what_it_missed(toril: Toril) -> None:
    # S3-35
    channel = toril.channel("news", int)
    ids = await channel.publish_many([1, 2, 3, 4])
    async with channel.subscribe(after=ids[1]) as messages:
        await channel.publish(5)
        assert await take(messages, 3) == [3, 4, 5]
    async with channel.subscribe(after="0") as messages:
        assert await take(messages, 5) == [1, 2, 3, 4, 5]
        await channel.publish(6)
        assert await take(messages, 1) == [6]


async def test_one_may_join_others_from_any_place(toril: Toril) -> None:
    """While one listener is up to date, others come from further back, and from exactly where it is."""
    channel = toril.channel("news", int, history=1000)
    ids = list(await channel.publish_many(list(range(300))))
    async with channel.subscribe() as live:
        ids += await channel.publish_many([300, 301])
        assert await take(live, 2) == [300, 301]
        for start in (0, 250, 299, 301):
            async with channel.subscribe(after=ids[start]) as late:
                reading = asyncio.create_task(take(late, len(ids) - start))
                ids.append(await channel.publish(len(ids)))
                assert await reading == list(range(start + 1, len(ids)))
                await take(live, 1)


async def test_what_has_gone_from_the_history_is_a_resync(toril: Toril) -> None:
    channel = toril.channel("short", int, history=3)
    [first] = await channel.publish_many([1])
    await channel.publish_many([2, 3, 4, 5, 6])
    async with channel.subscribe(after=first) as messages:
        assert await take(messages, 4) == ["resync", 4, 5, 6]


@pytest.mark.parametrize("number", [10**9, 10**15])
async def test_an_id_from_another_store_is_a_resync_at_once(toril: Toril, number: int) -> None:
    """What comes later would look old beside it, and never be given."""
    channel = toril.channel("news", int)
    last = await channel.publish(1)
    foreign = f"{number}-0" if "-" in last else str(number)
    if "-" in last and number < 10**10:
        foreign = f"{10**14}-0"
    async with channel.subscribe(after=foreign) as messages:
        assert await take(messages, 1) == ["resync"]
        await channel.publish(2)
        assert await take(messages, 1) == [2]


async def test_an_id_that_is_none_is_a_mistake(toril: Toril) -> None:
    with pytest.raises(ConfigError, match="id"):
        await anext(toril.channel("news", int).subscribe(after="yesterday"))


async def test_a_slow_listener_is_told_to_resync_and_costs_no_memory(url: str) -> None:
    # A22
    async with Toril(url, settings=Settings(realtime=RealtimeSettings(buffer=20))) as toril:
        channel = toril.channel("fast", int, history=1000)
        async with channel.subscribe() as slow, channel.subscribe() as quick:
            for start in range(0, 200, 10):
                await channel.publish_many(list(range(start, start + 10)))
                assert await take(quick, 10) == list(range(start, start + 10))
            held = slow._reader._listener  # type: ignore[union-attr]
            assert held.overruns > 1
            assert len(held._unread) <= 20
            resync = await anext(slow)
            assert isinstance(resync, ChannelResync)
            rest: list[int] = []
            while not rest or rest[-1] != 199:
                rest += await take(slow, 1)
            assert rest == list(range(rest[0], 200))
            # From the id of the resync on nothing is missing.
            async with channel.subscribe(after=resync.id) as again:
                assert await take(again, len(rest)) == rest


async def test_a_slow_listener_is_bounded_in_bytes_too(url: str) -> None:
    settings = Settings(realtime=RealtimeSettings(buffer_bytes=50_000))
    async with Toril(url, settings=settings) as toril:
        channel = toril.channel("heavy", str)
        async with channel.subscribe() as slow, channel.subscribe() as quick:
            for number in range(12):
                await channel.publish(f"{number}" * 5_000)
                await take(quick, 1)
            assert (await take(slow, 1))[0] == "resync"


async def test_what_does_not_fit_is_refused_where_it_is_published(toril: Toril) -> None:
    channel: Channel[Any] = toril.channel("typed", Progress)
    for wrong in ({"progress": "much"}, 7, None):
        with pytest.raises(InvalidArguments, match="typed"):
            await channel.publish(wrong)
    for untyped in (float("nan"), object(), "\ud800"):
        with pytest.raises(InvalidArguments):
            await toril.channel("any").publish(untyped)
    with pytest.raises(InvalidArguments):
        await toril.channel("ratio", float).publish(float("inf"))
    small = Toril("sqlite://", settings=Settings(realtime=RealtimeSettings(message_limit=100)))
    with pytest.raises(PayloadTooLarge, match="100 bytes"):
        await small.channel("any").publish("x" * 200)


async def test_a_message_of_another_type_is_passed_over_and_told(
    toril: Toril, caplog: pytest.LogCaptureFixture
) -> None:
    # S3-35
    async with toril.channel("mixed", int).subscribe() as numbers:
        await toril.channel("mixed").publish("text")
        await toril.channel("mixed").publish(5)
        assert await take(numbers, 1) == [5]
    assert "does not fit its type" in caplog.text


async def test_null_is_a_message(toril: Toril) -> None:
    channel = toril.channel("maybe")
    async with channel.subscribe() as messages:
        await channel.publish(None)
        assert await take(messages, 1) == [None]


async def test_presence_counts_all_processes(url: str) -> None:
    # S3-35
    async with Toril(url) as one:
        other = one if url == "sqlite://" else Toril(url)
        try:
            here, there = (each.channel("room:{id}", presence=True).of(id=7) for each in (one, other))
            assert await here.presence() == 0
            async with here.subscribe(), there.subscribe() as second:
                async with there.subscribe():
                    await there.presence()
                    assert await here.presence() == 3
                second.close()
                await there.presence()
                assert await here.presence() == 1
            assert await here.presence() == 0
        finally:
            await other.close()
        with pytest.raises(ConfigError, match="presence=True"):
            await one.channel("uncounted").presence()


async def test_the_end_of_an_application_ends_its_presence(url: str) -> None:
    if url == "sqlite://":
        pytest.skip("a store in memory has one application")
    async with Toril(url) as watching:
        room = watching.channel("room", presence=True)
        async with Toril(url) as listening, listening.channel("room", presence=True).subscribe():
            await listening.channel("room", presence=True).presence()
            assert await room.presence() == 1
        assert await room.presence() == 0


async def test_listening_ends_with_the_store(toril: Toril) -> None:
    messages = toril.channel("news").subscribe()
    waiting = asyncio.create_task(messages.__anext__())
    while toril.realtime.status().listeners == 0:
        await asyncio.sleep(0)
    await toril.close()
    with pytest.raises(EngineClosed):
        await waiting
    messages.close()
    assert [each async for each in messages] == []


async def test_a_listener_that_is_forgotten_listens_no_longer(toril: Toril) -> None:
    async def listen_once() -> None:
        async for message in toril.channel("news", int).subscribe(after="0"):
            assert isinstance(message, ChannelMessage)
            break

    await toril.channel("news", int).publish(1)
    await listen_once()
    waiting = toril.channel("news", int).subscribe()
    await waiting.__aenter__()
    assert toril.realtime.status().listeners == 1
    del waiting
    gc.collect()
    async with asyncio.timeout(LONG):
        while toril.realtime.status().listeners:
            await asyncio.sleep(0)


def test_synchronous_code_publishes() -> None:
    # S3-35
    toril = Toril("sqlite://")
    toril.start_sync()
    ids = [toril.channel("news", int).publish_sync(number) for number in (1, 2)]
    assert int(ids[1]) == int(ids[0]) + 1
    toril.close_sync()


@pytest.mark.parametrize(
    "template", ["", "a{", "a}", "{}", "{a-b}", "{a}{a}", "n" * 481, "a\0", "{a!r}", "{a:>3}"], ids=repr
)
def test_a_wrong_name_is_refused_when_it_is_written(template: str) -> None:
    with pytest.raises(ConfigError, match="channel"):
        Toril("sqlite://").channel(template)


@pytest.mark.parametrize(
    "options", [{"history": 0}, {"history": True}, {"ttl": 0}, {"ttl": "soon"}, {"event": ""}, {"event": "resync"}]
)
def test_a_wrong_option_is_refused_when_it_is_written(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="channel"):
        Toril("sqlite://").channel("news", **options)


def test_names_never_meet() -> None:
    """Whatever the values, two channels are two names."""
    toril = Toril("sqlite://")
    two = toril.channel("a:{x}:{y}")
    values = ["1", "2:3", "1:2", "%3A", ":", "{x}"]
    names = [two.of(x=x, y=y).name for x in values for y in values]
    assert len(set(names)) == len(names)
    assert toril.channel("a:{x}").of(x=UUID(int=5)).name == "a:00000000-0000-0000-0000-000000000005"
    mistakes: list[dict[str, Any]] = [{}, {"x": 1}, {"x": 1, "y": 2, "z": 3}]
    for wrong in [*mistakes, *({"x": odd, "y": 1} for odd in ("", None, True, 1.5))]:
        with pytest.raises(ConfigError, match=r"a:\{x\}:\{y\}"):
            two.of(**wrong)
    with pytest.raises(ConfigError, match=r"\.of\(x=…, y=…\)"):
        two.subscribe()._channel.name  # noqa: B018 - it raises
    with pytest.raises(ConfigError, match="at most"):
        two.of(x="n" * 480, y=1)
