"""A crawl stays inside its site, obeys robots.txt and survives what real sites do."""

import pytest

from docsnap.addresses import GuardedBackend
from docsnap.crawl import Crawl, Crawled, CrawlLimits, Step, folder, normal
from docsnap.errors import AddressRefused, PageUnavailable, PageUnusable
from docsnap.fetch import Fetcher, FetchLimits
from docsnap.lantern.server import Pace, lantern_site
from tests.examples.docsnap_web import Answer, HandmadeSite, handmade_site, http


async def crawl(
    start: str, authority: str, limits: CrawlLimits | None = None, seconds: float = 5.0, steps: list[Step] | None = None
) -> Crawled:
    async def on_step(step: Step) -> None:
        if steps is not None:
            steps.append(step)

    async with Fetcher(GuardedBackend({authority}), FetchLimits(seconds=seconds)) as fetcher:
        return await Crawl(fetcher, limits or CrawlLimits(), on_step).run(start)


def pages(site: dict[str, bytes]) -> Answer:
    return lambda path, _: site.get(path, http(b"", status="404 Not Found"))


def linking(*targets: str) -> bytes:
    return http("".join(f'<p>text of a page <a href="{target}">link</a></p>' for target in targets).encode())


def paths(result: Crawled) -> list[str]:
    return [page.url.removeprefix(result.start.rstrip("/")) for page in result.pages]


async def test_the_whole_book_is_read_in_reading_order() -> None:
    with lantern_site(pace=Pace(0, 0)) as site:
        result = await crawl(site.urls[0], site.authority)
    assert [page.title for page in result.pages] == [
        "Getting started",
        "Install the server",
        "Your first flag",
        "Ask from your program",
        "A gradual roll-out",
        "How Lantern thinks",
        "Checklist for the first hour",
    ]
    assert result.pages[0].date == "2026-09-14"
    assert result.skipped == []


async def test_redirects_inside_the_site_do_not_double_a_page() -> None:
    with lantern_site(pace=Pace(0, 0)) as site:
        result = await crawl(site.urls[0], site.authority, CrawlLimits(depth=3))
    assert result.aliases == {f"http://{site.authority}/start/setup": f"http://{site.authority}/start/install"}
    assert len({page.url for page in result.pages}) == len(result.pages) == 7


async def test_closed_and_missing_pages_are_listed_with_the_reason() -> None:
    with lantern_site(pace=Pace(0, 0)) as site:
        operations = await crawl(site.urls[3], site.authority)
        questions = await crawl(site.urls[4], site.authority)
    assert [skipped.reason for skipped in operations.skipped] == ["closed to crawlers by robots.txt"]
    assert "crawler did not listen" not in "".join(page.title for page in operations.pages)
    assert "answered 404" in questions.skipped[0].reason
    assert len(questions.pages) == 6


async def test_depth_zero_reads_one_page_and_depth_one_its_links() -> None:
    site = {"/": linking("/a"), "/a": linking("/b"), "/b": linking("/c"), "/c": linking()}
    async with handmade_site(pages(site)) as web:
        for depth, expected in ((0, ["/"]), (1, ["/", "/a"]), (2, ["/", "/a", "/b"])):
            result = await crawl(web.url(), web.authority, CrawlLimits(depth=depth))
            assert paths(result) == expected


async def test_the_page_limit_ends_the_crawl_and_counts_the_bar() -> None:
    steps: list[Step] = []
    site = {"/": linking(*(f"/{n}" for n in range(50))), **{f"/{n}": linking() for n in range(50)}}
    async with handmade_site(pages(site)) as web:
        result = await crawl(web.url(), web.authority, CrawlLimits(pages=4), steps=steps)
    assert len(result.pages) == 4
    assert [(step.done, step.expected) for step in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]


async def test_a_page_full_of_links_fills_no_memory() -> None:
    site = {"/": linking(*(f"/missing{n}" for n in range(500)))}
    async with handmade_site(pages(site)) as web:
        result = await crawl(web.url(), web.authority, CrawlLimits(pages=3))
        assert len(result.skipped) == 30
        assert len(web.asked) == 32


