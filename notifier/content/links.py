"""
Which links a text may contain: `http`, `https` and `mailto`, and no other.

Any account that may create a notification can write a text, and people who trust the channel read it. A
link with another scheme could mention a whole channel in Slack (`!channel`, `@U…`, `!subteam^…`), or
start a program on the reader's machine (`ms-appinstaller:`, `file:`). Anything that is not an allowed
link stays as text, so nothing is lost and everybody sees what was tried.

Schemes are compared as written, before any decoding: an encoded scheme is none of the three.
Patterns are linear on any input.
"""

from __future__ import annotations

import re
from typing import Final

from notifier.templates.places import is_link

#: Where a link's target begins in Markdown: `](target`, a definition `]: target`, and `<scheme:`.
_TARGET: Final = re.compile(r"\]\([ \t\n]*+<?|\]:[ \t\n]*+<?|<(?=[A-Za-z][A-Za-z0-9+.-]*+:)")


def only_safe_links(markdown: str) -> str:
    """Disable every Markdown link with another target with a backslash; the text stays."""

    def defuse(match: re.Match[str]) -> str:
        text = match.group()
        if is_link(markdown, match.end()):
            return text
        if text.startswith("<"):
            # A second backslash would escape the first and make it a link again.
            return text if _escaped(markdown, match.start()) else f"\\{text}"
        # The rest after the bracket may be a link by itself: `](<file:...>`.
        return "]\\" + text[1:].replace("<", "\\<")

    return _TARGET.sub(defuse, markdown)


def _escaped(markdown: str, position: int) -> bool:
    """Whether an odd number of backslashes stands before a position."""
    first = position
    while first and markdown[first - 1] == "\\":
        first -= 1
    return (position - first) % 2 == 1
