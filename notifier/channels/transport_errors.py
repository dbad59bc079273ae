"""
Transport errors on the way to a receiver, in texts that may be recorded.

Texts of libraries hold URLs, host names and what a receiver answered, so none is ever used: a text is
made of fixed phrases, error numbers and class names. What a receiver did answer is shown as an excerpt
only, bounded, without control characters, and without every secret that the caller names.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterable
from typing import Final

from notifier.content.redaction import REDACTED
from notifier.content.sanitise import sanitise_head
from syncer.rules.text import neutral

#: Bytes of the sanitised excerpt.
EXCERPT_BYTES: Final = 1024
_LINKS: Final = 16

#: OpenSSL's verify codes that happen; others are named by number.
_VERIFY: Final = {
    2: "unknown issuer",
    9: "certificate is not yet valid",
    10: "certificate has expired",
    18: "self-signed certificate",
    19: "self-signed certificate in the chain",
    20: "unknown authority",
    21: "unknown authority",
    23: "certificate revoked",
    26: "certificate is not for servers",
    62: "host name mismatch",
    64: "IP address mismatch",
}


def chain_of(exc: BaseException) -> list[BaseException]:
    """The exception and what caused it, outermost first, up to a bound."""
    links: list[BaseException] = []
    pending: list[BaseException | None] = [exc]
    while pending and len(links) < _LINKS:
        link = pending.pop(0)
        if link is None or link in links:
            continue
        links.append(link)
        inner = getattr(link, "os_error", None) or getattr(link, "certificate_error", None)
        pending.append(inner if isinstance(inner, BaseException) else None)
        pending.append(link.__cause__)
    return links


def certificate_fault(links: Iterable[BaseException]) -> str:
    """Upstream's text for a certificate that was not accepted; empty if that is not it."""
    for link in links:
        # A library's own wrapper is of this type, too, and has no code.
        number = getattr(link, "verify_code", None)
        if isinstance(link, ssl.SSLCertVerificationError) and number is not None:
            why = _VERIFY.get(number, f"verify code {number}")
            return f"TLS certificate validation failed (permanent failure - BR-NOT-058): {why}"
    return ""


def describe(links: Iterable[BaseException]) -> str:
    """The phrase for the first link that has one; empty if none has."""
    return next((text for text in map(_describe, links) if text), "")


def excerpt(text: str, secrets: Iterable[str] = ()) -> str:
    """
    What of an answer may be recorded, at most `EXCERPT_BYTES` of UTF-8.

    Args:
        text: The answer, already bounded.
        secrets: Texts that must not come back, whatever they look like.
    """
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    text = neutral(sanitise_head(text, EXCERPT_BYTES))
    raw = text.encode()
    if len(raw) <= EXCERPT_BYTES:
        return text
    return raw[: EXCERPT_BYTES - 3].decode("utf-8", "ignore") + "…"


def _describe(link: BaseException) -> str:
    if isinstance(link, socket.gaierror):
        return "the host name did not resolve"
    if isinstance(link, ssl.SSLError):
        reason = getattr(link, "reason", None)
        return f"TLS handshake failed ({reason})" if reason else ""
    if isinstance(link, OSError) and (name := errno.errorcode.get(number := link.errno or 0)):
        return f"{os.strerror(number).lower()} ({name})"
    return ""
