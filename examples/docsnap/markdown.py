"""Writes trafilatura's content tree as CommonMark with tables."""

import re
from collections.abc import Callable, Iterator

import lxml.etree

Element = lxml.etree._Element
LinkTarget = Callable[[str], str | None]
"""Maps the address of a link to what the document should link to, or None for plain text."""

_SPECIAL = re.compile(r"[\\`*\[\]<>~]")
_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_ENTITY = re.compile(r"&(?=#?\w{1,31};)")
_LINE_START = re.compile(r"^(\s*)([#+=-]|\d{1,9}[.)])(?=\s|$|[#+=-])")
_BACKTICKS = re.compile(r"`+")
_BLOCKS = frozenset({"p", "head", "list", "table", "quote", "code"})
_URL_ESCAPES = str.maketrans({"(": "%28", ")": "%29", " ": "%20", "<": "%3C", ">": "%3E", "\\": "%5C", "\n": ""})


class MarkdownWriter:
    """Writes blocks; asks `target` where each link leads and `heading` how to write a heading."""

    def __init__(self, target: LinkTarget, heading: Callable[[Element, str], str]) -> None:
        self._target = target
        self._heading = heading

    def write(self, element: Element) -> str:
        """The children of `element` as Markdown blocks, separated by blank lines."""
        return "\n\n".join(self._blocks(element))

    def _blocks(self, element: Element) -> Iterator[str]:
        run: list[str] = [escaped(element.text or "")]
        for child in element:
            if is_block(child):
                yield from _paragraph(run)
                run = [escaped(child.tail or "")]
                block = self._block(child)
                if block:
                    yield block
            else:
                run.append(self._inline(child))
                run.append(escaped(child.tail or ""))
        yield from _paragraph(run)

    def _block(self, element: Element) -> str:
        match element.tag:
            case "head":
                return self._heading(element, " ".join(self._run(element).replace("\\\n", " ").split()))
            case "list":
                return self._list(element)
            case "table":
                return self._table(element)
            case "quote":
                return "\n".join(f"> {line}".rstrip() for line in self.write(element).splitlines())
            case "code":
                return code_block(element)
            case _:
                return self.write(element)

    def _list(self, element: Element) -> str:
        items = []
        loose = False
        for number, item in enumerate(element.iterchildren("item", "list"), start=1):
            kind = str(item.get("rend", ""))
            blocks = [self._list(item)] if item.tag == "list" else list(self._blocks(item))
            if not blocks:
                continue
            if kind.startswith("dt"):
                blocks[0] = f"**{blocks[0]}**"
            marker = f"{number}. " if element.get("rend") == "ol" else "- "
            tight = len(blocks) == 1 or (len(blocks) == 2 and _is_list(blocks[1]))
            loose = loose or not tight
            lines = ("\n" if tight else "\n\n").join(blocks).splitlines()
            rest = [f"{' ' * len(marker)}{line}".rstrip() for line in lines[1:]]
            items.append("\n".join([marker + lines[0], *rest]))
        return ("\n\n" if loose else "\n").join(items)

    def _table(self, element: Element) -> str:
        rows = [[self._cell(cell) for cell in row.iter("cell")] for row in element.iter("row")]
        rows = [row for row in rows if any(row)]
        if not rows:
            return ""
        width = max(map(len, rows))
        first = next(element.iter("row"))
        has_head = any(cell.get("role") == "head" for cell in first.iter("cell"))
        head = rows.pop(0) if has_head else [""] * width
        lines = [head, ["---"] * width, *rows]
        return "\n".join(f"| {' | '.join([*line, *[''] * (width - len(line))])} |" for line in lines)

    def _cell(self, cell: Element) -> str:
        text = " ".join(self._run(cell).replace("\\\n", " ").split())
        return text.replace("|", "\\|")

    def _run(self, element: Element) -> str:
        pieces = [escaped(element.text or "")]
        for child in element:
            pieces += [self._inline(child), escaped(child.tail or "")]
        return "".join(pieces)

    def _inline(self, element: Element) -> str:
        match element.tag:
            case "code":
                return code_span(text_of(element))
            case "lb":
                return "\\\n"
            case "graphic":
                return ""
            case "hi":
                return self._emphasis(element)
            case "ref":
                return self._link(element)
            case "del":
                return _around("~~", self._run(element))
            case "p" | "item" | "head" | "cell" | "row":
                return f" {self._run(element)} "
            case _:
                return self._run(element)

    def _emphasis(self, element: Element) -> str:
        match element.get("rend"):
            case "#b":
                return _around("**", self._run(element))
            case "#i":
                return _around("*", self._run(element))
            case "#t":
                return code_span(text_of(element))
            case _:
                return self._run(element)

    def _link(self, element: Element) -> str:
        text = " ".join(self._run(element).split())
        target = self._target(str(element.get("target", "")))
        if not target or not text:
            return text
        return f"[{text}]({target.translate(_URL_ESCAPES)})"


def is_block(element: Element) -> bool:
    """Whether an element stands on its own lines. Code is a block when it has lines or was one in the page."""
    if element.tag != "code":
        return element.tag in _BLOCKS
    return len(element) > 0 or element.get("class") is not None or "\n" in (element.text or "")


def code_block(element: Element) -> str:
    """A fenced block; the fence is longer than any run of backticks inside."""
    inner = next(element.iter("code"), element)
    nested = next((child for child in element.iterchildren("code")), inner)
    language = str(nested.get("class") or "").removeprefix("language-")
    text = "".join(_code_pieces(element)).strip("\n")
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def code_span(text: str) -> str:
    """Inline code on one line."""
    text = " ".join(text.split())
    if not text:
        return ""
    fence = "`" * (_longest_run(text) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def escaped(text: str) -> str:
    """Plain text that stays plain text, with white space collapsed as a browser does."""
    text = re.sub(r"\s+", " ", text)
    text = _SPECIAL.sub(lambda found: "\\" + found.group(), text)
    text = _UNDERSCORE.sub(r"\\_", text)
    return _ENTITY.sub(r"\\&", text)


def text_of(element: Element) -> str:
    """All text inside an element, without marks."""
    return "".join(str(piece) for piece in element.itertext())


def _code_pieces(element: Element) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        yield "\n" if child.tag == "lb" else "".join(_code_pieces(child))
        yield child.tail or ""


def _paragraph(run: list[str]) -> Iterator[str]:
    lines = [re.sub(r" +", " ", line).strip() for line in "".join(run).strip().split("\n")]
    text = "\n".join(lines).strip("\\\n ") if lines[-1].endswith("\\") else "\n".join(lines).strip()
    if text:
        yield "\n".join(_LINE_START.sub(_escape_start, line) for line in text.split("\n"))


def _escape_start(found: re.Match[str]) -> str:
    mark = found.group(2)
    return f"{found.group(1)}{mark[:-1]}\\{mark[-1]}"


def _around(mark: str, text: str) -> str:
    inner = text.strip()
    if not inner:
        return text
    before = " " if text[0].isspace() else ""
    after = " " if text[-1].isspace() else ""
    return f"{before}{mark}{inner}{mark}{after}"


def _is_list(block: str) -> bool:
    return block.startswith("- ") or bool(re.match(r"\d+\. ", block))


def _longest_run(text: str) -> int:
    return max((len(found) for found in _BACKTICKS.findall(text)), default=0)
