"""`Session`: what one user's requests remember, as `request.session`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Literal, NamedTuple

from toril.errors import ConfigError
from toril.kernel import codec
from toril.sessions.record import Record

FLASHES = "_flashes"
_MOST_FLASHES = 50
_LONGEST_USER = 256

Rotation = Literal["none", "rotate", "login"]


class Flash(NamedTuple):
    """A message for the next page."""

    message: str
    category: str


class Changes(NamedTuple):
    """What a request did: each key by itself, so that requests at the same time do not undo each other's."""

    changed: Mapping[str, Any]
    deleted: frozenset[str]
    user: str | None
    rotation: Rotation

    def __bool__(self) -> bool:
        return bool(self.changed or self.deleted or self.rotation != "none")


class Session(MutableMapping[str, Any]):
    """A dictionary of JSON values that lasts from request to request.

    What a request changes is stored key by key when its answer begins; requests of one session at the same time keep
    each other's keys. Nothing is stored for a session that is empty, nor written for a request that changed nothing.
    `login` binds it to a user under a fresh id, `logout` ends it.
    """

    def __init__(self, key: str | None = None, record: Record | None = None, plain: bytes = b"") -> None:
        self._key = key
        self._record = record
        self._plain = plain
        self._data: dict[str, Any] = {} if record is None else record.data
        self._user = None if record is None else record.user
        self._set: set[str] = set()
        self._deleted: set[str] = set()
        self._rotation: Rotation = "none"
        self.ended = False
        """True after `logout`: what was stored is deleted."""
        self.accessed = False
        """True when the request has looked at it or changed it."""

    def __repr__(self) -> str:
        return f"<Session {self.handle or 'new'}, {len(self._data)} keys>"

    @property
    def user(self) -> str | None:
        """Whose session it is, None before `login`."""
        self.accessed = True
        return self._user

    @property
    def handle(self) -> str | None:
        """A name to tell sessions apart, as in `devices`; no secret. None for one that is not stored yet."""
        return None if self._key is None else handle_of(self._key)

    @property
    def is_new(self) -> bool:
        """True when nothing of it is stored."""
        return self._record is None

    @property
    def created(self) -> int | None:
        """When it began, in milliseconds since 1970; None when nothing of it is stored."""
        return None if self._record is None else self._record.created

    def login(self, user: str) -> None:
        """Bind the session to a user, under a fresh id: an id that somebody knew before is worth nothing now. What
        another user left in it is forgotten. Raises ConfigError for a user that is no text of 1 to 256 characters.
        """
        if not isinstance(user, str) or not 1 <= len(user) <= _LONGEST_USER:
            raise ConfigError(f"login: expected a user of 1 to {_LONGEST_USER} characters, got {user!r}.")
        if self._user not in (None, user):
            self.clear()
        self.accessed = True
        self._user = user
        self._rotation = "login"

    def logout(self) -> None:
        """End the session: what was stored is deleted. What is put into it afterwards begins a new one."""
        self.accessed = True
        self._data, self._set, self._deleted = {}, set(), set()
        self._user, self._rotation = None, "none"
        self.ended = True

    def rotate(self) -> None:
        """Go on under a fresh id. The old one works for requests under way for a short time."""
        self.accessed = True
        if self._rotation == "none":
            self._rotation = "rotate"

    def flash(self, message: str, category: str = "info") -> None:
        """Leave a message for the next page; `flashes` takes it."""
        self[FLASHES] = [*self.get(FLASHES, []), [message, category]][-_MOST_FLASHES:]

    def flashes(self) -> list[Flash]:
        """Take the messages that were left, oldest first."""
        return [Flash(message, category) for message, category in self.pop(FLASHES, [])]

    def mark_accessed(self) -> None:
        """Called by Starlette when a request looks at its session."""
        self.accessed = True

    def changes(self) -> Changes:
        """What is to be stored."""
        changed = {name: self._data[name] for name in self._set}
        if self.accessed and self._plain and any(isinstance(value, list | dict) for value in self._data.values()):
            # Lists and objects are changed in place, unseen. Mostly nothing has, and the whole is still as it was.
            whole = codec.encode({"d": self._data}).encode()
            if not self._plain.startswith(whole[:-1]):
                changed |= self._changed_in_place(changed)
        return Changes(changed, frozenset(self._deleted), self._user, self._rotation)

    @property
    def is_marked(self) -> bool:
        """True when something was set, deleted, begun or ended by a call; what is changed in place is not seen here."""
        return bool(self._set or self._deleted or self.ended or self._rotation != "none")

    @property
    def stored(self) -> tuple[str, Record] | None:
        """Where it is stored, and what was read there; None for a new one."""
        return None if self._key is None or self._record is None else (self._key, self._record)

    def settle(self, stored: tuple[str, Record] | None) -> None:
        """What was changed has been stored; None: nothing of it is stored any more."""
        self._set, self._deleted, self._rotation, self.ended = set(), set(), "none", False
        self._key, self._record = stored or (None, None)
        # What is changed in place from now on is seen against this.
        self._plain = codec.encode({"d": self._data}).encode() if stored is not None else b""

    def _changed_in_place(self, known: Mapping[str, Any]) -> dict[str, Any]:
        before = codec.decode(self._plain)["d"]
        return {
            name: value
            for name, value in self._data.items()
            if name not in known and isinstance(value, list | dict) and _differ(value, before.get(name))
        }

    def __getitem__(self, name: str) -> Any:
        self.accessed = True
        return self._data[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if not isinstance(name, str):
            raise ConfigError(f"session: expected a key that is text, got {name!r}.")
        self.accessed = True
        self._data[name] = value
        self._set.add(name)
        self._deleted.discard(name)

    def __delitem__(self, name: str) -> None:
        self.accessed = True
        del self._data[name]
        self._set.discard(name)
        self._deleted.add(name)

    def __iter__(self) -> Iterator[str]:
        self.accessed = True
        return iter(self._data)

    def __len__(self) -> int:
        self.accessed = True
        return len(self._data)

    def __contains__(self, name: object) -> bool:
        self.accessed = True
        return name in self._data


def _differ(one: Any, other: Any) -> bool:
    return codec.encode(one) != codec.encode(other)


def handle_of(key: str) -> str:
    """The name of a stored session for people."""
    return key.partition(":")[2][:16]