async def test_other_hosts_other_folders_and_files_are_not_followed() -> None:
    links = (
        "http://other.example/docs/",
        "/elsewhere",
        "paper.pdf",
        "mailto:a@b.example",
        "inside",
        "#here",
        "http://[",
    )
    site = {"/docs/": linking(*links), "/docs/inside": linking()}
    async with handmade_site(pages(site)) as web:
        result = await crawl(web.url("/docs/"), web.authority)
        assert web.asked == ["/robots.txt", "/docs/", "/docs/inside"]
    assert len(result.pages) == 2


async def test_a_page_that_leads_away_is_skipped() -> None:
    def answer(path: str, site: HandmadeSite) -> bytes:
        return http(b"", "Location: /other/", status="301 Moved") if path == "/docs/out" else linking("/docs/out")

    async with handmade_site(answer) as web:
        result = await crawl(web.url("/docs/"), web.authority)
        assert result.skipped[0].reason == f"leads away, to {web.url('/other/')}"


async def test_a_first_page_closed_by_robots_is_an_error() -> None:
    robots = http(b"User-agent: docsnap\nDisallow: /", content_type="text/plain")
    async with handmade_site(pages({"/robots.txt": robots, "/": linking()})) as web:
        with pytest.raises(PageUnusable, match=r"closed to crawlers by the site's robots\.txt"):
            await crawl(web.url(), web.authority)
        assert web.asked == ["/robots.txt"]


async def test_unreadable_rules_stop_the_crawl_for_a_later_attempt() -> None:
    async with handmade_site(pages({"/robots.txt": http(b"", status="503 Busy"), "/": linking()})) as web:
        with pytest.raises(PageUnavailable, match="nothing was crawled"):
            await crawl(web.url(), web.authority)


async def test_a_silent_page_is_skipped_but_a_silent_first_page_is_an_error() -> None:
    async with handmade_site(lambda path, _: None if path == "/slow" else linking("/slow", "/b")) as web:
        result = await crawl(web.url(), web.authority, seconds=0.2)
        assert [page.url for page in result.pages] == [web.url("/"), web.url("/b")]
        assert "did not answer within 0.2 s" in result.skipped[0].reason
        with pytest.raises(PageUnavailable):
            await crawl(web.url("/slow"), web.authority, seconds=0.2)


async def test_a_page_that_stumbles_once_is_read_after_the_others() -> None:
    def answer(path: str, site: HandmadeSite) -> bytes:
        if path == "/robots.txt":
            return http(b"", status="404 Not Found")
        stumbling = path == "/a" and site.asked.count("/a") == 1
        return http(b"", status="503 Busy") if stumbling else linking("/a", "/b")

    async with handmade_site(answer) as web:
        result = await crawl(web.url(), web.authority)
    assert paths(result) == ["/", "/b", "/a"]
    assert result.skipped == []


@pytest.mark.parametrize("count", [1, 5])
async def test_a_site_that_dies_in_the_middle_makes_no_half_document(count: int) -> None:
    def answer(path: str, site: HandmadeSite) -> bytes:
        if len(site.asked) <= 2:
            found = linking(*(f"/{n}" for n in range(count)))
            return found if path == "/" else http(b"", status="404 Not Found")
        return b""

    async with handmade_site(answer) as web:
        with pytest.raises(PageUnavailable, match="the site stopped answering in the middle"):
            await crawl(web.url(), web.authority)


async def test_the_time_limit_keeps_what_was_read() -> None:
    async with handmade_site(pages({"/": linking("/a"), "/a": linking()})) as web:
        result = await crawl(web.url(), web.authority, CrawlLimits(seconds=0))
        assert [page.url for page in result.pages] == [web.url("/")]
        assert "time limit of 0 s" in result.skipped[0].reason


async def test_a_private_first_page_is_refused() -> None:
    with pytest.raises(AddressRefused, match="loopback"):
        await crawl("http://127.0.0.1:9/", "127.0.0.1:8")


def test_one_page_has_one_spelling() -> None:
    assert normal("HTTP://Example.COM:80#top") == "http://example.com/"
    assert normal("https://example.com.:8443/a?b=1#c") == "https://example.com:8443/a?b=1"
    assert normal("http://[::1]:80/a") == "http://[::1]/a"
    assert [folder(f"http://h{path}") for path in ("", "/a", "/a/", "/a/b.html")] == ["/", "/", "/a/", "/a/"]
