"""Extraction and rendering: structure is kept, text stays text, every anchor leads somewhere."""

import re
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from docsnap.addresses import GuardedBackend
from docsnap.crawl import Crawled, CrawlLimits, Skipped
from docsnap.errors import PageUnusable
from docsnap.extract import Page, links, read_page
from docsnap.lantern.server import Pace, lantern_site
from docsnap.pipeline import Pipeline
from docsnap.render import Anchors, Rendered, render
from docsnap.report import DocumentStore
from tests.examples.docsnap_web import handmade_site, http

WRITTEN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
URL = "http://h.example/docs/guide"
SENTENCE = "The quick reader skips nothing that was worth the writing, and keeps the rest for later. "


def page(main: str, url: str = URL, title: str = "Guide") -> Page:
    return read_page(
        f"<html><head><title>{title}</title></head><body><nav><a href='/'>Home</a></nav>"
        f"<main><article><h1>{title}</h1><p>{SENTENCE * 3}</p>{main}</article></main></body></html>",
        url,
    )


def document(*found: Page, skipped: list[Skipped] | None = None, aliases: dict[str, str] | None = None) -> Rendered:
    return render(Crawled("http://h.example/docs/", list(found), skipped or [], aliases or {}), WRITTEN)


def body(main: str) -> str:
    """The Markdown of one page's content, after its first paragraph."""
    return document(page(main)).markdown.partition(SENTENCE.strip() + "\n\n")[2].strip()


