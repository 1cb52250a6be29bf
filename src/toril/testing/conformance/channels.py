"""Messages that processes send each other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from toril.engine.ports.channels import ChannelTail, Message, MessagePage
from toril.engine.protocol import Engine
from toril.errors import ConfigError, EngineClosed
from toril.testing.conformance.stage import MINUTE, Cases, Stage

LONG = 8.0
"""Seconds after which a wait that nobody woke would end by itself."""
HOUR = 60 * MINUTE
NAMES = ("a", "a:b", "a b", "a\nb", "a*b", "{a}", "}a{", "ü😀", "A", "a'b\"", "c:a", "n" * 512, "ü" * 512)
NO_IDS = ("", "x", "-1", "1-2-3", "\u0661", "0-", "1.5", " 1", "9" * 25, "9" * 25 + "-0")


async def publish(
    stage: Stage, channel: str, *texts: str, keep: int = 1000, ttl_ms: int = HOUR, engine: Engine | None = None
) -> tuple[str, ...]:
    """Publish texts as one call."""
    messages = [text.encode() for text in texts]
    return await (engine or stage.engine).channels.publish(channel, messages, keep=keep, ttl_ms=ttl_ms, now=stage.now)


async def read(stage: Stage, channel: str, after: str = "0", limit: int = 1000) -> MessagePage:
    """One page."""
    return await stage.channels.read(channel, after=after, limit=limit, now=stage.now)


def texts(page: MessagePage) -> list[str]:
    """What the messages of a page say."""
    return [message.data.decode() for message in page.messages]


@asynccontextmanager
async def tailing(engine: Engine, **after: str) -> AsyncIterator[ChannelTail]:
    """A subscription that follows some channels."""
    tail = await engine.channels.tail()
    try:
        tail.follow(after)
        yield tail
    finally:
        await tail.close()


async def collect(tail: ChannelTail, enough: Callable[[list[Message]], bool]) -> tuple[list[Message], list[str]]:
    """Read until there is enough. Answers the messages, and the channels that had a gap."""
    messages: list[Message] = []
    gaps: list[str] = []
    deadline = time.monotonic() + LONG
    while not enough(messages):
        assert time.monotonic() < deadline, f"only {len(messages)} messages came in time"
        for page in await tail.read(timeout=LONG):
            messages += page.messages
            gaps += [page.messages[0].channel] if page.gap else []
    return messages, gaps


def as_many(number: int) -> Callable[[list[Message]], bool]:
    """Whether so many messages came."""
    return lambda messages: len(messages) >= number


def ordered(ids: Sequence[str]) -> list[str]:
    """Ids as they grow, whatever the engine makes them of."""
    return sorted(ids, key=lambda id_: [int(part) for part in id_.split("-")])


class ChannelCases(Cases):
    """`ChannelStore`, without waiting."""

    @pytest.mark.parametrize("data", [b"", b"plain", bytes(range(256)), b"\0", "ü😀".encode(), b"x" * 1_000_000])
    async def test_messages_are_bytes(self, stage: Stage, data: bytes) -> None:
        """Whatever the bytes are, they come back."""
        await stage.channels.publish("c", [data, b"-"], keep=9, ttl_ms=HOUR, now=stage.now)
        assert [each.data for each in (await read(stage, "c")).messages] == [data, b"-"]

    async def test_messages_come_in_order(self, stage: Stage) -> None:
        """Oldest first, with ids that grow, the channel's name and a time."""
        ids = [*await publish(stage, "c", "1"), *await publish(stage, "c", "2", "3"), *await publish(stage, "c", "4")]
        page = await read(stage, "c")
        assert texts(page) == ["1", "2", "3", "4"]
        assert [message.id for message in page.messages] == ids == ordered(ids)
        assert {message.channel for message in page.messages} == {"c"}
        assert all(message.at > 0 for message in page.messages)
        assert not page.gap

    async def test_reading_goes_on_where_it_ended(self, stage: Stage) -> None:
        """Page by page everything comes once, without a gap."""
        await publish(stage, "c", *map(str, range(25)))
        after, seen = "0", []
        while (page := await read(stage, "c", after, limit=10)).messages:
            assert not page.gap
            assert len(page.messages) <= 10
            seen += texts(page)
            after = page.messages[-1].id
        assert seen == [str(number) for number in range(25)]

    async def test_the_last_id(self, stage: Stage) -> None:
        """What comes after it is what is published later."""
        assert await stage.channels.last("c", now=stage.now) == "0"
        await publish(stage, "c", "1", "2")
        last = await stage.channels.last("c", now=stage.now)
        assert (await read(stage, "c", last)).messages == ()
        await publish(stage, "c", "3")
        assert texts(await read(stage, "c", last)) == ["3"]

    async def test_a_channel_nobody_wrote_to(self, stage: Stage) -> None:
        """It is empty, and reading it is no error."""
        assert await read(stage, "none") == MessagePage((), False)

    async def test_nothing_published_is_nothing(self, stage: Stage) -> None:
        """Publishing no messages makes no channel."""
        assert await publish(stage, "c") == ()
        assert await stage.channels.last("c", now=stage.now) == "0"

    async def test_only_the_newest_are_kept(self, stage: Stage) -> None:
        """A full channel loses its oldest messages, and who had not read them has a gap."""
        ids = [(await publish(stage, "c", str(number), keep=10))[0] for number in range(25)]
        page = await read(stage, "c")
        assert (texts(page), page.gap) == ([str(number) for number in range(15, 25)], True)
        assert (await read(stage, "c", ids[13])).gap
        page = await read(stage, "c", ids[14])
        assert (len(page.messages), page.gap) == (10, False)
        assert not (await read(stage, "c", ids[20])).gap

    async def test_more_at_once_than_are_kept(self, stage: Stage) -> None:
        """All get ids, the newest stay."""
        ids = await publish(stage, "c", *map(str, range(20)), keep=5)
        page = await read(stage, "c")
        assert (texts(page), page.gap) == (["15", "16", "17", "18", "19"], True)
        assert tuple(message.id for message in page.messages) == ids[15:]
        await publish(stage, "c", "20", keep=2)
        assert texts(await read(stage, "c", ids[18])) == ["19", "20"]

    async def test_a_channel_lives_on_after_its_last_message(self, stage: Stage) -> None:
        """Each message lets it live as long again; then it is gone."""
        await publish(stage, "c", "1", ttl_ms=MINUTE)
        await stage.elapse(MINUTE - 5_000)
        await publish(stage, "c", "2", ttl_ms=MINUTE)
        await stage.elapse(MINUTE - 5_000)
        assert texts(await read(stage, "c")) == ["1", "2"]
        await stage.elapse(10_000)
        assert await read(stage, "c") == MessagePage((), False)
        assert await stage.channels.last("c", now=stage.now) == "0"

    async def test_a_channel_that_begins_anew(self, stage: Stage) -> None:
        """Its ids go on growing; who had not read all of it has a gap, who comes new has none."""
        old, missed = await publish(stage, "c", "old", "missed", ttl_ms=MINUTE)
        last = (await read(stage, "c")).messages[-1]
        await stage.elapse(2 * MINUTE)
        # Where the store has its own clock no minutes have passed: at least it must have moved on.
        while not any(message.at > last.at for message in (await read(stage, "other")).messages[-1:]):
            await publish(stage, "other", "x")
        [new] = await publish(stage, "c", "new", ttl_ms=MINUTE)
        assert ordered([new, missed, old]) == [old, missed, new]
        page = await read(stage, "c", old)
        assert (texts(page), page.gap) == (["new"], True)
        assert texts(await read(stage, "c", missed)) == ["new"]
        page = await read(stage, "c")
        assert (texts(page), page.gap) == (["new"], False)
        assert await read(stage, "c", new) == MessagePage((), False)

    async def test_names_are_exact(self, stage: Stage) -> None:
        """No character of a name means anything, and one channel's messages are not another's."""
        for name in NAMES:
            await publish(stage, name, name)
        for name in NAMES:
            assert texts(await read(stage, name)) == [name]

    @pytest.mark.parametrize("name", ["", "n" * 513, "a\0b", "\ud800"])
    async def test_bad_names_are_refused(self, stage: Stage, name: str) -> None:
        """They are the same for all calls and engines."""
        with pytest.raises(ConfigError, match="channel"):
            await publish(stage, name, "x")
        with pytest.raises(ConfigError, match="channel"):
            await read(stage, name)
        with pytest.raises(ConfigError, match="channel"):
            await stage.channels.last(name, now=stage.now)

    @pytest.mark.parametrize("id_", NO_IDS)
    async def test_odd_ids_are_refused(self, stage: Stage, id_: str) -> None:
        """An id that was made up is a mistake of the caller, for reading and following alike."""
        with pytest.raises(ConfigError, match="id"):
            await read(stage, "c", id_)
        tail = await stage.channels.tail()
        with pytest.raises(ConfigError, match="id"):
            tail.follow({"good": "0", "c": id_})
        await publish(stage, "good", "x")
        assert await tail.read(timeout=0.01) == ()
        await tail.close()

    @pytest.mark.parametrize(("keep", "ttl_ms"), [(0, 1000), (-1, 1000), (1, 0), (1, -5)])
    async def test_bounds_must_be_positive(self, stage: Stage, keep: int, ttl_ms: int) -> None:
        """A channel keeps at least one message, for some time."""
        with pytest.raises(ConfigError, match="keep"):
            await publish(stage, "c", "x", keep=keep, ttl_ms=ttl_ms)

    async def test_many_publish_at_once(self, stage: Stage) -> None:
        """Every message is there once, each call's together and in order."""
        engines = [stage.engine]
        if stage.engine.capabilities.shared:
            engines.append(await stage.second())
        calls = [
            publish(stage, "c", f"{number}a", f"{number}b", engine=engines[number % len(engines)])
            for number in range(100)
        ]
        ids = [id_ for pair in await asyncio.gather(*calls) for id_ in pair]
        page = await read(stage, "c")
        assert sorted(texts(page)) == sorted(f"{number}{letter}" for number in range(100) for letter in "ab")
        assert [message.id for message in page.messages] == ordered(ids)
        assert len(set(ids)) == 200
        firsts = [text for text in texts(page) if text.endswith("a")]
        assert [text for text in texts(page) if text.endswith("b")] == [text[:-1] + "b" for text in firsts]

    async def test_channels_last(self, stage: Stage) -> None:
        """They are there when the store is opened again, and their ids go on."""
        [old] = await publish(stage, "c", "old")
        await stage.reopen()
        [new] = await publish(stage, "c", "new")
        assert ordered([new, old]) == [old, new]
        assert texts(await read(stage, "c")) == ["old", "new"]


