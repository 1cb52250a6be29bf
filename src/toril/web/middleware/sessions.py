"""`SessionMiddleware`: `request.session` for every request, and its cookie."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Literal

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toril.errors import ConfigError, EngineUnavailable
from toril.sessions.cookie import key_of
from toril.sessions.session import Session
from toril.sessions.sessions import Sessions
from toril.sessions.store import Device, Saved
from toril.web.auth import Identity
from toril.web.problems import RETRY_AFTER_S, ApiError

_log = logging.getLogger("toril.sessions")

_LONGEST_AGENT = 200
_TRY_AGAIN_LATER = 1013
_PRIVATE = re.compile(r"\b(private|no-store)\b", re.IGNORECASE)


class SessionMiddleware:
    """Gives every request its session: `app.add_middleware(SessionMiddleware, sessions=toril.sessions)`.

    The cookie holds a signed id and nothing else. It is HttpOnly, `SameSite=Lax`, Secure unless TORIL_SESSIONS_SECURE
    is false, and, where a browser allows it (Secure, path "/", no domain), its name begins with `__Host-`. What a
    request changed is stored before its answer begins; an exception that leaves the application stores nothing. While
    the store is away requests are answered with 503, or with an empty session (TORIL_SESSIONS_ON_OUTAGE).

    `same_site` "none" is for pages inside pages of others. `domain` shares the cookie with hosts below it. Raises
    ConfigError, also without TORIL_SESSIONS_SECRET.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        sessions: Sessions,
        cookie: str = "session",
        path: str = "/",
        domain: str | None = None,
        same_site: Literal["lax", "strict", "none"] = "lax",
    ) -> None:
        secure = sessions.settings.secure
        if same_site not in ("lax", "strict", "none") or (same_site == "none" and not secure):
            raise ConfigError(
                f"SessionMiddleware: same_site: expected 'lax', 'strict', or 'none' with secure cookies, "
                f"got {same_site!r}."
            )
        self._app = app
        self._sessions = sessions
        self._signer = sessions.signer
        self._store = sessions.store
        self._refuse = sessions.settings.on_outage == "refuse"
        host = secure and path == "/" and domain is None
        self._name = f"__Host-{cookie}" if host else cookie
        _check_cookie(self._name, path, domain)
        self._begin = f"{self._name}=".encode()
        self._lasts_s = round(sessions.settings.idle)
        self._options = f"; Path={path}; HttpOnly; SameSite={same_site.capitalize()}"
        self._options += (f"; Domain={domain}" if domain else "") + ("; Secure" if secure else "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run as an ASGI application."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        value = self._cookie_of(scope)
        named = None if value is None else self._signer.read(value)
        session = None
        try:
            if named is not None:
                session = await self._store.load(named.id)
        except EngineUnavailable:
            if self._refuse:
                await _refuse(scope, receive, send)
                return
        if session is None:
            session = Session()
        scope["session"] = session
        # Told again only under the id that it has: an answer that comes late must not bring an old one back.
        own = named is not None and session.stored is not None and session.stored[0] == key_of(named.id)
        id_ = named.id if named is not None and own else None
        answer = _Answer(self, scope, session, send, id_, resign=named is not None and not named.newest)
        await self._app(scope, receive, answer.send)
        await answer.end()

    async def save(self, session: Session, scope: Scope) -> Saved:
        """Store what has changed. Raises EngineUnavailable unless outages are passed over."""
        try:
            return await self._store.save(session, _device(scope))
        except EngineUnavailable as error:
            if self._refuse:
                raise
            _log.warning("A session was not stored: %s", error)
            return Saved()

    def is_due(self, session: Session) -> bool:
        """Whether there is anything to store."""
        return self._store.is_due(session)

    def set_cookie(self, headers: MutableHeaders, id: str) -> None:
        """Tell the browser the id."""
        value = self._signer.signed(id)
        headers.append("Set-Cookie", f"{self._name}={value}; Max-Age={self._lasts_s}{self._options}")
        # An answer with somebody's id must not be kept by a cache on the way.
        if not _PRIVATE.search(headers.get("cache-control", "")):
            headers["Cache-Control"] = "no-store"

    def drop_cookie(self, headers: MutableHeaders) -> None:
        """Tell the browser to forget the id."""
        headers.append("Set-Cookie", f"{self._name}=; Max-Age=0{self._options}")

    def _cookie_of(self, scope: Scope) -> str | None:
        for name, header in scope["headers"]:
            if name == b"cookie" and self._begin in header:
                for part in header.split(b";"):
                    part = part.strip()
                    if part.startswith(self._begin):
                        return bytes(part[len(self._begin) :]).decode("latin-1")
        return None


class _Answer:
    """The answer to one request: the session is stored when it begins."""

    def __init__(
        self,
        middleware: SessionMiddleware,
        scope: Scope,
        session: Session,
        send: Send,
        id: str | None,
        *,
        resign: bool,
    ) -> None:
        self._middleware = middleware
        self._scope = scope
        self._session = session
        self._send = send
        self._id = id
        self._resign = resign
        self._begun = False
        self._refused = False

    async def send(self, message: Message) -> None:
        """What the application sends."""
        if not self._begun and message["type"] in ("http.response.start", "websocket.accept"):
            self._begun = True
            await self._begin(message)
        if not self._refused:
            await self._send(message)

    async def end(self) -> None:
        """The application is done: a WebSocket may have changed its session since it began."""
        session = self._session
        if not self._begun or self._refused or not session.accessed:
            return
        if self._scope["type"] == "websocket" and not session.is_new:
            if session.ended or session.changes():
                await self._middleware.save(session, self._scope)
        elif session.is_marked:
            _log.warning("A session was changed after its answer had begun: that is not stored.")

    async def _begin(self, message: Message) -> None:
        middleware, session = self._middleware, self._session
        saved = Saved()
        if middleware.is_due(session):
            try:
                saved = await middleware.save(session, self._scope)
            except EngineUnavailable:
                self._refused = True
                await _refuse(self._scope, _nothing, self._send)
                return
        # An old secret is replaced when the session is looked at, so that its id is not told to what is cached.
        id_ = saved.id or (self._id if saved.again or (self._resign and session.accessed) else None)
        if id_ is None and not saved.drop and not session.accessed:
            return
        headers = MutableHeaders(raw=message.setdefault("headers", []))
        message["headers"] = headers.raw
        if session.accessed:
            headers.add_vary_header("Cookie")
        if saved.drop:
            middleware.drop_cookie(headers)
        elif id_ is not None:
            middleware.set_cookie(headers, id_)


def session_of(connection: HTTPConnection) -> Session:
    """The session of a request or WebSocket, with its own type; also as a dependency: `Depends(session_of)`.

    Raises ConfigError without `SessionMiddleware`.
    """
    session = connection.scope.get("session")
    if not isinstance(session, Session):
        raise ConfigError("expected app.add_middleware(SessionMiddleware, sessions=toril.sessions), found no session.")
    return session


class SessionAuth:
    """Lets in who is logged in by session: `jobs_api(toril, auth=SessionAuth())`.

    `admin` decides from the session whether its user is an admin; nobody is, by default.
    """

    def __init__(self, admin: Callable[[Session], bool] = lambda session: False) -> None:
        self._admin = admin

    async def identify(self, request: HTTPConnection) -> Identity | None:
        """The user of the request's session, None before login."""
        session = session_of(request)
        return None if session.user is None else Identity(session.user, bool(self._admin(session)))


def _device(scope: Scope) -> Device:
    agent = next((value for name, value in scope["headers"] if name == b"user-agent"), b"")
    client = scope.get("client")
    return Device(agent.decode("latin-1")[:_LONGEST_AGENT], str(client[0]) if client else "")


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": "sessions are not available"})
        return
    error = ApiError(
        503,
        "sessions_unavailable",
        "Sessions are not available at the moment: try again.",
        headers={"Retry-After": str(RETRY_AFTER_S), "Cache-Control": "no-store"},
        retryable=True,
    )
    await error.response()(scope, receive, send)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def _check_cookie(name: str, path: str, domain: str | None) -> None:
    try:
        SimpleCookie().__setitem__(name, "x")
    except CookieError:
        raise ConfigError(f"SessionMiddleware: cookie: expected a name without special marks, got {name!r}.") from None
    if not path.startswith("/") or any(mark in f"{path}{domain or ''}" for mark in ";\r\n ,"):
        raise ConfigError(f"SessionMiddleware: path, domain: expected plain ones, got {path!r} and {domain!r}.")
