"""
Parsing of HTTP answers: the status line, the bounded body, and when to try again.

The input comes from a receiver that may send anything.
"""

from __future__ import annotations

import re
import zlib
from email.utils import parsedate_to_datetime
from typing import Final

#: Maximum bytes that are read of an answer's body, and to which a compressed one is inflated.
BODY_BYTES: Final = 64 * 1024
#: Longest wait in seconds that a receiver may ask for.
RETRY_AFTER_MAX: Final = 3600.0

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")


def parse_retry_after(value: str, now: float) -> float | None:
    """
    Return the seconds that a `Retry-After` header asks for, at most an hour; None if it is not usable.

    The header holds seconds or an HTTP date; `now` is in Unix seconds.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value), RETRY_AFTER_MAX)
    try:
        when = parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None
    return min(max(0.0, when - now), RETRY_AFTER_MAX)


def status_of(answer: bytes | bytearray) -> int:
    """Code of the first final status line in the bytes of an answer; 0 if it is not complete."""
    rest = bytes(answer)
    while match := _STATUS_LINE.match(rest):
        code = int(match.group(1))
        if code >= 200 or code == 101:
            return code
        rest = rest.partition(b"\r\n\r\n")[2]
    return 0


def inflate(body: bytes, encoding: str) -> bytes:
    """
    Decompress gzip or deflate, up to the bound; a body that cannot be decompressed stays as it is.

    Compression was not requested, but some receivers compress anyway.
    """
    if encoding.strip().lower() not in {"gzip", "x-gzip", "deflate"}:
        return body
    try:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS + 32).decompress(body, BODY_BYTES)
    except zlib.error:
        return body


def text_of(body: bytes, encoding: str) -> str:
    """
    Decode a body as UTF-8; if it looks like UTF-16, with a NUL next to each ASCII character, without NULs.

    The NULs would hide a secret from the search, but not from a reader to whom they are invisible.
    `encoding` is the compression of the body, if any.
    """
    body = inflate(body, encoding)
    if body.count(0) * 3 > len(body):
        body = body.replace(b"\0", b"")
    return body.decode("utf-8", "replace")