class TailCases(Cases):
    """`ChannelTail`: following channels."""

    async def test_what_is_published_arrives(self, stage: Stage) -> None:
        """A waiting subscription is woken by each message, of each channel it follows, and of no other."""
        async with tailing(stage.engine, a="0", b="0") as tail:
            for channel, text in (("a", "1"), ("b", "2"), ("a", "3")):
                waiting = asyncio.create_task(tail.read(timeout=LONG))
                await asyncio.wait([waiting], timeout=0.03)
                assert not waiting.done()
                await publish(stage, "c", "not followed")
                await publish(stage, channel, text)
                [page] = await waiting
                assert (texts(page), page.messages[0].channel, page.gap) == ([text], channel, False)

    async def test_nothing_comes_of_silence(self, stage: Stage) -> None:
        """A wait ends after its time."""
        await publish(stage, "a", "old")
        async with tailing(stage.engine, a=await stage.channels.last("a", now=stage.now)) as tail:
            assert await tail.read(timeout=0.05) == ()
        async with tailing(stage.engine) as tail:
            assert await tail.read(timeout=0.01) == ()

    async def test_a_channel_that_joins_during_the_wait(self, stage: Stage) -> None:
        """What it has already comes at once, and later messages too."""
        await publish(stage, "b", "before")
        async with tailing(stage.engine) as tail:
            for known in ("a", "b"):
                waiting = asyncio.create_task(tail.read(timeout=LONG))
                await asyncio.wait([waiting], timeout=0.03)
                tail.follow({known: "0"})
                if known == "a":
                    await publish(stage, "a", "after")
                [page] = await waiting
                assert texts(page) == ["after" if known == "a" else "before"]

    async def test_a_channel_that_is_left(self, stage: Stage) -> None:
        """Nothing of it comes any more, and it may be followed again from anywhere."""
        async with tailing(stage.engine, a="0", b="0") as tail:
            await publish(stage, "a", "1")
            await collect(tail, as_many(1))
            tail.leave(["a", "never followed"])
            await publish(stage, "a", "2")
            await publish(stage, "b", "3")
            messages, _ = await collect(tail, as_many(1))
            assert [message.channel for message in messages] == ["b"]
            tail.follow({"a": "0"})
            messages, gaps = await collect(tail, as_many(2))
            assert ([message.data for message in messages], gaps) == ([b"1", b"2"], [])

    async def test_replay_runs_into_what_is_new(self, stage: Stage) -> None:
        """From an old id to the end, under load: no gap, nothing twice."""  # S3-35
        ids = list(await publish(stage, "a", *map(str, range(300)), keep=10_000))
        async with tailing(stage.engine, a=ids[99]) as tail:
            reading = asyncio.create_task(collect(tail, as_many(500)))
            for number in range(300, 600, 3):
                more = [publish(stage, "a", str(number + each), keep=10_000) for each in range(3)]
                ids += [id_ for [id_] in await asyncio.gather(*more)]
            messages, gaps = await reading
        assert [message.id for message in messages] == ordered(ids)[100:]
        assert gaps == []

    async def test_a_gap_is_told(self, stage: Stage) -> None:
        """Who is too slow learns that messages are missing, once."""
        [first] = await publish(stage, "a", "first", keep=5)
        async with tailing(stage.engine, a=first) as tail:
            await publish(stage, "a", *map(str, range(20)), keep=5)
            messages, gaps = await collect(tail, as_many(5))
            assert ([message.data for message in messages], gaps) == ([b"15", b"16", b"17", b"18", b"19"], ["a"])
            await publish(stage, "a", "next", keep=5)
            assert (await collect(tail, as_many(1)))[1] == []

    async def test_many_channels_on_one_subscription(self, stage: Stage) -> None:
        """All are heard, those with odd names included."""
        names = [*NAMES, *(f"channel {number}" for number in range(200))]
        tail = await stage.channels.tail()
        tail.follow(dict.fromkeys(names, "0"))
        reading = asyncio.create_task(collect(tail, as_many(len(names))))
        for start in range(0, len(names), 50):
            await asyncio.gather(*(publish(stage, name, name) for name in names[start : start + 50]))
        messages, _ = await reading
        await tail.close()
        assert sorted(message.channel for message in messages) == sorted(names)
        assert all(message.data.decode() == message.channel for message in messages)

    async def test_subscriptions_are_apart(self, stage: Stage) -> None:
        """Each gets everything, and the end of one is nothing to the others."""
        async with tailing(stage.engine, a="0") as one:
            async with tailing(stage.engine, a="0") as other:
                await publish(stage, "a", "1")
                assert (await collect(one, as_many(1)))[0] == (await collect(other, as_many(1)))[0]
            await publish(stage, "a", "2")
            assert [message.data for message in (await collect(one, as_many(1)))[0]] == [b"2"]
            await other.close()

    async def test_an_abandoned_wait_loses_nothing(self, stage: Stage) -> None:
        """What comes while nobody reads, or just when a reader gives up, comes with the next read."""
        async with tailing(stage.engine, a="0") as tail:
            messages: list[Message] = []
            for number in range(8):
                waiting = asyncio.create_task(tail.read(timeout=LONG))
                # Some give up while they wait, some while they are woken.
                await asyncio.wait([waiting], timeout=0.02 * (number % 2))
                await publish(stage, "a", str(number))
                waiting.cancel()
                await asyncio.wait([waiting])
                if not waiting.cancelled():
                    messages += [message for page in waiting.result() for message in page.messages]
            messages += (await collect(tail, as_many(8 - len(messages))))[0]
        assert [message.data.decode() for message in messages] == [str(number) for number in range(8)]

    async def test_the_engine_is_closed_meanwhile(self, stage: Stage) -> None:
        """Who waits is told so at once."""
        tail = await stage.channels.tail()
        tail.follow({"a": "0"})
        waiting = asyncio.create_task(tail.read(timeout=LONG))
        await asyncio.wait([waiting], timeout=0.05)
        await stage.engine.close()
        with pytest.raises(EngineClosed):
            await waiting
        await tail.close()

    async def test_another_engine_is_heard(self, stage: Stage) -> None:
        """Messages of another process come at once and in one order for all."""  # S3-35
        other = await stage.second()
        async with tailing(stage.engine, a="0") as tail:
            for number in range(20):
                waiting = asyncio.create_task(tail.read(timeout=LONG))
                await asyncio.wait([waiting], timeout=0.01)
                await publish(stage, "a", str(number), engine=other if number % 2 else stage.engine)
                assert [texts(page) for page in await waiting] == [[str(number)]]
