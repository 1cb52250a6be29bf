"""`CacheMiddleware`: answers to GET are kept, per user where there are users, and never shown to anybody else."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from inspect import isawaitable
from typing import Any, NamedTuple

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toril.cache.cache import Cache
from toril.cache.draft import Draft
from toril.errors import ConfigError
from toril.kernel import codec
from toril.kernel.durations import Duration, milliseconds, size_bytes
from toril.web.cache_rules import REQUEST_OWN, Headers, age_ms_of, directives, header, listed, matches

IdentityOf = Callable[[HTTPConnection], str | Awaitable[str | None] | None]
TagsOf = Callable[[HTTPConnection], Sequence[str]]

_NAME = "pages"
_KEPT_STATUS = frozenset({200, 203, 301, 308, 404, 410})
_NOT_MODIFIED_HEADERS = frozenset({b"cache-control", b"content-location", b"date", b"etag", b"expires", b"vary"})
_READS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

_log = logging.getLogger("toril.web")


class Page(NamedTuple):
    """A stored answer."""

    status: int
    headers: Headers
    body: bytes

    def stored(self) -> bytes:
        head = codec.encode(
            [self.status, [[name.decode("latin-1"), value.decode("latin-1")] for name, value in self.headers]]
        )
        data = head.encode()
        return len(data).to_bytes(4, "big") + data + self.body

    @classmethod
    def read(cls, data: bytes) -> Page:
        end = 4 + int.from_bytes(data[:4], "big")
        status, headers = codec.decode(data[4:end])
        return cls(status, [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers], data[end:])


class CacheMiddleware:
    """Keeps answers to GET: `app.add_middleware(CacheMiddleware, cache=toril.cache, ttl="60s")`.

    `ttl` holds where the answer's own Cache-Control says nothing, `routes` has others by the begin of a path; with
    `ttl` None only those are kept. `identity` answers who is asking (None: nobody in particular): answers are then kept
    for each by itself. Without it, requests with credentials (Authorization, a cookie, a session) are neither answered
    from the cache nor kept. Answers differ by the request headers in `vary`; one whose `Vary` names another is not
    kept.

    `tags` are those of the pages, and `invalidates` those that a successful POST, PUT, PATCH or DELETE gives up before
    it is answered; each a mapping from the begin of a path, or a function of the request. Answers with Set-Cookie, that
    are `private` (unless kept by identity), `no-store` or above `most` bytes are not kept. All that are kept have an
    ETag, and If-None-Match is answered with 304. Raises ConfigError.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        cache: Cache,
        ttl: Duration | None = "60s",
        routes: Mapping[str, Duration] | None = None,
        identity: IdentityOf | None = None,
        vary: Sequence[str] = ("accept", "accept-encoding", "accept-language"),
        tags: Mapping[str, Sequence[str]] | TagsOf | None = None,
        invalidates: Mapping[str, Sequence[str]] | TagsOf | None = None,
        most: int | str = "1MiB",
        skip: Sequence[str] = (),
    ) -> None:
        self._app = app
        self._cache = cache
        self._ttl_ms = None if ttl is None else milliseconds(ttl, "ttl")
        self._routes = sorted(
            ((path, milliseconds(time, f"routes[{path!r}]")) for path, time in (routes or {}).items()),
            key=lambda route: -len(route[0]),
        )
        self._identity = identity
        self._vary = tuple(sorted(name.lower().encode() for name in vary))
        self._tags = _tags_of(tags)
        self._invalidates = _tags_of(invalidates)
        self._most = size_bytes(most, "most")
        self._skip = tuple(skip)
        if self._ttl_ms is None and not self._routes:
            raise ConfigError("CacheMiddleware: expected ttl= or routes=, got neither.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["method"] == "GET":
            await self._get(scope, receive, send)
        elif self._invalidates is not None and scope["method"] not in _READS:
            await self._app(scope, receive, self._giving_up(scope, send))
        else:
            await self._app(scope, receive, send)

    async def _get(self, scope: Scope, receive: Receive, send: Send) -> None:
        ttl_ms = self._ttl_of(scope["path"])
        asked = directives(header(scope["headers"], b"cache-control"))
        who = await self._who(scope)
        if not ttl_ms or who is None or "no-store" in asked or header(scope["headers"], b"range") is not None:
            await self._app(scope, receive, send)
            return
        anew = "no-cache" in asked or asked.get("max-age") == "0"
        draft = await self._cache.draft(self._key(scope, who), self._tags_for(scope), name=_NAME, anew=anew)
        if draft.value is not None:
            left_ms = draft.fresh_until - self._cache.clock.now_ms()
            await _answer(Page.read(draft.value), scope, send, f"toril; hit; ttl={max(left_ms, 0) // 1000}")
            return
        keeper = _Keeper(self, scope, send, draft, ttl_ms, who)
        await self._app(scope, receive, keeper.send)
        await keeper.ended()

    def _ttl_of(self, path: str) -> int | None:
        if self._skip and path.startswith(self._skip):
            return None
        return next((ttl_ms for begin, ttl_ms in self._routes if path.startswith(begin)), self._ttl_ms)

    async def _who(self, scope: Scope) -> str | None:
        """Whose answer it is: `""` for everybody's, None when nobody can tell."""
        found: Any = None
        if self._identity is not None:
            found = self._identity(HTTPConnection(scope))
            if isawaitable(found):
                found = await found
        if found is not None:
            return f"u{found}"
        has_own = any(name in REQUEST_OWN for name, _ in scope["headers"]) or bool(scope.get("session"))
        return None if has_own else ""

    def _key(self, scope: Scope, who: str) -> str:
        # Everything that may change the answer, each part by its length, so that none reaches into its neighbour.
        digest = hashlib.blake2b(digest_size=16)
        varied = [header(scope["headers"], name) for name in (b"host", *self._vary)]
        for part in (who.encode(errors="surrogatepass"), scope.get("query_string", b""), *varied):
            digest.update(b"-" if part is None else b"%d:%b" % (len(part), part))
        scheme, root = scope.get("scheme", "http"), scope.get("root_path", "")
        return f"http:{scheme}:{root}{scope['path']}:{digest.hexdigest()}"

    def _tags_for(self, scope: Scope) -> Sequence[str]:
        return () if self._tags is None else self._tags(HTTPConnection(scope))

    def lives_ms(self, status: int, headers: Headers, who: str, ttl_ms: int) -> int:
        """How long an answer may be kept, 0 for not at all."""
        said = directives(header(headers, b"cache-control"))
        named = listed(header(headers, b"vary"))
        if (
            status not in _KEPT_STATUS
            or header(headers, b"set-cookie") is not None
            or "no-store" in said
            or "no-cache" in said
            or ("private" in said and not who)
            or not named.issubset(self._vary)
        ):
            return 0
        return age_ms_of(said, ttl_ms)

    @property
    def most(self) -> int:
        """Most bytes of an answer that is kept."""
        return self._most

    def _giving_up(self, scope: Scope, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400 and self._invalidates is not None:
                # Before the answer: whoever reads after it must not see what was before the change.
                await self._cache.invalidate(*self._invalidates(HTTPConnection(scope)))
            await send(message)

        return sending


class _Keeper:
    """Passes an answer on, and keeps it when it is whole. One whose length is known is held back until then, so that
    it can have an ETag; one that is streamed goes through as it comes.
    """

    def __init__(
        self, middleware: CacheMiddleware, scope: Scope, send: Send, draft: Draft, ttl_ms: int, who: str
    ) -> None:
        self._middleware = middleware
        self._scope = scope
        self._send = send
        self._draft = draft
        self._ttl_ms = ttl_ms
        self._who = who
        self._start: Message | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._lives_ms = 0
        self._held = False
        self._page: Page | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._started(message)
        elif message["type"] == "http.response.body" and self._lives_ms:
            await self._received(message)
        else:
            await self._let_go()
            await self._send(message)

    async def ended(self) -> None:
        """The application has returned: keep what it has sent whole."""
        await self._let_go()
        if self._page is not None:
            await self._draft.keep(self._page.stored(), ttl_ms=self._lives_ms)

    async def _started(self, message: Message) -> None:
        headers: Headers = [(name.lower(), value) for name, value in message.get("headers", ())]
        self._lives_ms = self._middleware.lives_ms(message["status"], headers, self._who, self._ttl_ms)
        length = header(headers, b"content-length")
        self._start = {**message, "headers": headers}
        if self._lives_ms and self._who and header(headers, b"cache-control") is None:
            # No cache on the way may take one user's page for everybody's.
            headers.append((b"cache-control", b"private, no-cache"))
        if length is not None and length.isdigit() and int(length) > self._middleware.most:
            self._lives_ms = 0
        self._held = bool(self._lives_ms) and length is not None
        if not self._held:
            await self._send(self._start)

    async def _received(self, message: Message) -> None:
        body = message.get("body", b"")
        self._parts.append(body)
        self._size += len(body)
        if self._size > self._middleware.most:
            self._lives_ms = 0
            if not self._held:
                await self._send(message)
                return
            await self._let_go()
            if not message.get("more_body", False):
                await self._send({"type": "http.response.body", "body": b""})
            return
        if message.get("more_body", False):
            if not self._held:
                await self._send(message)
            return
        page = self._page = self._whole()
        if self._held:
            self._held = False
            await _answer(page, self._scope, self._send, "toril; fwd=miss; stored")
        else:
            await self._send(message)

    def _whole(self) -> Page:
        start = self._start or {"status": 200, "headers": []}
        body, headers = b"".join(self._parts), list(start["headers"])
        if header(headers, b"etag") is None:
            digest = hashlib.blake2b(body, digest_size=16).hexdigest()
            headers.append((b"etag", b'"%b"' % digest.encode()))
        if header(headers, b"content-length") is None:
            headers.append((b"content-length", b"%d" % len(body)))
        return Page(start["status"], headers, body)

    async def _let_go(self) -> None:
        """Pass on what was held back, as it came."""
        if self._held and self._start is not None:
            self._held = False
            await self._send(self._start)
            await self._send({"type": "http.response.body", "body": b"".join(self._parts), "more_body": True})


async def _answer(page: Page, scope: Scope, send: Send, said: str) -> None:
    status, headers, body = page
    headers = [*headers, (b"cache-status", said.encode())]
    wanted, etag = header(scope["headers"], b"if-none-match"), header(headers, b"etag")
    if status == 200 and wanted is not None and etag is not None and matches(wanted, etag):
        status, body = 304, b""
        headers = [pair for pair in headers if pair[0] in _NOT_MODIFIED_HEADERS or pair[0] == b"cache-status"]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _tags_of(given: Mapping[str, Sequence[str]] | TagsOf | None) -> TagsOf | None:
    if given is None or callable(given):
        return given
    begins = sorted(given.items(), key=lambda pair: -len(pair[0]))

    def tags(request: HTTPConnection) -> Sequence[str]:
        path = request.scope["path"]
        return next((tags for begin, tags in begins if path.startswith(begin)), ())

    return tags
