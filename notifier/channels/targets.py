"""
Targets of HTTP requests: a URL that is a credential, and what of it must not come back in an excerpt.

The text of an error names no part of a URL.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Final

from yarl import URL

_BLANK: Final = re.compile(r"[\x00-\x20\x7f]")
#: Parts of a URL shorter than this are words, not secrets.
_SECRET_CHARS: Final = 8
#: Longer parts are words, too, up to twice that, if they are spelt like one.
_WORD: Final = re.compile(r"[a-z]+([-_.][a-z]+)*")


@dataclass(frozen=True, slots=True)
class Target:
    """
    Where a request goes; its repr shows nothing.

    Attributes:
        url: Absolute http or https URL, treated as a credential.
        secrets: Further texts that must not come back in an excerpt (keys inside the body).
        own: The URL without what a message adds to it, empty if that adds nothing: what a message says is
            no secret, and to look for a long text takes seconds.
        in_clear: Credentials may be sent over http://, because the operators' file says so.
    """

    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    in_clear: bool = field(default=False, repr=False)
    own: str = field(default="", repr=False)


def parse_target(text: str) -> URL:
    """
    Read a target's URL, escapes kept as written.

    Raises:
        ValueError: not an absolute http or https URL; the text names no part of it.
    """
    if not text:
        raise ValueError("it is empty")
    if _BLANK.search(text):
        raise ValueError("it contains blanks or control characters")
    try:
        url = URL(text, encoded=text.isascii())
        host, port = url.raw_host, url.port
    except (ValueError, TypeError):
        raise ValueError("bad syntax") from None
    if url.scheme not in {"http", "https"}:
        raise ValueError("neither http nor https")
    if not host or not port:
        raise ValueError("no host")
    return url


def secrets_of(target: Target) -> set[str]:
    """The URL, its telling parts, what becomes of its user and password, and the declared secrets."""
    own = target.own or target.url
    found = {own, *target.secrets}
    try:
        url = URL(own)
    except ValueError:
        return {s for s in found if s}
    found.update((url.raw_path, url.path, url.raw_path_qs, url.path_qs, url.password or ""))
    if url.password:
        pair = f"{url.user or ''}:{url.password}"
        found.add(base64.b64encode(pair.encode("utf-8", "replace")).decode())
    values = (item.partition("=")[2] for item in url.raw_query_string.split("&"))
    parts = (*url.parts, *url.raw_parts, *url.query.values(), *values)
    found.update(p for p in parts if len(p) >= 2 * _SECRET_CHARS or not _WORD.fullmatch(p))
    return {s for s in found if len(s) >= _SECRET_CHARS or s in target.secrets} - {""}