def anchors_of(markdown: str) -> set[str]:
    """What a Markdown viewer would generate, found by a real parser."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    anchors = Anchors()
    found = set()
    for opening, content in pairwise(tokens):
        if opening.type == "heading_open":
            text = "".join(child.content for child in content.children or () if child.type in ("text", "code_inline"))
            found.add(anchors.take(text))
    return found


def fragments(markdown: str) -> list[str]:
    return re.findall(r"\]\(#([^)]+)\)", markdown)


def test_a_whole_document() -> None:
    result = document(page("<h2>First step</h2><p>Do it well.</p>"), skipped=[Skipped("http://h.example/x", "gone")])
    assert result.markdown == (
        "# Guide\n\n"
        "*Source: [http://h.example/docs/](http://h.example/docs/) · 1 page · 54 words · "
        "written 2026-01-02 03:04 UTC by DocSnap*\n\n"
        "## Contents\n\n- [Guide](#guide-1)\n  - [First step](#first-step)\n\n---\n\n"
        "## Guide\n\n*[http://h.example/docs/guide](http://h.example/docs/guide)*\n\n"
        f"{(SENTENCE * 3).strip()}\n\n### First step\n\nDo it well.\n\n---\n\n"
        "## Pages not included\n\n- [http://h.example/x](http://h.example/x): gone\n"
    )


@pytest.mark.parametrize(
    ("html", "markdown"),
    [
        ("<p>a <b>bold</b> and <i>thin</i> <code>word</code></p>", "a **bold** and *thin* `word`"),
        ("<ul><li>one</li><li>two<ul><li>deep</li></ul></li></ul>", "- one\n- two\n  - deep"),
        ("<ol><li>one</li><li>two</li></ol>", "1. one\n2. two"),
        (
            '<pre><code class="language-python">def f():\n    return 1\n\n# *end*</code></pre>',
            "```python\ndef f():\n    return 1\n\n# *end*\n```",
        ),
        ("<pre>plain\n  two</pre>", "```\nplain\n  two\n```"),
        (
            '<div class="highlight-toml"><div class="highlight"><pre><span>a</span> = <span>1</span></pre></div></div>',
            "```toml\na = 1\n```",
        ),
        ("<pre>a\n```\nb</pre>", "````\na\n```\nb\n````"),
        (
            "<table><tr><th>Key</th><th>Use</th></tr><tr><td>a|b</td><td><code>x</code></td></tr></table>",
            "| Key | Use |\n| --- | --- |\n| a\\|b | `x` |",
        ),
        ("<blockquote><p>wise</p></blockquote>", "> wise"),
        ("<p>1 * 2 _x_ snake_case [a](b) &lt;i&gt;</p>", "1 \\* 2 \\_x\\_ snake_case \\[a\\](b) \\<i\\>"),
        ("<p># no heading</p>", "\\# no heading"),
        ("<p>2026. A year</p>", "2026\\. A year"),
        ("<p>&amp;copy; stays</p>", "\\&copy; stays"),
        ('<p>see <a href="other?a=(1)">that</a> now</p>', "see [that](http://h.example/docs/other?a=%281%29) now"),
        ('<p>do not <a href="javascript:alert(1)">press</a> it</p>', "do not press it"),
    ],
)
def test_content_keeps_its_structure(html: str, markdown: str) -> None:
    assert body(html) == markdown


def test_text_that_looks_like_markup_stays_text() -> None:
    nasty = "<script>alert(1)</script> **not bold** [x](javascript:1) ![i](http://t.example/) `code` &lt; ~~gone~~"
    escaped_html = nasty.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    html = MarkdownIt("commonmark", {"html": True}).enable("strikethrough").render(body(f"<p>{escaped_html}</p>"))
    assert html == f"<p>{escaped_html}</p>\n"


def test_links_between_pages_become_anchors() -> None:
    start = page(
        '<p>When you are ready, go to <a href="b#steps">the steps</a> or to the whole <a href="b">other page</a>; '
        'an <a href="old">old link</a> leads there too, and <a href="http://far.example/">this one</a> away.</p>'
    )
    other = page('<h2 id="steps">The steps</h2><p>One.</p>', "http://h.example/docs/b", "Other")
    aliases = {"http://h.example/docs/old": "http://h.example/docs/b"}
    markdown = document(start, other, aliases=aliases).markdown
    assert "[the steps](#the-steps) or to the whole [other page](#other)" in markdown
    assert "an [old link](#other) leads there too, and [this one](http://far.example/) away." in markdown


def test_equal_headings_get_different_anchors_that_all_resolve() -> None:
    found = [page("<h2>Use it when</h2><p>x</p><h2>Use it when</h2><p>y</p>", f"{URL}{n}", "Recipe") for n in range(3)]
    markdown = document(*found).markdown
    assert len(set(fragments(markdown))) == len(fragments(markdown)) == 9
    assert set(fragments(markdown)) <= anchors_of(markdown)


def test_permalink_marks_and_empty_pages_do_no_harm() -> None:
    sphinx = page('<section id="set-up"><h2>Set up<a class="headerlink" href="#set-up">¶</a></h2><p>x</p></section>')
    assert sphinx.headings == {"set-up": "Set up"}
    empty = read_page("", "http://h.example/some-page")
    assert (empty.title, empty.body, links("", URL)) == ("Some page", None, [])


async def test_every_anchor_of_the_demo_documents_resolves(tmp_path: Path) -> None:
    store = DocumentStore(tmp_path)
    percents: list[int] = []

    async def progress(percent: int, message: str) -> None:
        percents.append(percent)

    async def log(line: str) -> None:
        assert line

    with lantern_site(pace=Pace(0, 0)) as site:
        pipeline = Pipeline(store, GuardedBackend({site.authority}), now=lambda: WRITTEN)
        for number, url in enumerate(site.urls):
            percents.clear()
            report = await pipeline.run(f"j{number}", url, CrawlLimits(), progress, log)
            # S0-07: the bar of every job moves, forward only, to its end.
            assert percents == sorted(percents)
            assert (percents[0], percents[-1]) == (0, 100)
            assert len(percents) == report.pages + 3
            markdown = store.read(f"j{number}")
            assert markdown is not None
            assert report.bytes == len(markdown.encode())
            assert report.words > 600
            assert len(fragments(markdown)) > 20
            assert set(fragments(markdown)) <= anchors_of(markdown)
            assert "Lantern is imaginary" not in markdown, "the footer of the site is no content"


async def test_a_second_run_replaces_the_document_and_leaves_nothing_else(tmp_path: Path) -> None:
    store = DocumentStore(tmp_path / "deep" / "documents")
    store.write("j1", "first")
    assert store.write("j1", "segundo ñ") == ("j1.md", 10)
    assert [entry.name for entry in (tmp_path / "deep" / "documents").iterdir()] == ["j1.md"]
    assert (store.read("j1"), store.read("j2")) == ("segundo ñ", None)


@pytest.mark.parametrize("name", ["../escape", "", ".hidden", "a/b", "a\x00b"])
def test_file_names_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="expected a job id"):
        DocumentStore(tmp_path).write(name, "x")


async def test_a_site_without_text_is_an_error_with_a_reason(tmp_path: Path) -> None:
    store = DocumentStore(tmp_path)

    async def ignore(*values: object) -> None:
        pass

    async with handmade_site(lambda path, site: http(b"<div id=app></div>")) as web:
        pipeline = Pipeline(store, GuardedBackend({web.authority}))
        with pytest.raises(PageUnusable, match="has no readable text"):
            await pipeline.run("j1", web.url(), CrawlLimits(), ignore, ignore)
    assert store.read("j1") is None
