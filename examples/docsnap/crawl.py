"""Walks a site: breadth first, one request at a time, inside one host and one folder, by the rules of robots.txt."""

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urldefrag, urljoin, urlsplit, urlunsplit

from protego import Protego

from docsnap.errors import CrawlError, PageUnavailable, PageUnusable
from docsnap.extract import Page, links, read_page
from docsnap.fetch import Fetched, Fetcher

AGENT_NAME = "DocSnap"
LONGEST_CRAWL_DELAY = 5.0
SECOND_TRY_PAUSE = 0.5
FAILURES_IN_A_ROW = 3
CANDIDATES_PER_PAGE = 10
"""Addresses kept in line for each page wanted: a page with a million links costs no more than one with ten."""
_NO_PAGE = re.compile(r"\.(png|jpe?g|gif|svg|webp|ico|css|m?js|json|xml|pdf|zip|gz|tar|mp[34]|woff2?)$", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class CrawlLimits:
    """Bounds for one crawl."""

    depth: int = 2
    """Links followed away from the first page; 0 reads that page alone."""
    pages: int = 20
    seconds: float = 240.0
    """After this time the crawl stops and keeps what it has."""


@dataclass(frozen=True)
class Skipped:
    """A page that was found but is not in the result, and why."""

    url: str
    reason: str


@dataclass(frozen=True)
class Crawled:
    """Everything a crawl found."""

    start: str
    pages: list[Page]
    skipped: list[Skipped] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    """Addresses that redirect, and the page they lead to."""


@dataclass(frozen=True)
class Step:
    """Where a crawl stands; handed out after every page."""

    done: int
    expected: int
    """Pages the crawl will read as far as it can tell now."""
    page: Page | None
    skipped: Skipped | None


OnStep = Callable[[Step], Awaitable[None]]


class Crawl:
    """One walk over one site."""

    def __init__(self, fetcher: Fetcher, limits: CrawlLimits, on_step: OnStep) -> None:
        self._fetcher = fetcher
        self._limits = limits
        self._on_step = on_step
        self._line: deque[tuple[str, int]] = deque()
        self._late: deque[tuple[str, int]] = deque()
        self._failures = 0
        self._known: set[str] = set()
        self._pages: dict[str, Page] = {}
        self._skipped: list[Skipped] = []
        self._aliases: dict[str, str] = {}
        self._scope = ("", "")
        self._robots = Protego.parse("")
        self._pause = 0.0

    async def run(self, start: str) -> Crawled:
        """Read the site from `start` on.

        A later page that cannot be read is listed as skipped.

        Raises:
            CrawlError: the first page cannot be read (see `docsnap.errors` for the kinds).
            PageUnavailable: the site stopped answering in the middle.
        """
        deadline = asyncio.get_running_loop().time() + self._limits.seconds
        first = normal(start)
        await self._read_robots(first)
        await self._read_first(first)
        while (todo := self._next()) is not None:
            url, depth, again = todo
            if url in self._pages:  # a redirect led there meanwhile
                continue
            remaining = deadline - asyncio.get_running_loop().time()
            if remaining <= self._pause:
                await self._skip(url, f"the time limit of {self._limits.seconds:g} s was reached")
                break
            await asyncio.sleep(max(self._pause, SECOND_TRY_PAUSE) if again else self._pause)
            await self._read_next(url, depth, again=again)
        return Crawled(first, list(self._pages.values()), self._skipped, self._aliases)

    def _next(self) -> tuple[str, int, bool] | None:
        """Address, depth, and whether it was tried before; those that failed once come last."""
        if len(self._pages) >= self._limits.pages:
            return None
        if self._line:
            return (*self._line.popleft(), False)
        if self._late:
            return (*self._late.popleft(), True)
        return None

    async def _read_first(self, url: str) -> None:
        self._known.add(url)
        if not self._robots.can_fetch(url, AGENT_NAME):
            raise PageUnusable(f"{url} is closed to crawlers by the site's robots.txt")
        fetched = await self._fetcher.get(url)
        found = normal(fetched.url)
        if origin(found) != origin(url):
            await self._read_robots(found)
        if not self._robots.can_fetch(found, AGENT_NAME):
            raise PageUnusable(f"{url} leads to {found}, which is closed to crawlers by robots.txt")
        self._scope = (origin(fetched.url), folder(fetched.url))
        await self._keep(fetched, url, 0)

    async def _read_next(self, url: str, depth: int, *, again: bool) -> None:
        if not self._robots.can_fetch(url, AGENT_NAME):
            await self._skip(url, "closed to crawlers by robots.txt")
            return
        try:
            fetched = await self._fetcher.get(url)
        except PageUnavailable as error:
            await self._postpone(url, depth, error, again=again)
            return
        except CrawlError as error:
            await self._skip(url, str(error))
            return
        self._failures = 0
        found = normal(fetched.url)
        if found in self._pages:
            self._aliases[url] = found
        elif found != url and not self._inside(found):
            await self._skip(url, f"leads away, to {found}")
        elif found != url and not self._robots.can_fetch(found, AGENT_NAME):
            await self._skip(url, f"leads to {found}, which is closed to crawlers by robots.txt")
        else:
            await self._keep(fetched, url, depth)

    async def _postpone(self, url: str, depth: int, error: PageUnavailable, *, again: bool) -> None:
        """A page that fails twice is left out, as long as the rest of the site answers: half a document that looks
        whole is worse than another attempt of the job.
        """
        self._failures += 1
        if again or self._failures >= FAILURES_IN_A_ROW:
            await self._check_alive()
        if again:
            await self._skip(url, str(error))
        else:
            self._late.append((url, depth))

    async def _check_alive(self) -> None:
        try:
            await self._fetcher.get(next(iter(self._pages)))
        except CrawlError as error:
            raise PageUnavailable(f"the site stopped answering in the middle of the crawl: {error}") from error
        self._failures = 0

    async def _keep(self, fetched: Fetched, asked: str, depth: int) -> None:
        found = normal(fetched.url)
        html = fetched.text()
        page, targets = await asyncio.to_thread(_digest, html, found)
        self._pages[found] = page
        self._known.add(found)
        if asked != found:
            self._aliases[asked] = found
        if depth < self._limits.depth:
            self._enlist(targets, depth + 1)
        await self._report(page, None)

    def _enlist(self, targets: list[str], depth: int) -> None:
        for target in map(normal, targets):
            if len(self._line) >= self._limits.pages * CANDIDATES_PER_PAGE:
                return
            if target not in self._known and self._inside(target):
                self._known.add(target)
                self._line.append((target, depth))

    async def _skip(self, url: str, reason: str) -> None:
        skipped = Skipped(url, reason)
        self._skipped.append(skipped)
        await self._report(None, skipped)

    async def _report(self, page: Page | None, skipped: Skipped | None) -> None:
        done = len(self._pages)
        expected = min(self._limits.pages, done + len(self._line) + len(self._late))
        await self._on_step(Step(done, expected, page, skipped))

    async def _read_robots(self, url: str) -> None:
        address = f"{origin(url)}/robots.txt"
        try:
            answer = await self._fetcher.get(address, accept=None)
        except PageUnusable:
            self._robots = Protego.parse("")  # no rules means no limits, says the standard
        except PageUnavailable as error:
            raise PageUnavailable(f"the rules of the site are not readable, so nothing was crawled: {error}") from error
        else:
            self._robots = Protego.parse(answer.text())
        wanted = self._robots.crawl_delay(AGENT_NAME) or 0.0
        self._pause = min(float(wanted), LONGEST_CRAWL_DELAY)

    def _inside(self, url: str) -> bool:
        path = urlsplit(url).path
        return origin(url) == self._scope[0] and path.startswith(self._scope[1]) and not _NO_PAGE.search(path)


def normal(url: str) -> str:
    """One spelling for one page: no fragment, lower-case host, no default port, a path."""
    parts = urlsplit(urldefrag(url).url)
    return urlunsplit((parts.scheme.lower(), _authority(url), parts.path or "/", parts.query, ""))


def origin(url: str) -> str:
    """Scheme, host and port."""
    return f"{urlsplit(url).scheme.lower()}://{_authority(url)}"


def folder(url: str) -> str:
    """The path up to and with its last slash: a crawl stays inside the folder of its first page."""
    return urljoin(urlsplit(url).path or "/", ".") or "/"


def _authority(url: str) -> str:
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    host = f"[{host}]" if ":" in host else host
    try:
        port = parts.port
    except ValueError:
        return parts.netloc
    return host if port in (None, _DEFAULT_PORTS.get(parts.scheme.lower())) else f"{host}:{port}"


def _digest(html: str, url: str) -> tuple[Page, list[str]]:
    return read_page(html, url), links(html, url)
