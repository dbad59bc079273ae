"""
Places where a value may stand, and how it is written there so that it stays a value.

The author of a template says what is markup; whoever sends a notification says only what stands in the
holes. So a template's own text is never escaped, and a value always is, by the language of its field and
by where in it the hole is. A hole where no escaping helps (a script, a style, an attribute without quotes)
is refused when the file is read, and an address that is none of http, https and mailto when it is met.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape as escape_html
from typing import Final
from urllib.parse import quote

from notifier.templates.expressions import Unfit

#: The context of an address.
ADDRESS: Final = "an address"
_ALLOWED: Final = re.compile(r"(?:https?://|mailto:)[^\s]", re.IGNORECASE)
#: What any dialect of Markdown reads as markup, and the signs behind which chats look for a name, which a
#: character without width keeps it from being.
_MARKDOWN: Final = str.maketrans(
    {sign: f"\\{sign}" for sign in r"\`*_[]()<>#|~"} | {"@": "@\u200b", "\uff20": "\uff20\u200b"}
)
#: What would end an address in any of the languages; a value that is part of one has it encoded.
_ENDS: Final = re.compile(r"[\s<>()\[\]|\\\"'`]")
#: An address up to the end of its host or before; whoever names the host says where the link leads.
_HOST: Final = re.compile(r"https?:/{0,2}[^/?#]*", re.IGNORECASE)
_HTML_LINKS: Final = frozenset({"href", "src"})
#: Attributes that hold text or a number.
_HTML_NAMES: Final = frozenset(
    {
        "align",
        "alt",
        "bgcolor",
        "border",
        "class",
        "color",
        "colspan",
        "height",
        "rowspan",
        "title",
        "valign",
        "width",
    }
)
_TAG: Final = re.compile(r"<(?:!--|/?[A-Za-z])")
_ATTRIBUTE: Final = re.compile(r"([A-Za-z][-A-Za-z0-9:]*)=\"([^\"]*)\Z")
_RAW: Final = re.compile(
    r"<(script|style|textarea|title|iframe|svg|math|plaintext|xmp|noscript|template)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Place:
    """
    How a value is written in one place.

    Attributes:
        escape: Makes text of it that is nothing else there.
        whole: Whether a part of it would be wrong, as of an address.
    """

    escape: Callable[[str], str]
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Language:
    """
    A language of fields.

    Attributes:
        at: Returns the place of a hole behind the text of a template before it; raises ValueError where
            none may stand.
        context: What is open behind such a text, empty if nothing is. A block ends in what it begins in,
            and is not within an address.
        address: Whether a field is an address as a whole.
    """

    at: Callable[[str], Place]
    context: Callable[[str], str] = lambda _: ""
    address: bool = False


def is_link(text: str, at: int = 0) -> bool:
    """Whether what stands there in a text may become a link: http, https and mailto, as written."""
    return _ALLOWED.match(text, at) is not None


def escape_mrkdwn(text: str) -> str:
    """Escape the three characters that Slack reserves."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def escape_markdown(text: str) -> str:
    """Escape what any dialect of Markdown reads as markup, and the sign of mentions."""
    return text.translate(_MARKDOWN)


def link(target: str) -> str:
    """An address as it stands in a link; Unfit if it may not become one."""
    if not is_link(target):
        raise Unfit("an address is none of http, https and mailto")
    return _part(target)


def _part(text: str) -> str:
    """A text as a part of an address that the template begins."""
    return _ENDS.sub(lambda sign: quote(sign.group(), safe=""), text)


def _behind(address: str, part: Place) -> Place:
    """The place of a part of an address that begins like this; ValueError within its host."""
    if _HOST.fullmatch(address):
        raise ValueError(
            "a hole may not stand in the host of an address, only be all of it or behind it"
        )
    return part


_PLAIN: Final = Place(lambda text: text)
_SEGMENT: Final = Place(lambda text: quote(text.encode("utf-8", "replace"), safe=""), whole=True)
_PART: Final = Place(_part, whole=True)
_IN_HTML: Final = Place(escape_html)
_HTML_LINK: Final = Place(lambda text: escape_html(link(text)), whole=True)
_HTML_PART: Final = Place(lambda text: escape_html(_part(text)), whole=True)


def _chat(
    opens: str, closes: str, escape: Callable[[str], str], after: Callable[[str], str]
) -> Language:
    """A language in which an address stands between two signs; `after` makes one fit for it."""
    text, start, part = (
        Place(escape),
        Place(lambda t: after(link(t)), whole=True),
        Place(lambda t: after(_part(t)), whole=True),
    )

    def inside(before: str) -> str | None:
        at = before.rfind(opens)
        rest = before[at + len(opens) :]
        return None if at < 0 or any(sign in rest for sign in closes) else rest

    def place(before: str) -> Place:
        rest = inside(before)
        if rest is None:
            return text
        if not rest:
            return start
        if is_link(rest):
            return _behind(rest, part)
        raise ValueError(f"a hole may not stand behind {opens}{rest[:20]}")

    return Language(place, lambda before: "" if inside(before) is None else ADDRESS)


def _html_place(before: str) -> Place:
    inside = _inside(before)
    if not inside:
        return _IN_HTML
    found = _ATTRIBUTE.search(inside)
    name = found[1].lower() if found else ""
    if not found or name not in _HTML_LINKS | _HTML_NAMES:
        raise ValueError(
            "a hole may stand in a text, or within double quotes in an attribute of text or an address"
        )
    if name in _HTML_NAMES:
        return _IN_HTML
    if not found[2]:
        return _HTML_LINK
    if not is_link(found[2]):
        raise ValueError(f"{name} must begin with its scheme, or with the hole")
    return _behind(found[2], _HTML_PART)


def _html_context(before: str) -> str:
    inside = _inside(before)
    found = _ATTRIBUTE.search(inside)
    name = found[1].lower() if found else inside and "a tag"
    return ADDRESS if name in _HTML_LINKS else name


def _inside(before: str) -> str:
    """What of a text stands in a tag, a comment or raw text that is not closed; empty in a text."""
    if raw := _RAW.search(before):
        raise ValueError(f"<{raw[1].lower()}> may not be used in a template")
    at = 0
    while tag := _TAG.search(before, at):
        end, quoted = tag.end(), ""
        if tag.group() == "<!--":
            raise ValueError("a comment may not be used in a template")
        while end < len(before) and (quoted or before[end] != ">"):
            sign = before[end]
            if sign in "\"'" and quoted in ("", sign):
                quoted = "" if quoted else sign
            end += 1
        if end == len(before):
            return before[tag.start() :]
        at = end + 1
    return ""


#: Languages by the words that say which one a field is in.
LANGUAGES: Final = {
    "text": Language(lambda _: _PLAIN),
    "segment": Language(lambda _: _SEGMENT),
    "link": Language(lambda before: _behind(before, _PART), address=True),
    "html": Language(_html_place, _html_context),
    "mrkdwn": _chat("<", "|>", escape_mrkdwn, escape_mrkdwn),
    "markdown": _chat("](", ")\n", escape_markdown, lambda text: text.replace("@", "%40")),
}
