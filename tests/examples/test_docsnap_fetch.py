"""One page: limits on time, size, redirects and type, and errors that say whether another attempt helps."""

import gzip

import pytest

from docsnap.addresses import GuardedBackend
from docsnap.errors import AddressRefused, CrawlError, PageUnavailable, PageUnusable
from docsnap.fetch import Fetched, Fetcher, FetchLimits
from tests.examples.docsnap_web import HandmadeSite, handmade_site, http


async def fetch(answer: bytes | None, limits: FetchLimits | None = None) -> Fetched:
    async with (
        handmade_site(lambda path, site: answer) as site,
        Fetcher(GuardedBackend({site.authority}), limits) as fetcher,
    ):
        return await fetcher.get(site.url())


async def test_a_page_is_read() -> None:
    page = await fetch(http("<p>Grüße</p>".encode("latin-1"), content_type="text/html; charset=iso-8859-1"))
    assert (page.text(), page.content_type) == ("<p>Grüße</p>", "text/html")


@pytest.mark.parametrize(
    ("header", "body", "text"),
    [
        (None, '<meta charset="iso-8859-15">é€'.encode("iso-8859-15"), "é€"),
        (None, "é".encode(), "é"),
        ("no-such-charset", "é".encode(), "é"),
        ("utf-8", b"\xff", "\ufffd"),
    ],
)
def test_text_is_decoded_by_header_then_page_then_utf8(header: str | None, body: bytes, text: str) -> None:
    assert Fetched("http://x/", "text/html", body, header).text().endswith(text)


async def test_compressed_pages_are_read() -> None:
    page = await fetch(http(gzip.compress(b"<p>small</p>"), "Content-Encoding: gzip"))
    assert page.body == b"<p>small</p>"


@pytest.mark.parametrize("compressed", [True, False])
async def test_a_page_above_the_size_limit_is_refused(compressed: bool) -> None:
    body = b"x" * 5_000_000
    answer = http(gzip.compress(body), "Content-Encoding: gzip") if compressed else http(body)
    with pytest.raises(PageUnusable, match="larger than 1,000 bytes"):
        await fetch(answer, FetchLimits(bytes=1000))


async def test_an_encoding_nobody_asked_for_is_refused() -> None:
    with pytest.raises(PageUnusable, match="encoded as br"):
        await fetch(http(b"?", "Content-Encoding: br"))


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (http(b"%PDF", content_type="application/pdf"), PageUnusable, "is application/pdf, expected an HTML page"),
        (http(b"no", status="404 Not Found"), PageUnusable, "answered 404"),
        (http(b"no", status="403 Forbidden"), PageUnusable, "answered 403"),
        (http(b"busy", status="503 Service Unavailable"), PageUnavailable, "answered 503"),
        (http(b"slow down", status="429 Too Many Requests"), PageUnavailable, "answered 429"),
        (http(b"broken", "Content-Encoding: gzip"), PageUnavailable, "broken gzip"),
        (b"this is not http\r\n\r\n", PageUnavailable, "could not be read"),
        (b"", PageUnavailable, "could not be read"),
    ],
)
async def test_errors_tell_passing_from_lasting(answer: bytes, kind: type[CrawlError], words: str) -> None:
    # S1-19: what passes is tried again, what does not is not.
    with pytest.raises(kind, match=words) as caught:
        await fetch(answer)
    assert caught.value.retryable is (kind is PageUnavailable)


async def test_silence_ends_with_the_time_limit() -> None:
    with pytest.raises(PageUnavailable, match=r"did not answer within 0\.05 s"):
        await fetch(None, FetchLimits(seconds=0.05))


async def test_nobody_listening_is_a_passing_error() -> None:
    async with handmade_site(lambda path, site: None) as site:
        gone = site.authority
    async with Fetcher(GuardedBackend({gone})) as fetcher:
        with pytest.raises(PageUnavailable, match="could not be read"):
            await fetcher.get(f"http://{gone}/")


async def test_redirects_are_followed_and_counted() -> None:
    def answer(path: str, site: HandmadeSite) -> bytes:
        step = int(path.strip("/") or 0)
        return http(b"", f"Location: /{step + 1}", status="302 Found") if step < 3 else http(b"<p>there</p>")

    async with handmade_site(answer) as site, Fetcher(GuardedBackend({site.authority})) as fetcher:
        assert (await fetcher.get(site.url())).url == site.url("/3")
        async with Fetcher(GuardedBackend({site.authority}), FetchLimits(redirects=2)) as impatient:
            with pytest.raises(PageUnusable, match="redirects more than 2 times"):
                await impatient.get(site.url())


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1:1/", "http://10.0.0.1/", "http://169.254.169.254/latest/", "http://[::1]/", "//0/"]
)
async def test_a_redirect_into_the_network_is_refused(target: str) -> None:
    async with (
        handmade_site(lambda path, site: http(b"", f"Location: {target}", status="302 Found")) as site,
        Fetcher(GuardedBackend({site.authority})) as fetcher,
    ):
        with pytest.raises(AddressRefused):
            await fetcher.get(site.url())


@pytest.mark.parametrize("url", ["ftp://example.com/", "file:///etc/passwd", "/relative", "http://", "javascript:1"])
async def test_other_schemes_are_refused(url: str) -> None:
    async with Fetcher(GuardedBackend()) as fetcher:
        with pytest.raises(PageUnusable, match="expected an http or https address"):
            await fetcher.get(url)


async def test_a_redirect_to_a_file_is_refused() -> None:
    with pytest.raises(PageUnusable, match="expected an http or https address"):
        await fetch(http(b"", "Location: file:///etc/passwd", status="302 Found"))


async def test_passwords_in_addresses_are_refused_and_not_repeated() -> None:
    async with Fetcher(GuardedBackend()) as fetcher:
        with pytest.raises(PageUnusable) as caught:
            await fetcher.get("http://user:hunter2@example.com/")
    assert "hunter2" not in str(caught.value)


async def test_a_proxy_from_the_environment_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert (await fetch(http(b"<p>direct</p>"))).body == b"<p>direct</p>"
