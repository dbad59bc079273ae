"""A page as a person reads it: text with its links, its colours, and its rows."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Final

#: Elements that begin a line, and with what.
_LINES: Final = {
    "h1": "# ", "h2": "## ", "p": "", "li": "- ", "dt": "", "tr": "| ", "caption": "", "form": "",
    "label": "", "button": "", "nav": "",
}  # fmt: skip
#: What is said before and after what an element holds.
_BEFORE: Final = {"code": "$ ", "option": " /", "time": " "}
_AFTER: Final = {"td": " | ", "th": " | ", "dt": ": "}


def lines_of(page: str) -> list[str]:
    """
    Return what `main` holds as lines.

    A link is `text <address>`, a coloured word `text (colour)`, a row `| cell | cell |`, an offered choice
    `/text`, the chosen one `/text*`, a field `[value]`, a command `$ text`.
    """
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return [" ".join(line.split()) for line in reader.lines if line.strip()]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = [""]
        self._inside = False
        self._item = False  # what stands in one is one line
        self._after: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside |= tag == "main"
        if not self._inside:
            return
        if tag in _LINES and not self._item:
            self.lines.append(_LINES[tag])
        self._item |= tag == "li"
        words = {name: value or "" for name, value in attrs}
        before, after = _said(tag, words)
        self._say(before)
        if tag != "input":
            self._after.append(after)

    def handle_endtag(self, tag: str) -> None:
        self._inside &= tag != "main"
        if self._inside:
            self._say(self._after.pop())
            self._item &= tag != "li"
            if tag in _LINES and tag != "dt" and not self._item:
                self.lines.append("")
            elif tag == "p":
                self._say(" ")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self._say(data)

    def _say(self, text: str) -> None:
        self.lines[-1] += text


def _said(tag: str, words: dict[str, str]) -> tuple[str, str]:
    """What the attributes of an element say, before and after what it holds."""
    kind = words.get("class", "")
    before, after = _BEFORE.get(tag, ""), _AFTER.get(tag, "")
    match tag:
        case "a":
            after = f" <{words['href']}> "
        case "span":
            before, after = " ", f" ({kind.removeprefix('badge ')})" if " " in kind else ""
        case "li" if kind:
            before = f"({kind}) "
        case "nav":
            before = f"{words['aria-label']}: "
        case "input":
            before = f" [{words['value']}]"
        case "option" if "selected" in words:
            after = "*"
    return before, after
