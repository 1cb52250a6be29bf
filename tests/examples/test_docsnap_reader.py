"""A document as HTML: nothing of the crawled site can act in the reader's browser, and anchors work."""

import re

from docsnap.html import article, page


def test_markup_of_the_site_is_shown_and_not_run() -> None:
    html = article(
        "<script>alert(1)</script>\n\n<img src=x onerror=alert(1)> and <b>bold</b>\n\n[x](javascript:alert(1))"
    )
    assert "<script" not in html
    assert "<img" not in html
    assert "<b>" not in html
    assert 'href="javascript' not in html
    assert "&lt;script&gt;" in html


def test_pictures_are_not_loaded_from_elsewhere() -> None:
    assert "<img" not in article("![spy](http://tracker.example/pixel.png)")


def test_every_anchor_has_a_heading_and_cannot_clash_with_the_page() -> None:
    html = article("# Form\n\n- [Form](#form)\n- [Use `it`](#use-it)\n- [Form](#form-1)\n\n## Use `it`\n\n## Form\n")
    targets = re.findall(r'href="#([^"]+)"', html)
    assert targets == ["s-form", "s-use-it", "s-form-1"]
    assert set(targets) <= set(re.findall(r'id="([^"]+)"', html))


def test_links_leave_without_telling_where_they_came_from() -> None:
    html = article("[out](https://example.com/)")
    assert 'rel="noopener noreferrer nofollow"' in html
    assert 'target="_blank"' in html


def test_tables_and_code_are_kept_and_titles_are_escaped() -> None:
    html = page("| a | b |\n| --- | --- |\n| 1 | 2 |\n\n```python\nx = 1 < 2\n```", "A <b> title")
    assert "<td>1</td>" in html
    assert 'class="language-python">x = 1 &lt; 2' in html
    assert "<title>A &lt;b&gt; title</title>" in html
