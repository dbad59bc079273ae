"""
What an HTTP answer holds: its status line, its body within a bound, and when to try again.

All of it is read from bytes and texts of a receiver that may send anything.
"""

from __future__ import annotations

import re
import zlib
from email.utils import parsedate_to_datetime
from typing import Final

#: Bytes of an answer's body that are read, and that may come out of a compressed one.
BODY_BYTES: Final = 64 * 1024
#: A receiver may ask for at most an hour.
RETRY_AFTER_MAX: Final = 3600.0

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")


def parse_retry_after(value: str, now: float) -> float | None:
    """
    Seconds that a `Retry-After` header asks for, at most an hour; None if it holds nothing usable.

    It holds seconds or an HTTP date; `now` is in Unix seconds.
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
    Undo gzip or deflate, up to the bound; a body that cannot be undone comes back as it is.

    Compression was not asked for, but some receivers answer so.
    """
    if encoding.strip().lower() not in {"gzip", "x-gzip", "deflate"}:
        return body
    try:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS + 32).decompress(body, BODY_BYTES)
    except zlib.error:
        return body


def text_of(body: bytes, encoding: str) -> str:
    """
    The text of a body in UTF-8; of one in UTF-16, which has a NUL beside each ASCII character, these.

    Nobody finds a secret in the midst of NULs, but whoever reads it without them does. `encoding` is how
    the body is compressed, if it is.
    """
    body = inflate(body, encoding)
    if body.count(0) * 3 > len(body):
        body = body.replace(b"\0", b"")
    return body.decode("utf-8", "replace")
