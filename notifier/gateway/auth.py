"""
Checks the proofs that a request comes from an allowed sender. No I/O, no clock.

Every proof that a source requires must hold. Each may have several secrets, so that one can be replaced
while the sender still has the old one. All of them are compared, by hash and in constant time, so the time
of an answer reveals nothing about a secret. A reason names the missing proof and never quotes the request.

Signatures cover the bytes as received. If the scheme signs a time, a request outside the tolerance
is refused; within it, a replay finds the object that the first request created.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from notifier.gateway.draft import Certificate, Incoming, Refused
from notifier.gateway.proofs import SignatureSettings

#: The header of each scheme.
_HEADERS: Final[dict[str, str]] = {
    "flux": "x-signature",
    "github": "x-hub-signature-256",
    "grafana": "x-grafana-alerting-signature",
    "standard-webhooks": "webhook-signature",
}
#: Seconds by which a signed time may be off.
TOLERANCE: Final = 300.0


def check_bearer(incoming: Incoming, tokens: Iterable[bytes]) -> None:
    """Check a bearer token; Refused with 401 unless it is one of these."""
    if not _among(incoming.authorization("bearer").encode(), tokens):
        raise Refused("one of this source's tokens is required", status=401)


def check_basic(incoming: Incoming, user: str, passwords: Iterable[bytes]) -> None:
    """Check a user and a password; Refused with 401 unless both match."""
    given = b""
    with suppress(ValueError):
        given = base64.b64decode(incoming.authorization("basic"), validate=True)
    known = [user.encode() + b":" + password for password in passwords]
    if not _among(given, known):
        raise Refused("a user and password of this source are required", status=401)


def check_certificate(
    certificate: Certificate | None, anchors: frozenset[bytes], names: tuple[str, ...]
) -> None:
    """
    Check a client's certificate, which the handshake has verified.

    Args:
        certificate: The client's certificate, None without one.
        anchors: Certificates in DER, one of which must be in its chain.
        names: Names of which the certificate must have one; empty for any.

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
    incoming: Incoming, signature: SignatureSettings, keys: Sequence[bytes], now: float
) -> None:
    """
    Check the signature of a request.

    Args:
        incoming: The request.
        signature: How it is signed.
        keys: The accepted keys.
        now: Unix seconds.

    Raises:
        Refused: 401; names the header at fault.
    """
    header = signature.header.lower() or _HEADERS[signature.scheme]
    given = incoming.header(header).strip()
    if not given:
        raise Refused(f"the header {header} is missing", status=401)
    if signature.scheme == "standard-webhooks":
        signed = _standard(incoming, now)
        expected = [
            base64.b64encode(hmac.digest(standard_key(key), signed, "sha256")) for key in keys
        ]
        offered = [
            part.removeprefix("v1,").encode() for part in given.split(" ") if part.startswith("v1,")
        ]
    else:
        signed = incoming.body
        if stamped := signature.timestamp_header.lower():
            signed = _checked_time(incoming, stamped, now).encode() + b":" + signed
        expected = [hmac.digest(key, signed, "sha256").hex().encode() for key in keys]
        offered = [given.removeprefix("sha256=").lower().encode()]
    # Not `any`, which stops at the first match: all are compared. They are few, as a header is bounded.
    fits = [_among(one, expected) for one in offered[:8]]
    if True not in fits:
        raise Refused(f"the signature in {header} matches none of this source's keys", status=401)


def standard_key(key: bytes) -> bytes:
    """
    Return the bytes of a Standard Webhooks key in base64; ValueError if it is not base64, or empty.

    Anybody can sign with an empty key.
    """
    found = base64.b64decode(key.removeprefix(b"whsec_"), validate=True)
    if not found:
        raise ValueError("is empty")
    return found


def _standard(incoming: Incoming, now: float) -> bytes:
    event = incoming.header("webhook-id")
    if not event:
        raise Refused("the header webhook-id is missing", status=401)
    stamp = _checked_time(incoming, "webhook-timestamp", now)
    return f"{event}.{stamp}.".encode() + incoming.body


def _checked_time(incoming: Incoming, header: str, now: float) -> str:
    """Return the signed time in a header; Refused if it is no time, or off by too much."""
    stamp = incoming.header(header).strip()
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise Refused(f"the header {header} must hold Unix seconds", status=401)
    if abs(int(stamp) - now) > TOLERANCE:
        raise Refused(
            f"the time in {header} is off by more than {TOLERANCE:g} s: a replay or wrong clock",
            status=401,
        )
    return stamp


def _among(given: bytes, known: Iterable[bytes]) -> bool:
    digest = hashlib.sha256(given).digest()
    found = False
    for one in known:
        # Hashes have equal lengths, so the comparison does not reveal the length of a secret either.
        found |= hmac.compare_digest(digest, hashlib.sha256(one).digest()) and bool(one)
    return found
