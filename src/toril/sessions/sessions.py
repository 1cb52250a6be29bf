"""`Sessions`: all sessions of an application, for those who look after them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import NamedTuple

from toril.engine.protocol import Engine
from toril.engine.reach import Reach
from toril.errors import ConfigError
from toril.kernel.blocking import BlockingLoop
from toril.kernel.clock import Clock
from toril.sessions.cookie import CookieSigner
from toril.sessions.listing import UserSessions
from toril.sessions.record import Cipher
from toril.sessions.session import Session, handle_of
from toril.sessions.store import SessionStore
from toril.settings import SessionSettings


class UserSession(NamedTuple):
    """One session of a user. `handle` names it, `created` and `seen` are milliseconds since 1970 (`seen` is written
    only every few minutes), `agent` and `address` are those of the browser that logged in.
    """

    handle: str
    created: int
    seen: int
    agent: str
    address: str


class Sessions:
    """Made by `Toril` as `toril.sessions`; `SessionMiddleware` needs nothing else. Secrets are looked at at the first
    use.
    """

    def __init__(
        self,
        open_engine: Callable[[], Awaitable[Engine]],
        *,
        clock: Clock,
        settings: SessionSettings,
        blocking: BlockingLoop,
    ) -> None:
        meanwhile = "requests are answered with 503" if settings.on_outage == "refuse" else "sessions are empty"
        self._reach = Reach(open_engine, what="sessions", meanwhile=meanwhile)
        self._clock = clock
        self._blocking = blocking
        self.settings = settings
        self._users = UserSessions(clock, lasting_ms=round(settings.absolute * 1000), timeout_s=settings.timeout)

    @cached_property
    def signer(self) -> CookieSigner:
        """Signs cookies. Raises ConfigError without a secret."""
        return CookieSigner(self._secrets)

    @cached_property
    def store(self) -> SessionStore:
        """Reads and writes single sessions. Raises ConfigError without a secret."""
        return SessionStore(
            self._reach,
            self._users,
            settings=self.settings,
            clock=self._clock,
            new_id=self.signer.new_id,
            cipher=self._cipher(),
        )

    async def of(self, user: str) -> tuple[UserSession, ...]:
        """The sessions in which a user is logged in, oldest first. Raises EngineUnavailable."""
        keys = list(await self._users.of((await self._reach.engine()).keyvalue, user))
        records = await self.store.peek(keys)
        return tuple(
            UserSession(handle_of(key), record.created, record.seen, record.agent, record.address)
            for key, record in zip(keys, records, strict=True)
            if record is not None
        )

    async def revoke(self, user: str, handle: str) -> bool:
        """End one session of a user. False when there is none of that handle. Raises EngineUnavailable."""
        return await self._revoke(user, lambda key: handle_of(key) == handle) > 0

    async def revoke_all(self, user: str, *, keep: Session | None = None) -> int:
        """End all sessions of a user, but `keep` (the one who asks). Answers how many. Raises EngineUnavailable."""
        kept = None if keep is None else keep.handle
        return await self._revoke(user, lambda key: handle_of(key) != kept)

    def revoke_all_sync(self, user: str) -> int:
        """`revoke_all` for synchronous code; blocks."""
        return self._blocking.run(lambda: self.revoke_all(user))

    async def close(self) -> None:
        """Look after the store no longer."""
        await self._reach.close()

    @property
    def _secrets(self) -> tuple[str, ...]:
        parts = (self.settings.secret or "").split(",")
        return tuple(part.strip() for part in parts if part.strip())

    def _cipher(self) -> Cipher | None:
        if not self.settings.encrypt:
            return None
        try:
            # Only who encrypts needs the library.
            from toril.sessions.sealing import FernetCipher
        except ImportError:
            raise ConfigError(
                'TORIL_SESSIONS_ENCRYPT: expected the package cryptography, found none: pip install "toril[web]".'
            ) from None
        return FernetCipher(self._secrets)

    async def _revoke(self, user: str, which: Callable[[str], bool]) -> int:
        store = (await self._reach.engine()).keyvalue
        keys = [key for key in await self._users.of(store, user) if which(key)]
        if not keys:
            return 0
        ended = await store.delete(keys)
        await self._users.remove(store, user, keys)
        return ended
