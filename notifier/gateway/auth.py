"""
Whether a request comes from a sender that is allowed to send. No I/O, no clock.

Every proof that a source requires must hold. Each may have several secrets, so that one can be replaced
while the sender still has the old one. All of them are compared, by hash and in constant time: how long
an answer takes reveals nothing about a secret. Reasons name what is missing, never what was sent.

Signatures cover the bytes as received. If the scheme signs a time, a request outside the tolerance
is refused; within it, a replay finds the object that the first request created.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from notifier.gateway.draft import Certificate, Incoming, Refused

Scheme = Literal["flux", "github", "grafana", "standard-webhooks"]

#: The header of each scheme.
_HEADERS: Final[dict[str, str]] = {
    "flux": "x-signature",
    "github": "x-hub-signature-256",
    "grafana": "x-grafana-alerting-signature",
    "standard-webhooks": "webhook-signature",
}
_WHSEC: Final = "whsec_"


@dataclass(frozen=True, slots=True)
class Signature:
    """
    How a request is signed.

    Attributes:
        header: In lower case; empty for the scheme's own.
        timestamp_header: In lower case; where Grafana puts the time that it signs. Empty if it does not.
        tolerance: Seconds by which a signed time may be off.
    """

    scheme: Scheme
    header: str = ""
    timestamp_header: str = ""
    tolerance: float = 300.0


def check_bearer(incoming: Incoming, tokens: Iterable[bytes]) -> None:
    """Check a bearer token; Refused with 401 unless it is one of these."""
    scheme, _, token = incoming.header("authorization").partition(" ")
    if scheme.lower() != "bearer" or not _among(token.strip().encode(), tokens):
        raise Refused("one of this source's tokens is required", status=401)


def check_basic(incoming: Incoming, user: str, passwords: Iterable[bytes]) -> None:
    """Check a user and a password; Refused with 401 unless both fit."""
    scheme, _, text = incoming.header("authorization").partition(" ")
    given = b""
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(text.strip(), validate=True)
        except (binascii.Error, ValueError):
            given = b""
    known = [user.encode() + b":" + password for password in passwords]
    if not _among(given, known):
        raise Refused("a user and password of this source are required", status=401)


def check_certificate(
    certificate: Certificate | None, anchors: frozenset[bytes], names: tuple[str, ...]
) -> None:
    """
    Check a client's certificate, which the handshake has verified.

    Args:
        certificate: Of the client.
        anchors: Certificates in DER, one of which must be in its chain.
        names: One of which it must bear; empty for any.

    Raises:
        Refused: 401.
    """
    if certificate is None or anchors.isdisjoint(certificate.chain):
        raise Refused(
            "a client certificate of an authority that this source trusts is required", status=401
        )
    if names and set(names).isdisjoint(certificate.names):
        raise Refused("the client certificate has none of this source's names", status=401)


def check_signature(
    incoming: Incoming, signature: Signature, keys: Sequence[bytes], now: float
) -> None:
    """
    Check the signature of a request.

    Args:
        incoming: The request.
        signature: How it is signed.
        keys: Any of them will do.
        now: Unix seconds.

    Raises:
        Refused: 401; names the header at fault.
    """
    header = signature.header or _HEADERS[signature.scheme]
    given = incoming.header(header).strip()
    if not given:
        raise Refused(f"the header {header} is missing", status=401)
    if signature.scheme == "standard-webhooks":
        signed = _standard(incoming, signature, now)
        expected = [
            base64.b64encode(hmac.digest(standard_key(key), signed, "sha256")) for key in keys
        ]
        offered = [
            part.removeprefix("v1,").encode() for part in given.split(" ") if part.startswith("v1,")
        ]
    else:
        signed = incoming.body
        if signature.timestamp_header:
            stamp = incoming.header(signature.timestamp_header).strip()
            _check_time(stamp, signature, now, signature.timestamp_header)
            signed = stamp.encode() + b":" + signed
        expected = [hmac.digest(key, signed, "sha256").hex().encode() for key in keys]
        offered = [given.removeprefix("sha256=").lower().encode()]
    # Not `any`: all are compared, whichever fits. A header holds few: its size is bounded.
    fits = [_among(one, expected) for one in offered[:8]]
    if True not in fits:
        raise Refused(f"the signature in {header} matches none of this source's keys", status=401)


def standard_key(key: bytes) -> bytes:
    """
    Return the bytes of a Standard Webhooks key, written in base64; ValueError if it is not.

    None may be empty: anybody can sign with an empty key.
    """
    found = base64.b64decode(key.removeprefix(_WHSEC.encode()), validate=True)
    if not found:
        raise ValueError("is empty")
    return found


def _standard(incoming: Incoming, signature: Signature, now: float) -> bytes:
    event, stamp = incoming.header("webhook-id"), incoming.header("webhook-timestamp").strip()
    if not event:
        raise Refused("the header webhook-id is missing", status=401)
    _check_time(stamp, signature, now, "webhook-timestamp")
    return f"{event}.{stamp}.".encode() + incoming.body


def _check_time(stamp: str, signature: Signature, now: float, header: str) -> None:
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise Refused(f"the header {header} must hold Unix seconds", status=401)
    if abs(int(stamp) - now) > signature.tolerance:
        raise Refused(
            f"the time in {header} is off by more than {signature.tolerance:g} s: a replay or wrong clock",
            status=401,
        )


def _among(given: bytes, known: Iterable[bytes]) -> bool:
    digest = hashlib.sha256(given).digest()
    found = False
    for one in known:
        # Hashes: also the lengths are compared in constant time.
        found |= hmac.compare_digest(digest, hashlib.sha256(one).digest()) and bool(one)
    return found
