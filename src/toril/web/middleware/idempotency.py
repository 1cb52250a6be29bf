"""`IdempotencyMiddleware`: a request that is sent again with the same Idempotency-Key is answered, not done again.

As in the IETF draft "The Idempotency-Key HTTP Header Field": 400 for a missing or bad key, 409 while the first request
is still being worked on, 422 when the key came with another request before.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from typing import Any

from pydantic_core import to_json
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toril.errors import ConfigError, EngineUnavailable
from toril.idempotency.guard import Claim, Guard
from toril.idempotency.once import Once, until_free
from toril.kernel import codec
from toril.kernel.durations import Duration, milliseconds, seconds, size_bytes
from toril.web.cache_rules import Headers, header

IdentityOf = Callable[[HTTPConnection], str | Awaitable[str | None] | None]

_LONGEST_KEY = 255
# What an answer says of one connection or one moment is not said again.
_NOT_KEPT = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"date", b"server"})
_PASSING = frozenset({408, 425, 429})
_TOO_LARGE = b"-"

_log = logging.getLogger("toril.web")


class IdempotencyMiddleware:
    """Answers a repeated request from what the first one was answered: `app.add_middleware(IdempotencyMiddleware,
    once=toril.once)`.

    Requests of `methods` with an `Idempotency-Key` are done once per key and caller: `identity` answers who that is;
    without it callers are told apart by Authorization, or else by their cookies. Status, headers and body are
    kept for `ttl`; answers from 500 on, 408, 425 and 429 are not, so that the request can be sent again. Who sends the
    same request meanwhile waits for at most `wait`, then gets 409. Requests to paths that begin with one of `required`
    must have a key. Bodies with a key may have `most_request` bytes (413), answers that are kept `most` bytes; of a
    longer one only is kept that it was given (409). While the store is away such requests are answered with 503, or
    done without protection, as TORIL_IDEMPOTENCY_ON_OUTAGE says. Raises ConfigError.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        once: Once,
        identity: IdentityOf | None = None,
        methods: Sequence[str] = ("POST", "PATCH"),
        required: Sequence[str] = (),
        ttl: Duration | None = None,
        wait: Duration = 10,
        most: int | str = "1MiB",
        most_request: int | str = "1MiB",
    ) -> None:
        if not methods:
            raise ConfigError("IdempotencyMiddleware: expected at least one method, got none.")
        self._app = app
        self._guard: Guard = once.guard
        self._identity = identity
        self._methods = frozenset(method.upper() for method in methods)
        self._required = tuple(required)
        self._ttl_ms = once.ttl_ms if ttl is None else milliseconds(ttl, "ttl")
        self._wait_s = seconds(wait, "wait")
        self._most = size_bytes(most, "most")
        self._most_request = size_bytes(most_request, "most_request")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in self._methods:
            await self._app(scope, receive, send)
            return
        given = header(scope["headers"], b"idempotency-key")
        if given is None:
            if self._required and scope["path"].startswith(self._required):
                await _refuse(send, 400, "idempotency_key_missing", "This request needs an Idempotency-Key.")
            else:
                await self._app(scope, receive, send)
            return
        key = _key_of(given)
        if key is None:
            text = f"Idempotency-Key: expected 1 to {_LONGEST_KEY} visible characters, in quotes or without."
            await _refuse(send, 400, "idempotency_key_invalid", text)
            return
        body = await _whole_body(receive, self._most_request)
        if body is None:
            text = f"A request with an Idempotency-Key may have at most {self._most_request} bytes."
            await _refuse(send, 413, "payload_too_large", text)
            return
        await self._once(scope, _Replayed(body, receive), send, f"http:{await self._caller(scope)}:{key}", body)

    async def _once(self, scope: Scope, receive: Receive, send: Send, name: str, body: bytes) -> None:
        try:
            claim = await until_free(self._guard, name, _asked(scope, body), self._wait_s)
        except EngineUnavailable as error:
            self._guard.lost(error)
            if self._guard.on_outage == "run":
                await self._app(scope, receive, send)
            else:
                text = "Whether this request was done before cannot be told at the moment: send it again."
                await _refuse(send, 503, "unavailable", text, retry_after=2)
            return
        if claim.state == "mismatch":
            text = "This Idempotency-Key came with another request before: use a new one."
            await _refuse(send, 422, "idempotency_mismatch", text)
        elif claim.state == "running":
            text = "The first request with this Idempotency-Key is still being worked on."
            await _refuse(send, 409, "idempotency_running", text, retry_after=1)
        elif claim.state == "done":
            await _replay(claim.result, send)
        else:
            async with self._guard.holding(name, claim):
                recorder = _Recorder(self._guard, name, claim, send, self._ttl_ms, self._most)
                try:
                    await self._app(scope, receive, recorder.send)
                finally:
                    await recorder.ended()

    async def _caller(self, scope: Scope) -> str:
        if self._identity is not None:
            found: Any = self._identity(HTTPConnection(scope))
            if isawaitable(found):
                found = await found
            if found is not None:
                return f"u{found}"
        # Cookies may change from one request to the next: they tell callers apart where nothing better does.
        for name in (b"authorization", b"cookie"):
            own = header(scope["headers"], name)
            if own is not None:
                return f"{name.decode()}:{own.decode('latin-1')}"
        return ""


