"""One page over HTTP, with a limit on everything: time, size, redirects, content type."""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpcore
import httpx

from docsnap.addresses import GuardedBackend
from docsnap.errors import PageUnavailable, PageUnusable

USER_AGENT = "DocSnap/1.0 (documentation crawler; obeys robots.txt)"
HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})

_META_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([a-zA-Z0-9_.:-]{1,40})""", re.IGNORECASE)
_TRANSPORT_ERRORS = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    httpx.HTTPError,
    httpx.InvalidURL,
)


@dataclass(frozen=True)
class FetchLimits:
    """Bounds for one request."""

    seconds: float = 15.0
    """From the first byte sent to the last byte read, redirects included."""
    bytes: int = 2 * 1024 * 1024
    """Of the page, after decompression."""
    redirects: int = 5


@dataclass(frozen=True)
class Fetched:
    """A page as it came."""

    url: str
    """Where it was found in the end, after redirects."""
    content_type: str
    body: bytes
    charset: str | None = None

    def text(self) -> str:
        """The body as text: by the header's charset, else the one the page names, else UTF-8; bad bytes are marked."""
        named = _META_CHARSET.search(self.body[:4096])
        charset = self.charset or (named.group(1).decode("ascii") if named else "utf-8")
        try:
            return self.body.decode(charset, errors="replace")
        except (LookupError, UnicodeError, ValueError):
            return self.body.decode("utf-8", errors="replace")


class Fetcher:
    """An HTTP client that can only reach what its backend lets through. Use it as an async context manager."""

    def __init__(self, backend: GuardedBackend, limits: FetchLimits | None = None) -> None:
        self._limits = limits or FetchLimits()
        # trust_env off: a proxy from the environment would connect for us, and nobody would check where to.
        self._client = httpx.AsyncClient(
            transport=_GuardedTransport(backend),
            trust_env=False,
            follow_redirects=False,
            timeout=self._limits.seconds,
            headers={
                "User-Agent": USER_AGENT,
                "Accept": "text/html, application/xhtml+xml",
                "Accept-Encoding": "gzip",
            },
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def get(self, url: str, *, accept: frozenset[str] | None = HTML_TYPES) -> Fetched:
        """Read one page.

        Args:
            url: an http or https address.
            accept: the content types wanted, or None for any.

        Raises:
            AddressRefused: the page, or a redirect on the way, leads to a private address.
            PageUnusable: a client error, a wrong content type, too large, too many redirects.
            PageUnavailable: no answer within the time limit, a broken answer, or a server error.
        """
        try:
            async with asyncio.timeout(self._limits.seconds):
                return await self._follow(url, accept)
        except (TimeoutError, httpcore.TimeoutException, httpx.TimeoutException) as error:
            raise PageUnavailable(f"{url} did not answer within {self._limits.seconds:g} s") from error
        except httpx.InvalidURL as error:
            raise PageUnusable(f"{url} is not a usable address: {error}") from error
        except _TRANSPORT_ERRORS as error:
            raise PageUnavailable(f"{url} could not be read: {str(error) or type(error).__name__}") from error

    async def _follow(self, url: str, accept: frozenset[str] | None) -> Fetched:
        target = checked_url(url)
        for _ in range(self._limits.redirects + 1):
            async with self._client.stream("GET", target) as response:
                if not response.has_redirect_location:
                    return await self._read(response, accept)
                target = checked_url(str(target.join(response.headers["location"])))
        raise PageUnusable(f"{url} redirects more than {self._limits.redirects} times")

    async def _read(self, response: httpx.Response, accept: frozenset[str] | None) -> Fetched:
        url = str(response.url)
        if response.status_code in PASSING_STATUS:
            raise PageUnavailable(f"{url} answered {response.status_code} {response.reason_phrase}")
        if not response.is_success:
            raise PageUnusable(f"{url} answered {response.status_code} {response.reason_phrase}")
        content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if accept is not None and content_type not in accept:
            raise PageUnusable(f"{url} is {content_type or 'of no stated type'}, expected an HTML page")
        body = bytearray()
        async for chunk in _inflated(response, self._limits.bytes + 1):
            body += chunk
            if len(body) > self._limits.bytes:
                raise PageUnusable(f"{url} is larger than {self._limits.bytes:,} bytes")
        return Fetched(url, content_type, bytes(body), response.charset_encoding)


def checked_url(url: str) -> httpx.URL:
    """Parse an address and refuse what is no plain web page.

    Raises:
        PageUnusable: another scheme, no host, or a user name and password in it.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise PageUnusable(f"expected an http or https address, got one that cannot be parsed: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise PageUnusable(f"expected an http or https address, got {parsed.scheme or 'no scheme'}: {parsed.host}")
    if parsed.userinfo:
        raise PageUnusable("expected an address without user name and password; remove them, they are not kept secret")
    return parsed


async def _inflated(response: httpx.Response, limit: int) -> AsyncIterator[bytes]:
    """The body in pieces of at most `limit` bytes, however well it was compressed."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        async for chunk in response.aiter_raw():
            yield chunk
        return
    if encoding not in ("gzip", "x-gzip"):
        raise PageUnusable(f"{response.url} is encoded as {encoding}, which was not asked for")
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        async for chunk in response.aiter_raw():
            yield inflater.decompress(chunk, limit)
    except zlib.error as error:
        raise PageUnavailable(f"{response.url} sent broken gzip data: {error}") from error


class _GuardedTransport(httpx.AsyncBaseTransport):
    """Joins httpx to a connection pool whose sockets are opened by the guarded backend."""

    def __init__(self, backend: GuardedBackend) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False),
            max_connections=4,
            max_keepalive_connections=2,
            keepalive_expiry=5.0,
            network_backend=backend,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        answer = await self._pool.handle_async_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                extensions=request.extensions,
            )
        )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions)

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._answer.aiter_stream():
            yield chunk

    async def aclose(self) -> None:
        await self._answer.aclose()
