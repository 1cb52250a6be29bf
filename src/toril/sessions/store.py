"""Reading and writing sessions: one read per request, a write only for a change, and changes merged key by key."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar
from weakref import WeakValueDictionary

from toril.engine.ports.keyvalue import KeyValueStore
from toril.engine.reach import Reach
from toril.errors import EngineUnavailable, PayloadTooLarge
from toril.kernel.clock import Clock
from toril.sessions.cookie import key_of
from toril.sessions.listing import UserSessions
from toril.sessions.record import Cipher, Record, record_of
from toril.sessions.session import Changes, Session
from toril.settings import SessionSettings

T = TypeVar("T")

_MOST_TRIES = 200
_LONGEST_WAIT_S = 0.02


class Device(NamedTuple):
    """Where a session was begun."""

    agent: str = ""
    address: str = ""


class Saved(NamedTuple):
    """What became of a session: `id` is what its cookie is to say from now on (None: as before), `again` asks to tell
    the browser once more, so that it keeps the cookie longer, `drop` to tell it that there is none any more.
    """

    id: str | None = None
    again: bool = False
    drop: bool = False


class SessionStore:
    """Sessions in the key-value port."""

    def __init__(
        self,
        reach: Reach,
        users: UserSessions,
        *,
        settings: SessionSettings,
        clock: Clock,
        new_id: Callable[[], str],
        cipher: Cipher | None,
    ) -> None:
        self._reach = reach
        self._users = users
        self._clock = clock
        self._new_id = new_id
        self._cipher = cipher
        self._timeout_s = settings.timeout
        self._limit = settings.limit
        self._idle_ms = round(settings.idle * 1000)
        self._absolute_ms = round(settings.absolute * 1000)
        self._touch_ms = round(settings.touch_every * 1000)
        self._grace_ms = round(settings.grace * 1000)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def load(self, id: str) -> Session | None:
        """The session of an id, None when there is none any more. Raises EngineUnavailable."""
        key = key_of(id)
        found = await self._read(key)
        if found is not None and found[1].next:
            key = found[1].next
            found = await self._read(key)
        if found is None or self._left_ms(found[1]) <= 0:
            return None
        _, record, plain = found
        return Session(key, record, plain)

    async def peek(self, keys: Sequence[str]) -> list[Record | None]:
        """The stored sessions of some keys, None where there is none any more. Raises EngineUnavailable."""
        store = await self._store()
        values = await self._guarded(store.get(keys, now=self._clock.now_ms(), timeout_s=self._timeout_s))
        records = [None if (found := self._unsealed(value)) is None else found[1] for value in values]
        return [
            record if record is not None and record.next is None and self._left_ms(record) > 0 else None
            for record in records
        ]

    def is_due(self, session: Session) -> bool:
        """Whether there is anything to write. Requests that do not look at their session write nothing."""
        if not session.accessed:
            return False
        stored = session.stored
        late = stored is not None and self._clock.now_ms() - stored[1].seen >= self._touch_ms
        return late or session.ended or bool(session.changes())

    async def save(self, session: Session, device: Device) -> Saved:
        """Write what has changed. Raises EngineUnavailable, InvalidArguments for values that are no JSON, and
        PayloadTooLarge.
        """
        changes, stored = session.changes(), session.stored
        if session.ended and stored is not None:
            await self._end(*stored)
        if stored is None or session.ended:
            if not changes.changed and changes.user is None:
                dropped = session.ended
                session.settle(None)
                return Saved(drop=dropped)
            now = self._clock.now_ms()
            id_ = self._new_id()
            record = await self._begin(key_of(id_), Record(dict(changes.changed), now, now), changes, device)
            session.settle((key_of(id_), record))
            return Saved(id_)
        if changes.rotation != "none":
            return await self._rotate(session, stored[0], changes, device)
        return await self._merge(session, stored[0], changes)

    async def _begin(self, key: str, record: Record, changes: Changes, device: Device) -> Record:
        """Store a session under a key that nobody knows yet."""
        store = await self._store()
        if changes.rotation == "login" and changes.user is not None:
            now = self._clock.now_ms()
            # Its age counts from the login on.
            record = replace(
                record, created=now, seen=now, user=changes.user, agent=device.agent, address=device.address
            )
        if record.user is not None:
            # First, so that revoking all of a user's sessions misses none.
            await self._guarded(self._users.add(store, record.user, key, record.created))
        await self._guarded(
            store.set(
                [(key, self._sealed(record))],
                ttl_ms=self._ttl_ms(record),
                now=self._clock.now_ms(),
                timeout_s=self._timeout_s,
            )
        )
        return record

    async def _rotate(self, session: Session, key: str, changes: Changes, device: Device) -> Saved:
        id_ = self._new_id()
        fresh = key_of(id_)
        async with self._alone(key):
            for tries in range(_MOST_TRIES):
                found = await self._read(key)
                if found is None or found[1].next is not None:
                    # Revoked, or gone on under another id, since this request began.
                    session.settle(None)
                    return Saved()
                raw, record, _ = found
                begun = await self._begin(fresh, _merged(record, changes), changes, device)
                if await self._replaced(key, _left_behind(record, changes, fresh), raw, self._grace_ms):
                    break
                await _after(tries)
            else:
                raise _too_many()
        if record.user is not None:
            await self._guarded(self._users.remove(await self._store(), record.user, [key]))
        session.settle((fresh, begun))
        return Saved(id_)

    async def _merge(self, session: Session, key: str, changes: Changes) -> Saved:
        async with self._alone(key):
            for tries in range(_MOST_TRIES):
                found = await self._read(key)
                if found is None or found[1].next is not None:
                    session.settle(None)
                    return Saved()
                raw, record, _ = found
                now = self._clock.now_ms()
                merged = _merged(record, changes)
                if merged == record and now - record.seen < self._touch_ms:
                    session.settle((key, record))
                    return Saved()
                merged = replace(merged, seen=now)
                if await self._replaced(key, merged, raw, self._ttl_ms(merged)):
                    session.settle((key, merged))
                    return Saved(again=True)
                await _after(tries)
        raise _too_many()

    async def _replaced(self, key: str, record: Record | None, raw: bytes, ttl_ms: int) -> bool:
        store = await self._store()
        value = None if record is None else self._sealed(record)
        return await self._guarded(
            store.replace(key, value, expected=raw, ttl_ms=ttl_ms, now=self._clock.now_ms(), timeout_s=self._timeout_s)
        )

    async def _end(self, key: str, record: Record) -> None:
        store = await self._store()
        await self._guarded(store.delete([key], timeout_s=self._timeout_s))
        if record.user is not None:
            await self._guarded(self._users.remove(store, record.user, [key]))

    async def _read(self, key: str) -> tuple[bytes, Record, bytes] | None:
        """What is stored: as it is, as a record, and as JSON."""
        store = await self._store()
        [raw] = await self._guarded(store.get([key], now=self._clock.now_ms(), timeout_s=self._timeout_s))
        return self._unsealed(raw)

    async def _store(self) -> KeyValueStore:
        return (await self._reach.engine()).keyvalue

    async def _guarded(self, work: Awaitable[T]) -> T:
        """Remembers when the store is away, so that nobody else waits for it."""
        try:
            return await work
        except EngineUnavailable as error:
            self._reach.lost(error)
            raise

    def _alone(self, key: str) -> asyncio.Lock:
        """One writer at a time in this process: those of one event loop do not get in each other's way."""
        name = f"{id(asyncio.get_running_loop())}:{key}"
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = asyncio.Lock()
        return lock

    def _left_ms(self, record: Record) -> int:
        """For how long a session lasts without a further request."""
        now = self._clock.now_ms()
        idle = record.seen + self._idle_ms + self._touch_ms - now
        return min(idle, record.created + self._absolute_ms - now)

    def _ttl_ms(self, record: Record) -> int:
        return max(self._left_ms(record), 1)

    def _unsealed(self, raw: bytes | None) -> tuple[bytes, Record, bytes] | None:
        plain = raw if raw is None or self._cipher is None else self._cipher.unseal(raw)
        record = None if plain is None else record_of(plain)
        return None if raw is None or plain is None or record is None else (raw, record, plain)

    def _sealed(self, record: Record) -> bytes:
        plain = record.encoded()
        if len(plain) > self._limit:
            raise PayloadTooLarge(
                f"session: expected at most {self._limit} bytes, got {len(plain)}. Keep what is big elsewhere, or "
                "raise TORIL_SESSIONS_LIMIT."
            )
        return plain if self._cipher is None else self._cipher.seal(plain)


def _left_behind(record: Record, changes: Changes, fresh: str) -> Record | None:
    """What the old id of a session shows for a while.

    Without a login it leads to the new one. Behind a login somebody else may know the old id: it shows what it was
    before, and nothing when that was somebody's session already.
    """
    if changes.rotation == "rotate":
        return replace(record, data={}, next=fresh)
    return replace(record, next="") if record.user is None else None


def _merged(record: Record, changes: Changes) -> Record:
    if not changes.changed and not changes.deleted:
        return record
    kept = {name: value for name, value in record.data.items() if name not in changes.deleted}
    return replace(record, data=kept | dict(changes.changed))


async def _after(tries: int) -> None:
    # Other processes write too: the more of them, the longer the wait.
    await asyncio.sleep(random.random() * min(0.0005 * (tries + 1), _LONGEST_WAIT_S))


def _too_many() -> EngineUnavailable:
    return EngineUnavailable("A session could not be written: too many requests write it at the same time.")
