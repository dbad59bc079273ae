"""
The message that the e-mail channel sends.

It is made from values that cannot change between attempts, except its date and the attempt's id, which are
only in headers. The body is plain text, which every client shows and none reads as markup. If a receiver's
templates yield an HTML page, and it fits, the page is added as an alternative. Headers are built here from
parts without control characters, so that no value can begin another header.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime
from email.header import Header
from email.utils import format_datetime, formataddr
from typing import Final

from notifier.content.trim import TRUNCATED
from notifier.contract import Message
from notifier.routing.models import EmailConfig
from syncer.rules.text import one_line, shown

#: Maximum bytes of the whole message; a server may announce less.
MESSAGE_BYTES: Final = 512 * 1024
SUBJECT_CHARS: Final = 500
#: Maximum characters of one fact or link below the body, and maximum number of links.
FACT_CHARS: Final = 1000
LINKS: Final = 20
#: Bytes that the headers must leave, because the mark of a cut text would not fit otherwise.
_LEAST_SPACE: Final = 1024

_TEXT: Final = {
    "Content-Type": 'text/plain; charset="utf-8"',
    "Content-Transfer-Encoding": "quoted-printable",
}
_HTML: Final = {
    "Content-Type": 'text/html; charset="utf-8"',
    "Content-Transfer-Encoding": "base64",
}
_HEADLINE: Final = {"Critical": "CRITICAL: ", "High": "HIGH: "}
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_PLAIN: Final = re.compile(r"[\x20-\x7e]{1,60}")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]+(?:\r\n [\x20-\x7e]+)*")
#: An incomplete escape or soft line break at the end of quoted-printable text that was cut.
_BROKEN_ESCAPE: Final = re.compile(rb"=[0-9A-F\r]?\Z")


def mail(message: Message, envelope: EmailConfig, now: int, *, limit: int = MESSAGE_BYTES) -> bytes:
    """
    Return the message as it is sent, before dot-stuffing; lines end in CRLF.

    Args:
        message: The message to render.
        envelope: Sender and recipient, as `routing.mail` has checked them.
        now: Unix seconds, for the date.
        limit: Maximum size in bytes.

    Raises:
        ValueError: the headers leave no space for a body, or a header's value is not allowed.
    """
    spec = message.spec
    headline = "" if message.resolved else _HEADLINE.get(spec.priority, "")
    domain = envelope.sender.rpartition("@")[2]
    headers = {
        "From": _from(envelope),
        "To": envelope.to,
        "Subject": subject_header(f"{headline}{spec.subject}"),
        "Date": format_datetime(datetime.fromtimestamp(now, UTC)),
        "Message-ID": f"<{message.idempotency_key}@{domain}>",
        "Auto-Submitted": "auto-generated",
        "X-Notification-Attempt": message.attempt_id,
        "MIME-Version": "1.0",
    }
    page, mark = _page(message), f"=_{message.idempotency_key}"
    if len(page) > limit - 2 * _LEAST_SPACE - sum(map(len, headers.values())):
        page = b""
    if page:
        headers["Content-Type"] = f'multipart/alternative; boundary="{mark}"'
        before = f"--{mark}\r\n{_lines(_TEXT)}\r\n".encode()
        after = f"\r\n--{mark}\r\n{_lines(_HTML)}\r\n".encode() + page + f"--{mark}--\r\n".encode()
    else:
        headers |= _TEXT
        before = after = b""
    if headline:
        headers["Importance"] = "high"
    for name, value in headers.items():
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the header {name} cannot be written")
    head = _lines(headers).encode() + b"\r\n" + before
    space = limit - len(head) - len(b"\r\n") - len(after)
    if space < _LEAST_SPACE:
        raise ValueError("the message cannot be cut to size")
    below = _cut_encoded(mail_facts(message), space // 2)
    body = _cut_encoded(_body(spec.body), space - len(below))
    return head + body + below + b"\r\n" + after


def _lines(headers: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


def _page(message: Message) -> bytes:
    """The HTML page in base64; empty without one."""
    page = message.words.payload if message.words else None
    if not isinstance(page, str) or not page:
        return b""
    return base64.encodebytes(page.encode("utf-8", "replace")).replace(b"\n", b"\r\n")


def mail_facts(message: Message) -> str:
    """The facts below the body, one per line, then the links."""
    spec = message.spec
    facts = {
        "Priority": spec.priority,
        "Type": spec.type,
        "Severity": spec.severity,
        "Cluster": spec.cluster_id,
        "Root cause": message.fact("analysis", "rootCause"),
        "Confidence": message.fact("workflow", "confidence"),
        "Affected resource": message.fact("target", "targetResource"),
        "Verification": message.fact("verification", "outcome"),
        "Verification reason": message.fact("verification", "reason"),
        "Command": message.chat_command(),
        "Notification": message.key,
    }
    lines = ["", "", "---"]
    lines += [f"{name}: {_short(_one_line(value))}" for name, value in facts.items() if value]
    shown = spec.action_links[:LINKS]
    lines += [
        f"{_short(_one_line(label or service))}: {_short(_one_line(url))}"
        for service, url, label in shown
    ]
    if len(spec.action_links) > len(shown):
        lines.append(f"({len(spec.action_links) - len(shown)} further links are left out)")
    return "\r\n".join(lines)


def subject_header(text: str) -> str:
    """A subject as a header's value: unchanged if it is short ASCII, else in encoded words."""
    text = _one_line(text)
    if len(text) > SUBJECT_CHARS:
        text = text[: SUBJECT_CHARS - 1] + "…"
    if _PLAIN.fullmatch(text) and "=?" not in text:
        return text
    return Header(text or "(no subject)", "utf-8", header_name="Subject").encode(linesep="\r\n")


def _from(envelope: EmailConfig) -> str:
    name = _one_line(envelope.sender_name)
    if name.isascii():
        return formataddr((name, envelope.sender))
    encoded = Header(name, "utf-8", header_name="From").encode(linesep="\r\n")
    return f"{encoded} <{envelope.sender}>"


def _one_line(text: str) -> str:
    return one_line(_unicode(text))


def _body(text: str) -> str:
    return shown(_LINE_END.sub("\n", _unicode(text))).replace("\n", "\r\n")


def _unicode(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _short(text: str) -> str:
    return text if len(text) <= FACT_CHARS else f"{text[:FACT_CHARS]} {TRUNCATED}"


def _quoted_printable(text: str) -> bytes:
    # `b2a_qp` breaks lines with the first kind of line end that it finds in the text.
    encoded = binascii.b2a_qp(f"\r\n{text}".encode(), istext=True)
    return encoded.removeprefix(b"\r\n")


def _cut_encoded(text: str, space: int) -> bytes:
    """The text in quoted-printable; cut at a character and marked if it takes more than `space` bytes."""
    if len(text) <= space:
        encoded = _quoted_printable(text)
        if len(encoded) <= space:
            return encoded
    mark = _quoted_printable(f"\r\n{TRUNCATED}")
    # No binary search: each encoding of a long text blocks the process for milliseconds. Cutting the
    # encoded text shows how much of it fits, apart from the cost of its end.
    encoded = _quoted_printable(text[:space])
    fits = _BROKEN_ESCAPE.sub(b"", encoded[: space - len(mark)])
    low = len(binascii.a2b_qp(fits).decode("utf-8", "ignore"))
    while True:
        # A cut between CR and LF would leave a bare CR; a blank at the end of a text takes more space.
        kept = _quoted_printable(text[:low].removesuffix("\r"))
        if len(kept) + len(mark) <= space:
            return kept + mark
        low -= 4
