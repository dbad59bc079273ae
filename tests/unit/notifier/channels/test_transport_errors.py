"""What is said of an error on the way, and what of an answer, when texts of libraries may not be."""

from __future__ import annotations

import errno
import socket
import ssl
from itertools import pairwise

import pytest

from notifier.channels.egress import EgressDenied
from notifier.channels.transport_errors import chain_of, describe, excerpt, lasting_fault
from notifier.content.redaction import REDACTED
from notifier.contract import Outcome


def _caused(*links: BaseException) -> BaseException:
    for outer, inner in pairwise(links):
        outer.__cause__ = inner
    return links[0]


def test_chain_is_what_caused_an_error() -> None:
    """An error and its causes, outermost first, those that a library keeps as members included."""
    inner, middle, outer = OSError(1, "x"), ValueError("x"), RuntimeError("x")
    assert chain_of(_caused(outer, middle, inner)) == [outer, middle, inner]
    wrapped, certificate = OSError("y"), ValueError("z")
    odd = RuntimeError("w")
    odd.os_error = wrapped  # type: ignore[attr-defined]  # as a library has it
    assert chain_of(_caused(odd, middle)) == [odd, wrapped, middle, inner]
    strange = RuntimeError("v")
    strange.certificate_error = certificate  # type: ignore[attr-defined]  # as a library has it
    assert chain_of(strange) == [strange, certificate]
    strange.certificate_error = "no error"  # type: ignore[attr-defined]  # nor this
    assert chain_of(strange) == [strange]


CODES = {
    2: "unknown issuer", 9: "certificate is not yet valid", 10: "certificate has expired",
    18: "self-signed certificate", 19: "self-signed certificate in the chain",
    20: "unknown authority", 21: "unknown authority", 23: "certificate revoked",
    26: "certificate is not for servers", 62: "host name mismatch", 64: "IP address mismatch",
    99: "verify code 99",
}  # fmt: skip


@pytest.mark.parametrize("code", CODES)
def test_why_a_certificate_is_not_accepted(code: int) -> None:
    """OpenSSL's codes have words of ours; what has none is named by its number."""
    error = ssl.SSLCertVerificationError("secret.example")
    error.verify_code = code
    wrapper = ssl.SSLCertVerificationError("of a library, without a code")
    assert lasting_fault([ValueError("x"), wrapper, error], written=False) == Outcome.mistaken(
        f"TLS certificate validation failed (permanent failure - BR-NOT-058): {CODES[code]}"
    )
    assert lasting_fault([wrapper, OSError("x")], written=False) is None
    assert lasting_fault([error], written=True) is None


@pytest.mark.parametrize("written", [False, True])
def test_a_denied_address_stays_denied(*, written: bool) -> None:
    """Whatever it was wrapped in, and whatever had left before."""
    links = [OSError("x"), EgressDenied("private address")]
    assert lasting_fault(links, written=written) == Outcome.permanent(
        "egress denied: private address"
    )


def _tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, "secret.example")
    error.reason = reason
    return error


ERRORS: dict[str, tuple[BaseException, str]] = {
    "a name": (socket.gaierror(-2, "secret.example"), "the host name did not resolve"),
    "TLS": (_tls("WRONG_VERSION_NUMBER"), "TLS handshake failed (WRONG_VERSION_NUMBER)"),
    "TLS without a reason": (_tls(""), ""),
    "a connection": (
        ConnectionRefusedError(errno.ECONNREFUSED, "secret.example"),
        "connection refused (ECONNREFUSED)",
    ),
    "an error without a number": (OSError("secret.example"), ""),
    "a number that none has": (OSError(99_999, "secret.example"), ""),
    "another error": (ValueError("secret.example"), ""),
}


@pytest.mark.parametrize("case", ERRORS)
def test_words_for_an_error(case: str) -> None:
    """What is known of an error is said in words of ours; of the rest nothing is."""
    error, wanted = ERRORS[case]
    assert describe([error]) == wanted
    assert describe([ValueError("x"), error, OSError(errno.EPIPE, "y")]) == (
        wanted or "broken pipe (EPIPE)"
    )


def test_secrets_of_an_excerpt() -> None:
    """Each secret is replaced as a whole, also where it holds another one."""
    found = excerpt("a key-12345-long b key-12345 c\x1b[2J", ["key-12345", "key-12345-long"])
    assert found == f"a {REDACTED} b {REDACTED} c\ufffd[2J"
