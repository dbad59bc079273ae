"""
Descriptions of transport errors that may be recorded.

Texts of libraries contain URLs, host names and answers of receivers, so they are never used: a description
consists of fixed phrases, error numbers and class names. A receiver's answer is recorded only as an
excerpt: bounded, without control characters, and without the secrets that the caller names, whether they
are plain or encoded as in a URL, JSON or HTML.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import ssl
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from notifier.channels.base import WITHHELD, Withheld
from notifier.channels.dialling import NoThread
from notifier.channels.egress import EgressDenied
from notifier.content.redaction import REDACTED
from notifier.content.sanitise import sanitise_head
from notifier.contract import Outcome
from syncer.model.conditions import bounded
from syncer.rules.text import neutral

#: Maximum bytes of the sanitised excerpt.
EXCERPT_BYTES: Final = 1024
#: Characters of an answer that are examined. An answer full of secrets leaves a short excerpt; examining
#: more of it to fill the excerpt would block the event loop.
_READ_CHARS: Final = 8 * EXCERPT_BYTES
_LINKS: Final = 16
#: Words that occur in sentences; a part of a URL may be one: `Operations`, `alerts-Prod`.
_WORD: Final = re.compile(r"[A-Z]?[a-z]+([-_.][A-Z]?[a-z]+)*")
#: Names of characters in HTML.
_NAMED: Final = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}

#: OpenSSL's verify codes that occur in practice; others are shown by number.
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
    """Return an exception and its causes, outermost first, at most `_LINKS`."""
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


def lasting_fault(links: Sequence[BaseException], *, written: bool) -> Outcome | None:
    """
    Return the outcome of a call that was withheld, or that would fail the same way again; else None.

    It would fail again if the address is denied or, unless something was `written`, the certificate was
    rejected. The text about the certificate is upstream's.
    """
    if isinstance(links[0], Withheld):
        return WITHHELD
    for link in links:
        if isinstance(link, EgressDenied):
            return Outcome.permanent(f"egress denied: {link}")
    for link in () if written else links:
        # The HTTP library's wrapper is of this type too, but has no code.
        number = getattr(link, "verify_code", None)
        if isinstance(link, ssl.SSLCertVerificationError) and number is not None:
            why = _VERIFY.get(number, f"verify code {number}")
            return Outcome.mistaken(
                f"TLS certificate validation failed (permanent failure - BR-NOT-058): {why}"
            )
    return None


def describe(links: Iterable[BaseException]) -> str:
    """Return the phrase for the first exception that has one; empty if none has."""
    return next((text for text in map(_describe, links) if text), "")


def excerpt(text: str, secrets: Iterable[str] = ()) -> str:
    """
    Return the part of a bounded answer that may be recorded, at most `EXCERPT_BYTES` of UTF-8.

    It contains none of the secrets, whatever they look like.
    """
    if len(text) > _READ_CHARS:
        # Cut at a separator: half of a token would not be recognised as a secret.
        end = max(text.rfind(blank, 0, _READ_CHARS) for blank in " \n,")
        text = text[: end if end > 0 else _READ_CHARS]
    if known := frozenset(secrets) - {""}:
        text = _finder(known).sub(REDACTED, text)
    return bounded(neutral(sanitise_head(text, EXCERPT_BYTES)), EXCERPT_BYTES)


@lru_cache(maxsize=64)
def _finder(secrets: frozenset[str]) -> re.Pattern[str]:
    """Compile a pattern for secrets in any encoding, the longest first, as one may be part of another."""
    ordered = sorted(secrets, key=len, reverse=True)
    return re.compile("|".join(map(_forms, ordered)))


def _forms(secret: str) -> str:
    """Pattern of a secret; case matters in one that is a word, because sentences contain it as well."""
    forms = f"{re.escape(secret)}|{''.join(map(_spellings, secret))}"
    return forms if _WORD.fullmatch(secret) else f"(?i:{forms})"


def _spellings(character: str) -> str:
    """Pattern of a character as it is, and as encoded in a URL (once or twice), in JSON and in HTML."""
    if character.isascii() and character.isalnum():
        return character
    code = ord(character)
    forms = (
        "".join(f"%(?:25)?{byte:02x}" for byte in character.encode("utf-8", "replace")),
        rf"\\u{code:04x}",
        rf"&#0*{code};",
        rf"&#x0*{code:x};",
        f"&{_NAMED.get(character, 'x')};",
        re.escape(json.dumps(character)[1:-1]),
        rf"\\?{re.escape(character)}",
        *([r"\+"] if character == " " else []),
    )
    # Atomic: some forms match the same text, and backtracking would try every combination of them.
    return f"(?i:(?>{'|'.join(forms)}))"


def _describe(link: BaseException) -> str:
    if isinstance(link, NoThread):
        return "the host name was not looked up: other look-ups hold all threads"
    if isinstance(link, socket.gaierror):
        return "the host name did not resolve"
    if isinstance(link, ssl.SSLError):
        reason = getattr(link, "reason", None)
        return f"TLS handshake failed ({reason})" if reason else ""
    if isinstance(link, OSError) and (name := errno.errorcode.get(number := link.errno or 0)):
        return f"{os.strerror(number).lower()} ({name})"
    return ""
