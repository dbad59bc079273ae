"""
Targets of HTTP requests: a URL that is a credential, and the parts of it that no excerpt may contain.

Error texts contain no part of a URL.
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
#: Longer parts, up to twice that length, are words too if they are spelt like one.
_WORD: Final = re.compile(r"[a-z]+([-_.][a-z]+)*")


@dataclass(frozen=True, slots=True)
class Target:
    """
    Where a request goes; its repr shows nothing.

    Attributes:
        url: Absolute http or https URL, treated as a credential.
        secrets: Further texts that no excerpt may contain (keys inside the body).
        own: The URL without the parts that a message adds, empty if it adds none. Those parts are no
            secret, and searching an answer for a long text takes seconds.
        in_clear: Credentials may be sent over http://, because the operators' file says so.
    """

    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    in_clear: bool = field(default=False, repr=False)
    own: str = field(default="", repr=False)


def parse_target(text: str) -> URL:
    """
    Parse a target's URL; escapes are kept as written.

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
    """Return the URL, its secret parts, its user and password in Basic form, and the declared secrets."""
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