class _Recorder:
    """Passes an answer on, and records it before its last part goes out."""

    def __init__(self, guard: Guard, name: str, claim: Claim, send: Send, ttl_ms: int, most: int) -> None:
        self._guard = guard
        self._name = name
        self._claim = claim
        self._send = send
        self._ttl_ms = ttl_ms
        self._most = most
        self._status = 0
        self._headers: Headers = []
        self._parts: list[bytes] = []
        self._size = 0
        self._recorded = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], list(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            self._size += len(body)
            if self._size <= self._most:
                self._parts.append(body)
            if not message.get("more_body", False):
                await self._record()
        await self._send(message)

    async def ended(self) -> None:
        """The application has returned, or failed: without a whole answer the request may be sent again."""
        if not self._recorded:
            await self._quietly(self._guard.release(self._name, self._claim))

    async def _record(self) -> None:
        if not self._status or self._status >= 500 or self._status in _PASSING:
            return
        self._recorded = True
        result = _TOO_LARGE
        if self._size <= self._most:
            kept = [
                [name.decode("latin-1"), value.decode("latin-1")]
                for name, value in self._headers
                if name.lower() not in _NOT_KEPT
            ]
            head = codec.encode([self._status, kept]).encode()
            result = len(head).to_bytes(4, "big") + head + b"".join(self._parts)
        await self._quietly(self._guard.settle(self._name, self._claim, result, ttl_ms=self._ttl_ms))

    async def _quietly(self, work: Awaitable[object]) -> None:
        try:
            await work
        except EngineUnavailable as error:
            self._guard.lost(error)
            _log.warning("What came of a request could not be stored: sent again, it may be done again. %s", error)


class _Replayed:
    """A `receive` that gives the body that was read already, and then what else comes."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        return await self._receive()


async def _whole_body(receive: Receive, most: int) -> bytes | None:
    """The body of a request; None when it is longer than that."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(parts)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


def _key_of(given: bytes) -> str | None:
    key = given.decode("latin-1").strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    fits = 1 <= len(key) <= _LONGEST_KEY and all("!" <= char <= "~" for char in key)
    return key if fits else None


def _asked(scope: Scope, body: bytes) -> bytes:
    """What a request asks for: two that differ here are not the same request."""
    kind = header(scope["headers"], b"content-type") or b""
    path = (scope.get("root_path", "") + scope["path"]).encode(errors="surrogatepass")
    parts = (scope["method"].encode(), path, scope.get("query_string", b""), kind, body)
    return b"".join([b"%d:%b" % (len(part), part) for part in parts])


async def _replay(result: bytes, send: Send) -> None:
    if result == _TOO_LARGE:
        text = "This request was done; its answer was too long to be kept."
        await _refuse(send, 409, "idempotency_answer_too_large", text)
        return
    end = 4 + int.from_bytes(result[:4], "big")
    status, kept = codec.decode(result[4:end])
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in kept]
    headers.append((b"idempotency-replayed", b"true"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": result[end:]})


async def _refuse(send: Send, status: int, code: str, text: str, *, retry_after: int | None = None) -> None:
    body = to_json({"error": text, "code": code})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    if retry_after is not None:
        headers.append((b"retry-after", b"%d" % retry_after))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
