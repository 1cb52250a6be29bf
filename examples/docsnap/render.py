"""One Markdown document from the pages of a crawl: title, contents with working anchors, one section for each page."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import unquote, urldefrag

import lxml.etree

from docsnap.crawl import Crawled, normal
from docsnap.extract import Page, urlsplit_safely
from docsnap.markdown import MarkdownWriter, escaped, text_of

SECTION_LEVEL = 2
DEEPEST_LEVEL = 6
_WORD = re.compile(r"\w+(?:['\u2019.-]\w+)*")


@dataclass(frozen=True)
class Rendered:
    """A finished document."""

    title: str
    markdown: str
    pages: int
    words: int
    """Words of the pages, without the contents and the notes around them."""


@dataclass(frozen=True)
class _Heading:
    element: lxml.etree._Element
    text: str
    level: int
    anchor: str


@dataclass(frozen=True)
class _Section:
    page: Page
    anchor: str
    headings: list[_Heading]
    skip: lxml.etree._Element | None
    """The heading which repeats the title of the page."""


class Anchors:
    """Heading anchors as GitHub and most Markdown viewers make them: lower case, hyphens, a number for doubles."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def take(self, text: str) -> str:
        """The anchor of the next heading of the document, which has this text."""
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        anchor = slug
        number = 0
        while anchor in self._used:
            number += 1
            anchor = f"{slug}-{number}"
        self._used.add(anchor)
        return anchor


def render(crawled: Crawled, written: datetime) -> Rendered:
    """Write the document. The same pages and the same time give the same text."""
    pages = [page for page in crawled.pages if page.body is not None and len(text_of(page.body).strip()) > 0]
    title = pages[0].title if pages else crawled.start
    anchors = Anchors()
    anchors.take(title)
    anchors.take("Contents")
    sections = [_section(page, anchors) for page in pages]
    target = _link_target(sections, crawled.aliases)
    words = sum(_words(section.page) for section in sections)
    size = f"{_count(len(pages), 'page')} · {_count(words, 'word')}"
    about = f"*Source: {_reference(crawled.start)} · {size} · written {written:%Y-%m-%d %H:%M} UTC by DocSnap*"
    blocks = [f"# {escaped(title)}", about, "## Contents", "\n".join(_contents(sections))]
    for section in sections:
        blocks += ["---", *_write_section(section, target)]
    if crawled.skipped:
        notes = [f"- {_reference(skipped.url)}: {escaped(skipped.reason)}" for skipped in crawled.skipped]
        blocks += ["---", "## Pages not included", "\n".join(notes)]
    return Rendered(title, "\n\n".join(blocks) + "\n", len(pages), words)


def _section(page: Page, anchors: Anchors) -> _Section:
    own = anchors.take(page.title)
    heads = [] if page.body is None else [head for head in page.body.iter("head") if _plain(head)]
    skip = heads.pop(0) if heads and _plain(heads[0]).casefold() == page.title.casefold() else None
    levels = [_level(head) for head in heads]
    top = min(levels, default=1)
    headings = []
    for head, level in zip(heads, levels, strict=True):
        text = _plain(head)
        shifted = min(DEEPEST_LEVEL, SECTION_LEVEL + 1 + level - top)
        headings.append(_Heading(head, text, shifted, anchors.take(text)))
    return _Section(page, own, headings, skip)


def _contents(sections: list[_Section]) -> list[str]:
    lines = []
    for section in sections:
        lines.append(f"- [{escaped(section.page.title)}](#{section.anchor})")
        lines += [
            f"  - [{escaped(heading.text)}](#{heading.anchor})"
            for heading in section.headings
            if heading.level == SECTION_LEVEL + 1
        ]
    return lines


def _write_section(section: _Section, target: Callable[[str], str | None]) -> list[str]:
    levels = {heading.element: heading.level for heading in section.headings}

    def heading(element: lxml.etree._Element, text: str) -> str:
        level = levels.get(element)
        return f"{'#' * level} {text}" if level else ""

    page = section.page
    changed = f" · {page.date}" if page.date else ""
    blocks = [f"## {escaped(page.title)}", f"*{_reference(page.url)}{changed}*"]
    if page.body is not None:
        blocks.append(MarkdownWriter(target, heading).write(page.body))
    return blocks


def _link_target(sections: list[_Section], aliases: dict[str, str]) -> Callable[[str], str | None]:
    by_url = {section.page.url: section for section in sections}

    def target(address: str) -> str | None:
        if urlsplit_safely(address) not in ("http", "https", "mailto"):
            return None
        if address.startswith("mailto:"):
            return address
        url = normal(address)
        section = by_url.get(aliases.get(url, url))
        if section is None:
            return address
        wanted = section.page.headings.get(unquote(urldefrag(address).fragment), "")
        anchor = next((heading.anchor for heading in section.headings if heading.text == wanted), section.anchor)
        return f"#{anchor}"

    return target


def _level(head: lxml.etree._Element) -> int:
    found = re.fullmatch(r"h([1-6])", str(head.get("rend", "")))
    return int(found.group(1)) if found else SECTION_LEVEL


def _plain(element: lxml.etree._Element) -> str:
    return " ".join(text_of(element).split())


def _reference(url: str) -> str:
    return f"[{escaped(url)}]({url.translate({40: '%28', 41: '%29', 32: '%20', 60: '%3C', 62: '%3E'})})"


def _words(page: Page) -> int:
    return 0 if page.body is None else len(_WORD.findall(" ".join(map(str, page.body.itertext()))))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
