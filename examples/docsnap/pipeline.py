"""The work of one job without the job: crawl, render, store. Progress and log lines go to two callables."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from docsnap.addresses import GuardedBackend
from docsnap.crawl import Crawl, CrawlLimits, Step
from docsnap.errors import PageUnusable
from docsnap.fetch import Fetcher, FetchLimits
from docsnap.render import render
from docsnap.report import DocumentStore, Report

CRAWL_SHARE = 95
"""Percent of the progress bar that belongs to reading pages; the rest is for writing."""

OnProgress = Callable[[int, str], Awaitable[None]]
OnLog = Callable[[str], Awaitable[None]]


class Pipeline:
    """Builds documents. Holds no state between runs, so any number may run at the same time."""

    def __init__(
        self,
        store: DocumentStore,
        backend: GuardedBackend,
        *,
        fetch_limits: FetchLimits | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._backend = backend
        self._fetch_limits = fetch_limits
        self._now = now

    async def run(self, job_id: str, url: str, limits: CrawlLimits, progress: OnProgress, log: OnLog) -> Report:
        """Read the site, write the document, say what was done.

        Raises:
            CrawlError: the first page cannot be read, or no page has readable text.
        """

        shown = 0

        async def on_step(step: Step) -> None:
            nonlocal shown
            if step.skipped is not None:
                await log(f"skipped {step.skipped.url}: {step.skipped.reason}")
            if step.page is not None:
                await log(f"read {step.page.url}: {step.page.title}")
                # Newly found pages make the rest longer; the bar may wait for it but never goes back.
                shown = max(shown, int(CRAWL_SHARE * step.done / max(step.expected, 1)))
                await progress(shown, f"{step.done} of {step.expected} pages: {step.page.title}")

        await progress(0, "reading robots.txt")
        async with Fetcher(self._backend, self._fetch_limits) as fetcher:
            crawled = await Crawl(fetcher, limits, on_step).run(url)
        await progress(CRAWL_SHARE, "writing the document")
        document = render(crawled, self._now())
        if document.pages == 0:
            raise PageUnusable(f"{crawled.start} has no readable text; pages built by scripts in the browser have none")
        path, size = self._store.write(job_id, document.markdown)
        await log(f"wrote {document.words:,} words from {document.pages} pages")
        await progress(100, f"{document.pages} pages, {document.words:,} words")
        return Report(
            url=url,
            title=document.title,
            pages=document.pages,
            skipped=len(crawled.skipped),
            words=document.words,
            bytes=size,
            path=path,
        )
