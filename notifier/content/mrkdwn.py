"""
Markdown to Slack's mrkdwn.

The order matters: code is set aside first, so that nothing inside it is read as markup; then the three
characters that Slack reserves are escaped; then images, links, bold, strike-through, headings and bare URLs
are converted, the last because `verbatim` tells Slack to look for none; finally the code is put back. Code
is escaped as well, since Slack would read `<!channel>` in it as a mention. For the same reason only http,
https and mailto become links: `[hi](!channel)` would be a mention too.

Patterns are linear on any input: a repetition never runs over the start of the next candidate.
"""

from __future__ import annotations

import re
from typing import Final

from notifier.templates.places import escape_mrkdwn, is_link
from notifier.templates.text import utf16

#: Placeholder for a piece of code that was set aside; no text contains NUL, because it is replaced first.
_HOLE: Final = "\0"

_FENCED: Final = re.compile(r"```(?>(?:[^`]|`(?!``))*)```")
#: Never contains a placeholder, so that each piece is put back once.
_INLINE: Final = re.compile(rf"`[^`\n{_HOLE}]++`")
_URL: Final = r"([^()\s]*+(?>(?:\([^()\s]*+\)[^()\s]*+)*))"
_IMAGE: Final = re.compile(rf"!\[([^\[\]]*+)\]\({_URL}\)")
_LINK: Final = re.compile(rf"\[([^\[\]]++)\]\({_URL}\)")
#: A bare URL, without punctuation or a bracket at its end.
_BARE: Final = re.compile(
    r"""(?<![<|\w^])https?://(?:[^\s<>|`*"'&]|&amp;)*[^\s<>|`*"'&.,;:!?()\[\]{}~_]""", re.IGNORECASE
)
_BOLD: Final = re.compile(r"\*\*((?>(?:[^*\n]|\*(?!\*))+))\*\*")
_BOLD_LINES: Final = re.compile(r"(?<!\w)__((?>(?:[^_\n]|_(?!_))+))__(?!\w)")
_STRIKE: Final = re.compile(r"~~((?>(?:[^~\n]|~(?!~))+))~~")
_HEADING: Final = re.compile(r"^#{1,6}[ \t]++([^\n]++)$", re.MULTILINE)
_QUOTE: Final = re.compile(r"^&gt;", re.MULTILINE)
_LANGUAGE: Final = re.compile(r"[\w+#.-]*+[ \t]*+\n")
_BLANK_LINES: Final = re.compile(r"\n{3,}+")

FENCE: Final = "```"
#: Appended to a text that was cut.
CUT: Final = "\n… (truncated)"
#: Three backticks that Slack does not take for a fence.
_BROKEN_FENCE: Final = "`\u200b`\u200b`"


def to_mrkdwn(text: str) -> str:
    """
    Convert a text; plain words stay unchanged, `&`, `<` and `>` are escaped.

    A `>` at the start of a line stays, because it marks a quote in both languages.
    """
    aside: list[str] = []

    def set_aside(match: re.Match[str]) -> str:
        aside.append(match.group())
        return f"{_HOLE}{len(aside) - 1}{_HOLE}"

    text = text.replace("\r\n", "\n").replace(_HOLE, "\ufffd")
    text = _INLINE.sub(set_aside, _FENCED.sub(set_aside, text))
    text = _QUOTE.sub(">", escape_mrkdwn(text))
    text = _IMAGE.sub(_link, text)
    text = _LINK.sub(_link, text)
    text = _BOLD_LINES.sub(r"*\1*", _BOLD.sub(r"*\1*", text))
    text = _STRIKE.sub(r"~\1~", text)
    text = _HEADING.sub(_heading, text)
    text = _BARE.sub(
        lambda match: f"<{match.group()}>" if is_link(match.group()) else match.group(), text
    )
    pieces = text.split(_HOLE)
    text = "".join(_code(aside[int(piece)]) if n % 2 else piece for n, piece in enumerate(pieces))
    if text.count(FENCE) % 2:
        head, _, tail = text.rpartition(FENCE)
        text = f"{head}{_BROKEN_FENCE}{tail}"
    return _BLANK_LINES.sub("\n\n", text)


def shorten(text: str, limit: int, mark: str = CUT) -> str:
    """
    Cut mrkdwn to a number of UTF-16 units, with a visible mark.

    No entity, link or character is cut in two, and an open code block is closed.
    """
    if utf16(text) <= limit:
        return text
    closing = f"\n{FENCE}"
    head = _head(text, limit - utf16(mark) - utf16(closing))
    entity = head.rfind("&", len(head) - 6 if len(head) > 6 else 0)
    if entity >= 0 and ";" not in head[entity:]:
        head = head[:entity]
    link = head.rfind("<")
    if link > head.rfind(">"):
        head = head[:link]
    head = head.rstrip("`")
    if head.count(FENCE) % 2:
        return f"{head}{closing}{mark}"
    return f"{head}{mark}"


def shorten_plain(text: str, limit: int) -> str:
    """Cut a plain text to a number of UTF-16 units, at a code point, with a visible mark."""
    if utf16(text) <= limit:
        return text
    return _head(text, limit - 1) + "…"


def _link(match: re.Match[str]) -> str:
    label, url = match.group(1), match.group(2)
    if "|" in url or not is_link(url):
        return match.group()
    return f"<{url}|{label}>" if label else f"<{url}>"


def _heading(match: re.Match[str]) -> str:
    text = match.group(1).strip().rstrip("#").rstrip()
    if not text or (len(text) > 2 and text.startswith("*") and text.endswith("*")):
        return text
    return f"*{text}*"


def _code(code: str) -> str:
    if not code.startswith(FENCE):
        return escape_mrkdwn(code)
    inside = code[len(FENCE) : -len(FENCE)]
    if not inside.strip():
        return ""
    if tag := _LANGUAGE.match(inside):
        inside = "\n" + inside[tag.end() :]
        if not inside.strip():
            return ""
    return f"{FENCE}{escape_mrkdwn(inside)}{FENCE}"


def _head(text: str, limit: int) -> str:
    """Return the first `limit` UTF-16 units of a text, without half a character at the end."""
    units = text.encode("utf-16-le", "replace")[: 2 * max(0, limit)]
    return units.decode("utf-16-le", "ignore")
