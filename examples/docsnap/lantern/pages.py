"""Reads the content files and builds the HTML pages of the site."""

import html
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from markdown_it import MarkdownIt
from markdown_it.token import Token

SECTIONS: Mapping[str, str] = {
    "start": "Getting started",
    "api": "API reference",
    "cookbook": "Cookbook",
    "operations": "Operations",
    "faq": "Questions",
}
_HEAD = re.compile(r"^=== (?P<slug>[a-z-]+) \| (?P<title>[^|]+) \| (?P<date>\d{4}-\d{2}-\d{2})$", re.MULTILINE)

STYLE = """
body{margin:0;font:17px/1.6 Georgia,serif;color:#222;background:#fffdf8}
header,footer{padding:1rem 2rem;background:#2b2440;color:#f4e9d0}header a,footer a{color:inherit;margin-right:1.2rem}
.columns{display:flex;flex-wrap:wrap;gap:2rem;max-width:68rem;margin:0 auto;padding:2rem}
aside{flex:0 0 13rem;font-size:.9em}aside ul{list-style:none;padding:0}main{flex:1 1 26rem;min-width:0}
pre{background:#f3eee2;padding:1rem;overflow:auto;font-size:.85em}code{font-family:ui-monospace,monospace}
table{border-collapse:collapse}td,th{border:1px solid #d9cfb8;padding:.3rem .7rem;text-align:left}
blockquote{margin-left:0;padding-left:1rem;border-left:4px solid #e0a526}
"""


@dataclass(frozen=True)
class Source:
    """One page as it was written."""

    section: str
    slug: str
    title: str
    date: str
    text: str

    @property
    def path(self) -> str:
        """Where the page is on the site."""
        return f"/{self.section}/" if self.slug == "index" else f"/{self.section}/{self.slug}"


def load_sources() -> list[Source]:
    """All pages, section by section, in the order of their files."""
    found = []
    for section in SECTIONS:
        text = files("docsnap.lantern").joinpath("content", f"{section}.md").read_text(encoding="utf-8")
        heads = list(_HEAD.finditer(text))
        ends = [head.start() for head in heads[1:]] + [len(text)]
        for head, end in zip(heads, ends, strict=True):
            found.append(Source(section, head["slug"], head["title"].strip(), head["date"], text[head.end() : end]))
    return found


def build_pages() -> dict[str, bytes]:
    """Path → HTML of the whole site, the home page included."""
    sources = load_sources()
    pages = {source.path: _page(source, sources) for source in sources}
    pages["/"] = _home(sources)
    return pages


def _page(source: Source, sources: list[Source]) -> bytes:
    siblings = "".join(
        f'<li><a href="{other.path}">{html.escape(other.title)}</a></li>'
        for other in sources
        if other.section == source.section and other.slug != "internal-notes"
    )
    body = f"""
<div class="columns">
<aside aria-label="Pages"><p>{SECTIONS[source.section]}</p><ul>{siblings}</ul></aside>
<main><article>
<h1>{html.escape(source.title)}</h1>
{_markdown(source.text)}
</article></main>
</div>"""
    return _frame(source.title, source.date, body)


def _home(sources: list[Source]) -> bytes:
    items = "".join(
        f'<li><a href="{source.path}">{html.escape(source.title)}</a></li>'
        for source in sources
        if source.slug == "index"
    )
    body = (
        '<div class="columns"><main><h1>Lantern</h1><p>Switch features on and off while your software runs. '
        f"This is the whole documentation, in five books.</p><ul>{items}</ul></main></div>"
    )
    return _frame("Lantern", "2026-11-18", body)


def _frame(title: str, date: str, body: str) -> bytes:
    top = "".join(f'<a href="/{section}/">{name}</a>' for section, name in SECTIONS.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="date" content="{date}">
<title>{html.escape(title)} · Lantern</title>
<style>{STYLE}</style>
</head>
<body>
<header><nav aria-label="Books"><a href="/">Lantern</a>{top}</nav></header>
{body}
<footer><p>Lantern is imaginary. Its handbook is read by crawlers, and by you. <a href="/">Home</a></p></footer>
</body>
</html>
""".encode()


def _markdown(text: str) -> str:
    reader = MarkdownIt("commonmark").enable("table")
    tokens = reader.parse(text)
    for opening, content in itertools.pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", _slug(content))
    return str(reader.renderer.render(tokens, reader.options, {}))


def _slug(content: Token) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", content.content.lower()))
