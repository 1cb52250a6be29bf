"""From HTML to the part of a page that is worth reading. Trafilatura finds it; this file feeds it well."""

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import lxml.etree
import lxml.html
import trafilatura

_LANGUAGE = re.compile(r"(?:^|\s)(?:language|lang|highlight|highlight-source|brush:)-?\s*([A-Za-z][\w+#-]{0,30})")
_NOT_A_LANGUAGE = frozenset({"default", "none", "notranslate", "plaintext", "text", "nohighlight"})
_PERMALINK_CLASSES = frozenset({"headerlink", "anchor", "hash-link", "permalink", "toc-anchor"})
_PERMALINK_TEXTS = frozenset({"¶", "#", "§", "🔗", ""})
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


@dataclass(frozen=True)
class Page:
    """The readable content of one page."""

    url: str
    title: str
    date: str | None
    """Day of publication or last change, as YYYY-MM-DD, when the page tells it."""
    body: lxml.etree._Element | None
    """The content as trafilatura's tree (head, p, list, code, table, quote), or None if nothing was found."""
    headings: dict[str, str] = field(default_factory=dict)
    """Fragment id → text of the heading it points to."""


def read_page(html: str, url: str) -> Page:
    """Extract the content of a page. A page without any is no error: it may still lead to others."""
    tree = _parsed(html)
    if tree is None:
        return Page(url, _title_from_url(url), None, None)
    _make_absolute(tree, url)
    _simplify_code(tree)
    _drop_permalinks(tree)
    headings = _heading_ids(tree)
    first = next((text for element in tree.iter("h1") if (text := _text(element))), "")
    named = _text(tree.find(".//title"))
    document = trafilatura.bare_extraction(
        tree,
        url=url,
        include_links=True,
        include_tables=True,
        include_formatting=True,
        include_comments=False,
        favor_recall=True,
        with_metadata=True,
    )
    if document is None or isinstance(document, dict):
        return Page(url, first or named or _title_from_url(url), None, None, headings)
    title = first or document.title or named or _title_from_url(url)
    return Page(url, " ".join(title.split()), document.date, document.body, headings)


def links(html: str, url: str) -> list[str]:
    """The addresses a page links to, in the order of the page, each once."""
    tree = _parsed(html)
    if tree is None:
        return []
    _make_absolute(tree, url)
    found = (str(element.get("href", "")).strip() for element in tree.iter("a"))
    return list(dict.fromkeys(href for href in found if urlsplit_safely(href) in ("http", "https")))


def urlsplit_safely(address: str) -> str:
    """The scheme of an address, or nothing when it is too broken to have one."""
    try:
        return urlsplit(address).scheme
    except ValueError:
        return ""


def _parsed(html: str) -> lxml.html.HtmlElement | None:
    parser = lxml.html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
    try:
        return lxml.html.document_fromstring(html.encode("utf-8", errors="replace"), parser=parser)
    except lxml.etree.ParserError:  # an empty page
        return None


def _make_absolute(tree: lxml.html.HtmlElement, url: str) -> None:
    tree.make_links_absolute(url, resolve_base_href=True, handle_failures="ignore")


def _simplify_code(tree: lxml.html.HtmlElement) -> None:
    """Turn every kind of highlighted code into the one form that survives extraction with its line breaks."""
    for block in list(tree.iter("pre")):
        text = _code_text(block)
        language = _language(block)
        tail = block.tail
        block.clear()
        block.tail = tail
        code = lxml.html.Element("code")
        if language:
            code.set("class", f"language-{language}")
        code.text = text
        block.append(code)


def _code_text(block: lxml.html.HtmlElement) -> str:
    for line_break in list(block.iter("br")):
        line_break.tail = "\n" + (line_break.tail or "")
    return str(block.text_content()).strip("\n")


def _language(block: lxml.html.HtmlElement) -> str:
    nearby = [*block.iter("code"), block, *list(block.iterancestors("div"))[:2]]
    for element in nearby:
        found = _LANGUAGE.search(str(element.get("class", "")))
        if found and found.group(1).lower() not in _NOT_A_LANGUAGE:
            return found.group(1).lower()
    return ""


def _drop_permalinks(tree: lxml.html.HtmlElement) -> None:
    for heading in tree.iter(*_HEADINGS):
        for link in list(heading.iter("a")):
            classes = frozenset(str(link.get("class", "")).split())
            if _text(link) in _PERMALINK_TEXTS or (classes & _PERMALINK_CLASSES and len(_text(link)) <= 2):
                link.drop_tree()


def _heading_ids(tree: lxml.html.HtmlElement) -> dict[str, str]:
    found: dict[str, str] = {}
    for heading in tree.iter(*_HEADINGS):
        text = _text(heading)
        parent = heading.getparent()
        ids = [heading.get("id"), *(inner.get("id") or inner.get("name") for inner in heading.iter("a", "span"))]
        if parent is not None and parent.tag in ("section", "div") and parent.index(heading) == 0:
            ids.append(parent.get("id"))
        for name in ids:
            if name and text:
                found.setdefault(str(name), text)
    return found


def _text(element: lxml.html.HtmlElement | None) -> str:
    return "" if element is None else " ".join(str(element.text_content()).split())


def _title_from_url(url: str) -> str:
    parts = urlsplit(url)
    last = parts.path.rstrip("/").rpartition("/")[2]
    return last.replace("-", " ").replace("_", " ").strip().capitalize() or parts.netloc
