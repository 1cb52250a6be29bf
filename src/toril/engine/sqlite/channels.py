"""`ChannelStore` on SQLite: a table of messages. Publishing trims its own channel, and removes a few expired ones."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter

from toril.engine.ports.channels import (
    ChannelStore,
    ChannelTail,
    Message,
    MessagePage,
    checked_channel,
    checked_publish,
)
from toril.engine.sqlite.connection import SqliteThread
from toril.engine.sqlite.statements import load
from toril.engine.sqlite.transaction import Transaction
from toril.engine.sqlite.wakeups import CHANNEL_KIND, Wakeups
from toril.errors import ConfigError
from toril.kernel import codec

_SQL = load("channels")
_EXPIRED_PER_PUBLISH = 2
_MESSAGES_PER_EXPIRED = 1_000
_MOST_READ = 500
_MOST_BYTES = 8 * 1024 * 1024
# Who follows a channel has read it, whatever the time is: only what is gone is hidden from it.
_ANY_TIME = -1


class SqliteChannelStore:
    """The channels of one SQLite store."""

    def __init__(self, writer: SqliteThread, reader: SqliteThread, wakeups: Wakeups) -> None:
        self._writer = writer
        self._reader = reader
        self._wakeups = wakeups

    async def publish(
        self, channel: str, messages: Sequence[bytes], *, keep: int, ttl_ms: int, now: int
    ) -> tuple[str, ...]:
        checked_publish(channel, keep, ttl_ms)

        def operation(tx: Transaction) -> tuple[str, ...]:
            number, last = _opened(tx, channel, now, now + ttl_ms)
            newest = last + len(messages)
            kept = messages[-keep:]
            rows = [(number, id_, now, data) for id_, data in enumerate(kept, newest - len(kept) + 1)]
            tx.spread(_SQL["append"], rows)
            tx.run(_SQL["trim"], channel=number, last=newest - keep)
            tx.run(_SQL["advance"], channel=number, last=newest, expires=now + ttl_ms)
            remove_expired(tx, now, channels=_EXPIRED_PER_PUBLISH, messages=_MESSAGES_PER_EXPIRED + len(messages))
            tx.touched.add(topic(channel))
            return tuple(map(str, range(last + 1, newest + 1)))

        return await self._writer.run(operation) if messages else ()

    async def last(self, channel: str, *, now: int) -> str:
        checked_channel(channel)
        return str(await self._reader.run(lambda tx: tx.value(_SQL["last"], channel=channel, now=now)) or 0)

    async def read(self, channel: str, *, after: str, limit: int = 1000, now: int) -> MessagePage:
        asked = {checked_channel(channel): number_of(after)}
        pages, _ = await read_pages(self._reader, asked, limit=limit, now=now)
        return pages[0] if pages else MessagePage((), False)

    async def tail(self) -> ChannelTail:
        return SqliteChannelTail(self._reader, self._wakeups)


class SqliteChannelTail:
    """A subscription: it is told which channels were touched, and reads those."""

    def __init__(self, reader: SqliteThread, wakeups: Wakeups) -> None:
        self._reader = reader
        self._places: dict[str, int] = {}
        self._unread: set[str] = set()
        self._by_topic: dict[str, set[str]] = {}
        self._watch = wakeups.watch()

    def follow(self, channels: Mapping[str, str]) -> None:
        places = {checked_channel(name): number_of(after) for name, after in channels.items()}
        self._places |= places
        self._unread |= places.keys()
        for name in places:
            self._by_topic.setdefault(topic(name), set()).add(name)
        self._watch.add(map(topic, places))

    def leave(self, channels: Sequence[str]) -> None:
        for name in channels:
            if self._places.pop(name, None) is not None:
                names = self._by_topic[topic(name)]
                names.discard(name)
                if not names:
                    del self._by_topic[topic(name)]
                    self._watch.remove([topic(name)])
        self._unread -= set(channels)

    async def read(self, *, timeout: float) -> tuple[MessagePage, ...]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            self._unread.update(name for touched in self._watch.take() for name in self._by_topic.get(touched, ()))
            if self._unread:
                pages = await self._read_unread()
                if pages:
                    return pages
            elif loop.time() >= deadline:
                return ()
            else:
                await self._watch.wait(deadline - loop.time())

    async def close(self) -> None:
        self._watch.close()

    async def _read_unread(self) -> tuple[MessagePage, ...]:
        names, self._unread = self._unread, set()
        asked = {name: self._places[name] for name in names}
        try:
            pages, all_read = await read_pages(self._reader, asked, limit=_MOST_READ, now=_ANY_TIME)
        except BaseException:
            self._unread |= names & self._places.keys()
            raise
        if not all_read:
            self._unread |= names & self._places.keys()
        found = []
        for page in pages:
            last = page.messages[-1]
            # It may have been left, or followed from elsewhere, during the reading.
            if self._places.get(last.channel) == asked[last.channel]:
                self._places[last.channel] = int(last.id)
                found.append(page)
        return tuple(found)


async def read_pages(
    reader: SqliteThread, asked: Mapping[str, int], *, limit: int, now: int
) -> tuple[list[MessagePage], bool]:
    """A page for each channel that has messages after the number asked for, and whether that is all there is."""
    names, text = list(asked), codec.encode(list(asked.items()))
    found = await reader.run(lambda tx: tx.value(_SQL["after"], asked=text, now=now, limit=limit, bytes=_MOST_BYTES))
    # The order of an aggregate is not promised.
    rows: list[tuple[int, int, int, int, str]] = sorted(codec.decode(found))
    pages = [_page(names[place], asked[names[place]], list(group)) for place, group in groupby(rows, itemgetter(0))]
    return pages, len(rows) < limit and sum(len(row[4]) for row in rows) < 2 * _MOST_BYTES


def _page(name: str, after: int, rows: Sequence[tuple[int, int, int, int, str]]) -> MessagePage:
    _, began, first, _, _ = rows[0]
    messages = tuple(Message(str(id_), name, bytes.fromhex(data), at) for _, _, id_, at, data in rows)
    return MessagePage(messages, 0 < after < began or max(after, began) + 1 < first)


def _opened(tx: Transaction, channel: str, now: int, expires: int) -> tuple[int, int]:
    """The number of a channel and the id of its newest message; made, or emptied when its time is over."""
    row = tx.row(_SQL["channel"], channel=channel)
    if row is None:
        row = tx.row(_SQL["begin"], channel=channel, expires=expires)
        assert row is not None  # noqa: S101 - the table of ids has one row
    elif row[2] <= now:
        tx.run(_SQL["begin_anew"], channel=row[0])
        tx.run(_SQL["trim"], channel=row[0], last=row[1])
    return row[0], row[1]


def remove_expired(tx: Transaction, now: int, *, channels: int, messages: int) -> None:
    """Delete some channels whose time is over, and at most so many messages of each."""
    for number, last in tx.rows(_SQL["expired"], now=now, limit=channels):
        if tx.run(_SQL["shrink"], channel=number, limit=messages) < messages:
            tx.run(_SQL["remove"], channel=number)
            tx.run(_SQL["removed"], last=last)


def topic(channel: str) -> str:
    """What wakes those who follow a channel. Topics travel one a line, so two channels may share one."""
    return f"{CHANNEL_KIND}:{channel.replace(chr(10), ' ')}"


def number_of(id_: str) -> int:
    """A message's id as the number that it is."""
    # The upper bound is SQLite's own for row ids.
    if not id_.isdecimal() or not id_.isascii() or int(id_) > 2**63 - 1:
        raise ConfigError(f"Message id: expected the id of a message of this store (a whole number), got {id_[:80]!r}.")
    return int(id_)


_: type[ChannelStore] = SqliteChannelStore
