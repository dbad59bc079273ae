"""
HTML as values: whatever is not `Safe` is text, whoever wrote it.

Names, errors and reasons come from tenants and receivers. One function turns text into HTML, `tag`, and
it escapes every child and every attribute; only `tag` makes markup. It cannot produce event handlers,
styles or links to other sites.

No I/O, no clock.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import Final

from syncer.rules.text import neutral

#: Elements without an end.
_VOID: Final = frozenset({"br", "input", "link", "meta"})
#: Attributes that may be written. A browser runs what some others hold.
_ATTRIBUTES: Final = frozenset({
    "action", "aria-current", "aria-label", "charset", "class", "content", "data-events", "data-label",
    "datetime", "defer", "href", "id", "lang", "method", "name", "placeholder", "rel", "role", "scope",
    "selected", "src", "tabindex", "title", "type", "value",
})  # fmt: skip
_LINKS: Final = frozenset({"action", "href", "src"})
#: A page of this server, or a place on this page.
_LOCAL: Final = re.compile(r"(?:/(?![/\\])|\?|#).*\Z", re.DOTALL)


class Safe(str):
    """Markup; made by `tag` and `join` alone."""

    __slots__ = ()


def tag(element: str, /, *children: object, **attributes: str | bool | None) -> Safe:
    """
    Return an element with children (texts, markup, sequences of them; None is nothing) and attributes.

    Names of attributes have `_` for `-`, `class_` for what Python reserves. None and False leave one out,
    True writes it without a value.

    Raises:
        ValueError: an attribute is none of those that may be written, or a link leaves this server.
    """
    words = [element]
    for key, value in attributes.items():
        known = key.rstrip("_").replace("_", "-")
        if known not in _ATTRIBUTES:
            raise ValueError(f"attribute {known!r} is not written")
        if value is None or value is False:
            continue
        if value is True:
            words.append(known)
            continue
        if known in _LINKS and not _LOCAL.match(value):
            raise ValueError("a link leaves this server")
        words.append(f'{known}="{html.escape(neutral(value))}"')
    opened = f"<{' '.join(words)}>"
    return Safe(opened if element in _VOID else f"{opened}{join(children)}</{element}>")


def join(children: Iterable[object]) -> Safe:
    """Return children one after the other; a text is escaped."""
    out: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Safe):
            out.append(child)
        elif isinstance(child, str):
            out.append(html.escape(neutral(child)))
        elif isinstance(child, Iterable):
            out.append(join(child))
        else:
            out.append(html.escape(str(child)))
    return Safe("".join(out))
