"""Waking who waits: in this process directly, in other processes through unix datagram sockets.

A *topic* is a short text: `w:<queue>` work, `e:<queue>` events, `c:<channel>` messages. A process that waits for
topics of a kind (its first letter) binds one socket for that kind in the database's private folder; a process that
commits sends the topics to all sockets of the kind. A datagram that is lost (full buffer, another user's process,
another container) costs little: every 250 ms SQLite's own counter of foreign commits is looked at, as long as somebody
waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from toril.kernel.ids import token_hex

BACKSTOP_S = 0.25
_LARGEST_DATAGRAM = 4096
_EVERYTHING = "*"

CHANNEL_KIND = "c"


class Wakeups:
    """The waiters of one engine, and the doors to those of other processes. Safe to use from any thread.

    `folder` is None for a store of this process alone; `versions` answers SQLite's counter of foreign commits, and
    `release` lets go of what it reads from.
    """

    def __init__(
        self,
        folder: Path | None = None,
        versions: Callable[[], int] | None = None,
        release: Callable[[], None] | None = None,
    ) -> None:
        self._versions = versions
        self._release = release
        self._lock = threading.Lock()
        self._waiters: dict[str, set[_Waiter]] = {}
        self._counts: dict[str, int] = {}
        self._mailbox = None if folder is None else _Mailbox(folder, self._deliver, self._check, self._anybody)
        self._version = versions() if versions is not None else 0

    def count(self, topic: str) -> int:
        """How often the topic was touched, as far as this process knows. A waiter that compares it misses nothing."""
        return self._counts.get(topic, 0)

    def touch(self, topics: Iterable[str]) -> None:
        """Wake who waits for any of the topics, here and in other processes."""
        found = list(topics)
        self._deliver(found)
        if self._mailbox is not None:
            self._mailbox.send(found)

    def register(self, topics: Iterable[str]) -> _Waiter:
        """A waiter for the running loop. Use it as a context manager, so that it is forgotten."""
        waiter = _Waiter(self, tuple(topics), asyncio.get_running_loop())
        self.add(waiter, waiter.topics)
        return waiter

    def forget(self, waiter: _Waiter) -> None:
        """Remove a waiter."""
        self.remove(waiter, waiter.topics)

    def watch(self) -> Watch:
        """A waiter for the running loop that lasts, follows changing topics, and knows which of them were touched."""
        return Watch(self, asyncio.get_running_loop())

    def add(self, waiter: _Waiter, topics: Iterable[str]) -> None:
        """Wake a waiter for these topics."""
        kinds = set()
        with self._lock:
            for topic in topics:
                self._waiters.setdefault(topic, set()).add(waiter)
                kinds.add(topic[0])
        if self._mailbox is not None:
            self._mailbox.listen(kinds)

    def remove(self, waiter: _Waiter, topics: Iterable[str]) -> None:
        """Wake a waiter for these topics no longer."""
        with self._lock:
            for topic in topics:
                group = self._waiters.get(topic)
                if group is not None:
                    group.discard(waiter)
                    if not group:
                        del self._waiters[topic]

    def close(self) -> None:
        """Close the doors, and wake everybody for the last time."""
        if self._mailbox is not None:
            self._mailbox.close()
        self._deliver([_EVERYTHING])
        if self._release is not None:
            self._release()

    def _anybody(self) -> bool:
        return bool(self._waiters)

    def _check(self) -> None:
        """The backstop: wake everybody when another process has committed something."""
        if self._versions is None:
            return
        with contextlib.suppress(sqlite3.Error):
            version = self._versions()
            if version != self._version:
                self._version = version
                self._deliver([_EVERYTHING])

    def _deliver(self, topics: list[str]) -> None:
        with self._lock:
            if _EVERYTHING in topics:
                topics = list(self._waiters)
            woken: dict[_Waiter, list[str]] = {}
            for topic in topics:
                # Queues are few; of channels there is no end.
                if topic[0] != CHANNEL_KIND:
                    self._counts[topic] = self._counts.get(topic, 0) + 1
                for waiter in self._waiters.get(topic, ()):
                    woken.setdefault(waiter, []).append(topic)
        for waiter, touched in woken.items():
            waiter.wake(touched)


class _Waiter:
    """Somebody who waits for topics, on one event loop."""

    __slots__ = ("_event", "_loop", "_owner", "topics")

    def __init__(self, owner: Wakeups, topics: tuple[str, ...], loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._loop = loop
        self._event = asyncio.Event()
        self.topics = topics

    def wake(self, touched: list[str]) -> None:
        """Wake it, from any thread."""
        # The loop may have been closed meanwhile: then nobody waits any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, timeout: float) -> bool:
        """Wait to be woken, at most `timeout` seconds. True when woken."""
        if self._event.is_set():
            return True
        timer = self._loop.call_later(max(timeout, 0.0), self._event.set)
        deadline = self._loop.time() + timeout
        try:
            await self._event.wait()
        finally:
            timer.cancel()
        return self._loop.time() < deadline

    def __enter__(self) -> _Waiter:
        return self

    def __exit__(self, *_: object) -> None:
        self._owner.forget(self)


class Watch(_Waiter):
    """A waiter that lasts; used by one task of one event loop."""

    __slots__ = ("_following", "_touched")

    def __init__(self, owner: Wakeups, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(owner, (), loop)
        self._following: set[str] = set()
        self._touched: set[str] = set()

    def add(self, topics: Iterable[str]) -> None:
        """Follow these topics too, and wake who waits: what was touched before may have been missed."""
        added = set(topics)
        self._following |= added
        self._owner.add(self, added)
        self._event.set()

    def remove(self, topics: Iterable[str]) -> None:
        """Follow these topics no longer."""
        removed = set(topics)
        self._following -= removed
        self._owner.remove(self, removed)

    def wake(self, touched: list[str]) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._note, touched)

    def take(self) -> set[str]:
        """The topics that were touched since the last time; from now on `wait` waits for further ones."""
        self._event.clear()
        touched, self._touched = self._touched, set()
        return touched

    def close(self) -> None:
        """Follow nothing any more, and wake who waits."""
        self.remove(self._following)
        self._event.set()

    def _note(self, touched: list[str]) -> None:
        self._touched.update(touched)
        self._event.set()


class _Mailbox:
    """This process's sockets and those of the others, all in one private folder."""

    def __init__(
        self,
        folder: Path,
        deliver: Callable[[list[str]], None],
        check: Callable[[], None],
        anybody: Callable[[], bool],
    ) -> None:
        self._folder = folder
        self._deliver = deliver
        self._check = check
        self._anybody = anybody
        self._name = f"{os.getpid()}-{token_hex(4)}"
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)
        self._doors: dict[str, socket.socket] = {}
        self._peers: dict[str, list[str]] = {}
        self._peers_seen = -1
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    def listen(self, kinds: Iterable[str]) -> None:
        """Make sure that topics of these kinds are received, and look at what came while nobody waited."""
        with self._lock:
            if self._closed:
                return
            missing = [kind for kind in kinds if kind not in self._doors]
            for kind in missing:
                self._open_door(kind)
            if missing and self._doors and self._thread is not None:
                # The thread waits at the old doors: an empty datagram makes it look again.
                with contextlib.suppress(OSError):
                    self._sender.sendto(b"", self._path(next(iter(self._doors))))
            if self._thread is None:
                self._thread = threading.Thread(target=self._receive, name="toril-sqlite-wakeups", daemon=True)
                self._thread.start()
        self._wanted.set()

    def send(self, topics: list[str]) -> None:
        """Send topics to every process that listens for their kind. Never blocks: a full buffer holds a wake-up
        already.
        """
        peers = self._others()
        for kind in {topic[0] for topic in topics} & peers.keys():
            message = "\n".join(topic for topic in topics if topic[0] == kind).encode()
            if len(message) > _LARGEST_DATAGRAM:
                message = _EVERYTHING.encode()
            for peer in peers[kind]:
                try:
                    self._sender.sendto(message, peer)
                except (BlockingIOError, InterruptedError):
                    continue
                except OSError:
                    # Nobody behind it any more: a process that was killed could not take its door along.
                    with contextlib.suppress(OSError):
                        os.unlink(peer)

    def close(self) -> None:
        """Take the doors away and end the thread."""
        with self._lock:
            self._closed = True
            doors = list(self._doors.items())
            thread = self._thread
        self._wanted.set()
        for kind, door in doors:
            with contextlib.suppress(OSError):
                os.unlink(self._path(kind))
            # Waking the own thread by its own door ends its wait at once.
            with contextlib.suppress(OSError):
                door.shutdown(socket.SHUT_RD)
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        for _, door in doors:
            door.close()
        self._sender.close()

    def _path(self, kind: str) -> str:
        return str(self._folder / f"{self._name}.{kind}")

    def _open_door(self, kind: str) -> None:
        door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        door.setblocking(False)
        try:
            door.bind(self._path(kind))
        except OSError:
            # The path may be too long for a socket, or the folder is gone: the backstop still wakes.
            door.close()
            return
        self._doors[kind] = door

    def _others(self) -> dict[str, list[str]]:
        """The doors of other processes by kind; the folder is listed again only when it has changed."""
        try:
            changed = os.stat(self._folder).st_mtime_ns
            if changed != self._peers_seen:
                peers: dict[str, list[str]] = {}
                for entry in os.scandir(self._folder):
                    name, _, its_kind = entry.name.rpartition(".")
                    if name and name != self._name:
                        peers.setdefault(its_kind, []).append(entry.path)
                self._peers = peers
                # A folder changed within the clock's resolution may change again under the same time: look again then.
                self._peers_seen = changed if time.time_ns() - changed > 50_000_000 else -1
        except OSError:
            return {}
        return self._peers

    def _receive(self) -> None:
        """The thread: nothing to do while nobody waits, so that a busy process is not woken for what it would do
        anyway.
        """
        while not self._closed:
            if not self._anybody():
                self._wanted.wait()
                self._wanted.clear()
                continue
            with self._lock:
                doors = list(self._doors.values())
            ready: list[socket.socket] = []
            with contextlib.suppress(OSError, ValueError):
                ready = select.select(doors, [], [], BACKSTOP_S)[0]
            topics = [topic for door in ready for topic in _drain(door)]
            if topics and not self._closed:
                self._deliver(topics)
            elif not ready:
                self._check()


def _drain(door: socket.socket) -> list[str]:
    """All topics that have arrived at a door."""
    topics: set[str] = set()
    with contextlib.suppress(OSError):
        for _ in range(1000):
            message = door.recv(_LARGEST_DATAGRAM + 1)
            if not message:
                break
            topics.update(message.decode("utf-8", errors="replace").split("\n"))
    return list(topics)
