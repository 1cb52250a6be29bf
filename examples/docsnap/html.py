"""A document as HTML: no markup of the crawled site survives, because the Markdown reader has HTML switched off."""

import html
from collections.abc import Sequence
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

from docsnap.render import Anchors

ANCHOR_PREFIX = "s-"
"""Keeps the headings of a crawled site apart from the ids of our own page."""


def article(markdown: str) -> str:
    """The document as an `article` element. Pictures are left out; links leave without telling where they came from."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image"])
    tokens = reader.parse(markdown)
    anchors = Anchors()
    for opening, content in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", ANCHOR_PREFIX + anchors.take(_plain(content)))
    for token in tokens:
        _point_links(token.children or ())
    return f"<article>{reader.renderer.render(tokens, reader.options, {})}</article>"


def page(markdown: str, title: str) -> str:
    """The document as a whole page, to be opened alone."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="stylesheet" href="/static/style.css"></head>'
        f'<body><main class="document">{article(markdown)}</main></body></html>'
    )


def _plain(content: Token) -> str:
    return "".join(child.content for child in content.children or () if child.type in ("text", "code_inline"))


def _point_links(children: Sequence[Token]) -> None:
    for child in children:
        if child.type != "link_open":
            continue
        target = str(child.attrGet("href") or "")
        if target.startswith("#"):
            child.attrSet("href", f"#{ANCHOR_PREFIX}{target[1:]}")
        else:
            child.attrSet("rel", "noopener noreferrer nofollow")
            child.attrSet("target", "_blank")
