"""The background job: one task, `generate_docs`."""

from typing import Annotated

from pydantic import Field

from docsnap.addresses import GuardedBackend
from docsnap.crawl import CrawlLimits
from docsnap.errors import CrawlError
from docsnap.pipeline import Pipeline
from docsnap.report import DocumentStore, Report
from docsnap.settings import Settings
from toril import Context, Exponential, NeverRetry, Task, Toril, WebUrl

MOST_PAGES = 100
DEEPEST = 5

Depth = Annotated[int, Field(ge=0, le=DEEPEST)]
MaxPages = Annotated[int, Field(ge=1, le=MOST_PAGES)]
GenerateDocs = Task[[WebUrl, Depth, MaxPages], Report]


def define_tasks(toril: Toril, settings: Settings) -> GenerateDocs:
    """Register `generate_docs` with an application; its queue and its folder come from the settings."""
    pipeline = Pipeline(DocumentStore(settings.documents), GuardedBackend(settings.allow_private))

    @toril.task(queue=settings.queue, attempts=3, backoff=Exponential(1.0, jitter=0.2), timeout="5m")
    async def generate_docs(ctx: Context, url: WebUrl, depth: Depth = 2, max_pages: MaxPages = 20) -> Report:
        """Crawl the site at `url` and write it as one Markdown document."""
        limits = CrawlLimits(depth=depth, pages=max_pages)
        try:
            return await pipeline.run(ctx.job_id, url, limits, ctx.progress, ctx.log)
        except CrawlError as error:
            await ctx.log(f"attempt {ctx.attempt} failed: {error}")
            if error.retryable:
                raise
            raise NeverRetry(str(error)) from error

    return generate_docs
