"""What is read from an HTTP answer: the final status, the wait that is asked for, a compressed body."""

from __future__ import annotations

import gzip
import zlib

import pytest

from notifier.channels.http_answers import inflate, parse_retry_after, status_of, text_of

#: The header, and the seconds that it comes to at 1970-01-01 00:16:40.
WAITS: dict[str, tuple[str, float | None]] = {
    "seconds": ("7", 7.0),
    "blanks around": ("  7 ", 7.0),
    "an hour": ("3600", 3600.0),
    "more than an hour": ("3601", 3600.0),
    "a date": ("Thu, 01 Jan 1970 00:20:00 GMT", 200.0),
    "now": ("Thu, 01 Jan 1970 00:16:40 GMT", 0.0),
    "a date long ago": ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    "a date far away": ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
    "a date that no calendar has": ("Thu, 99 Jan 1970 00:20:00 GMT", None),
    "nothing": ("", None),
    "blanks alone": ("  ", None),
    "a sign": ("-5", None),
    "digits of another script": ("\u0665", None),
}


@pytest.mark.parametrize("case", WAITS)
def test_wait_that_is_asked_for(case: str) -> None:
    """Seconds or a date come to seconds from now, an hour at most; whatever else comes to nothing."""
    value, wanted = WAITS[case]
    assert parse_retry_after(value, 1_000.0) == wanted


STATUSES = {
    "a final status": (b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nbody", 200),
    "an older version": (b"HTTP/1.0 404 Gone\r\n\r\n", 404),
    "no reason": (b"HTTP/1.1 204\r\n\r\n", 204),
    "nothing behind the line": (b"HTTP/1.1 503 No\r\n", 503),
    "another protocol, which is final": (b"HTTP/1.1 101 Switching\r\n\r\n", 101),
    "an interim one before": (b"HTTP/1.1 103 H\r\nLink: x\r\n\r\nHTTP/1.1 500 No\r\n\r\n", 500),
    "several interim ones": (
        b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 199 E\r\n\r\nHTTP/1.1 201 C\r\n\r\n", 201,
    ),
    "an interim one alone": (b"HTTP/1.1 100 Continue\r\n\r\n", 0),
    "an interim one that is not complete": (b"HTTP/1.1 100 C\r\nHTTP/1.1 200 OK\r\n", 0),
    "a line that breaks off": (b"HTTP/1.1 200 O", 0),
    "no such code": (b"HTTP/1.1 600 No\r\n\r\n", 0),
    "no HTTP": (b"SSH-2.0-x\r\n", 0),
    "nothing": (b"", 0),
}  # fmt: skip


@pytest.mark.parametrize("case", STATUSES)
def test_status_of_an_answer(case: str) -> None:
    """The first final status counts, once its line is complete."""
    answer, wanted = STATUSES[case]
    assert status_of(answer) == wanted
    assert status_of(bytearray(answer)) == wanted


BODY = b"a body of some length " * 10
#: The time of day is part of the format, and of the cases' names: every process must make the same.
ZIPPED = gzip.compress(BODY, mtime=0)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", ZIPPED), ("X-GZIP ", ZIPPED),
        ("deflate", zlib.compress(BODY)), ("", BODY), ("br", BODY),
        ("gzip", BODY), ("deflate", BODY),
    ],
)  # fmt: skip
def test_body_is_undone(encoding: str, body: bytes) -> None:
    """A compressed body comes out, and what only claims to be one comes back as it is."""
    assert inflate(body, encoding) == BODY


def test_of_a_compressed_body_no_more_comes_out_than_is_read_of_another() -> None:
    """A small answer that would fill the memory comes to 64 KiB."""
    assert inflate(gzip.compress(b"x" * 10_000_000), "gzip") == b"x" * 65_536


def test_body_that_breaks_off_is_shown_as_far_as_it_goes() -> None:
    """Half of a compressed body is shown, not the bytes of its compression."""
    body = bytes(range(256)) * 40
    found = inflate(gzip.compress(body, 0)[:5_000], "gzip")
    assert found
    assert body.startswith(found)


TEXTS: dict[str, tuple[bytes, str, str]] = {
    "UTF-8": ("key é".encode(), "", "key é"),
    "UTF-16, the small end first": ("key k-123".encode("utf-16-le"), "", "key k-123"),
    "UTF-16, the big end first": ("key k-123".encode("utf-16-be"), "", "key k-123"),
    "UTF-16 that says which": ("key k-123".encode("utf-16"), "", "\ufffd\ufffdkey k-123"),
    "what is neither": (b"a\0b\xff", "", "a\0b\ufffd"),
    "a third of it, which is no sign": (b"ab\0", "", "ab\0"),
    "half of it, which is one": (b"ab\0\0", "", "ab"),
    "compressed UTF-16": (gzip.compress("key k-123".encode("utf-16-le")), "gzip", "key k-123"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_text_of_a_body(case: str) -> None:
    """UTF-8 as it is, UTF-16 without what stands beside its letters, anything else as far as it goes."""
    body, encoding, text = TEXTS[case]
    assert text_of(body, encoding) == text
