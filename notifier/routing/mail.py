"""
The addresses of an e-mail entry: recipients, sender and server.

Pure functions: text in, parts out. Only addresses that every mail server understands are accepted: ASCII,
without quoted local parts. That also keeps line breaks, blanks and angle brackets out of the SMTP dialogue
and the headers, where they could start another header.

`recipient_tag` identifies a recipient in a channel's name. It is derived from the address alone, not from
its place in a list: if the list is edited while notifications are under way, the retry for one person must
not go to another, who may have got the message already.

No error text quotes the refused value.
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from typing import Final

#: Most recipients of one entry; each is a channel of its own.
MAX_RECIPIENTS: Final = 100
_MAX_LIST: Final = 32 * 1024
_MAX_NAME: Final = 128

_ADDRESS: Final = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@"
    r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})(?:\.[A-Za-z0-9][A-Za-z0-9-]{0,62})*"
)
_MAILBOX: Final = re.compile(
    r"\s*+(?:\"((?>(?:[^\"\\]|\\.)*))\"\s*+<([^<>\s]++)>|([^\",<>@]*+)<([^<>\s]++)>|([^\s\",<>]++))\s*+"
)
_SMARTHOST: Final = re.compile(
    r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?))(?::([0-9]{1,5}))?"
)


class Security(StrEnum):
    """How the connection to the mail server is protected; `none` only if the file asks for it."""

    STARTTLS = "starttls"
    IMPLICIT = "implicit"
    NONE = "none"


#: Default port for each kind of protection.
PORTS: Final = {Security.STARTTLS: 587, Security.IMPLICIT: 465, Security.NONE: 25}


def parse_recipients(text: str) -> tuple[str, ...]:
    """
    Read a list of addresses, separated by commas; names and repeated addresses are dropped.

    Raises:
        ValueError: an item is not an address, or there are too many.
    """
    found: dict[str, str] = {}
    for _, address in _mailboxes(text):
        found.setdefault(_folded(address), address)
    if len(found) > MAX_RECIPIENTS:
        raise ValueError(f"holds more than {MAX_RECIPIENTS} addresses")
    return tuple(found.values())


def parse_sender(text: str) -> tuple[str, str]:
    """
    Read one address with or without a name: `Alerts <alerts@example.org>`.

    Returns:
        Name, empty if there is none, and address.

    Raises:
        ValueError: the text is not exactly one address.
    """
    found = _mailboxes(text)
    if len(found) != 1:
        raise ValueError("must be one address")
    return found[0]


def parse_smarthost(text: str, security: Security) -> tuple[str, int]:
    """
    Read `host`, `host:port` or `[address]:port`.

    Raises:
        ValueError: the text has another form.
    """
    match = _SMARTHOST.fullmatch(text)
    port = int(match[3]) if match and match[3] else PORTS[security]
    if match is None or not 0 < port < 65536:
        raise ValueError("must be a host, or host:port")
    return match[1] or match[2], port


def recipient_tag(address: str) -> str:
    """Return twelve hex digits for an address: the start of the SHA-256 of its normalised form."""
    return hashlib.sha256(_folded(address).encode("utf-8", "replace")).hexdigest()[:12]


def _mailboxes(text: str) -> list[tuple[str, str]]:
    if len(text) > _MAX_LIST:
        raise ValueError(f"is longer than {_MAX_LIST} characters")
    found: list[tuple[str, str]] = []
    at = 0
    while True:
        match = _MAILBOX.match(text, at)
        if match is None:
            raise ValueError("holds something that is not an address")
        quoted, quoted_address, name, named_address, bare = match.groups()
        address = quoted_address or named_address or bare
        if not _ADDRESS.fullmatch(address) or len(address) > 254:
            raise ValueError("holds something that is not an address")
        shown = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else (name or "").strip()
        if len(shown) > _MAX_NAME or not shown.isprintable():
            raise ValueError("holds a name that cannot be used")
        found.append((shown, address))
        at = match.end()
        if at == len(text):
            return found
        if text[at] != ",":
            raise ValueError("holds something that is not an address")
        at += 1


def _folded(address: str) -> str:
    """Return an address with its domain in lower case; case may matter in the part before the sign."""
    local, _, domain = address.rpartition("@")
    return f"{local}@{domain.lower()}"
