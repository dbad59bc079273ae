"""What is said of an error on the way, and what of an answer, when texts of libraries may not be."""

from __future__ import annotations

import errno
import html
import json
import socket
import ssl
from collections.abc import Callable
from itertools import pairwise
from urllib.parse import quote, quote_plus

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


def test_chain_has_an_end() -> None:
    """A circle is walked once, and of a long chain sixteen links are looked at."""
    one, two = ValueError("1"), ValueError("2")
    one.__cause__, two.__cause__ = two, one
    assert chain_of(one) == [one, two]
    links = [ValueError(str(n)) for n in range(40)]
    assert chain_of(_caused(*links)) == links[:16]


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


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("x" * 1_024, "x" * 1_024), ("x" * 1_025, "x" * 1_021 + "…"),
        ("é" * 512, "é" * 512), ("é" * 513, "é" * 510 + "…"), ("🚨" * 257, "🚨" * 255 + "…"),
    ],
    ids=["a kibibyte", "a byte more", "two bytes each", "one more", "four bytes each"],
)  # fmt: skip
def test_excerpt_is_a_kibibyte(text: str, wanted: str) -> None:
    """Of an answer a kibibyte is shown, cut at a character."""
    assert excerpt(text) == wanted


def test_secrets_of_an_excerpt() -> None:
    """Each secret is replaced as a whole, also where it holds another one."""
    found = excerpt("a key-12345-long b key-12345 c\x1b[2J", ["key-12345", "key-12345-long"])
    assert found == f"a {REDACTED} b {REDACTED} c\ufffd[2J"


SPELT: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in capitals": str.upper,
    "in a URL": lambda s: quote(s, safe=""),
    "in a path": quote,
    "in a form": quote_plus,
    "in a URL, in lower case": lambda s: quote(s, safe="").lower(),
    "in a URL inside of another": lambda s: quote(quote(s, safe=""), safe=""),
    "in JSON": json.dumps,
    "in JSON as PHP writes it": lambda s: json.dumps(s).replace("/", "\\/"),
    "in JSON as Go writes it": lambda s: json.dumps(s).replace("&", "\\u0026"),
    "in HTML": html.escape,
    "in HTML as Go writes it": lambda s: html.escape(s).replace("+", "&#43;"),
    "in HTML as .NET writes it": lambda s: html.escape(s).replace("+", "&#x2B;"),
}


@pytest.mark.parametrize("way", SPELT)
@pytest.mark.parametrize(
    "secret",
    ["Zk9+q/8w=LmR2&tT7$x1", 'a"b\\c&d%e', "pässwörd-日本", "plain0123", "two words & more"],
)
def test_a_secret_in_another_spelling(way: str, secret: str) -> None:
    """What a receiver repeats is found as its language writes it, too."""
    found = excerpt(f"said: {SPELT[way](secret)}; {secret}", [secret])
    assert found.replace('"', "") == f"said: {REDACTED}; {REDACTED}"


def test_a_word_as_a_secret_takes_no_other_word() -> None:
    """A part of a URL may be one; in a sentence it is written otherwise."""
    secrets = ["Webhooks", "alerts-Prod"]
    text = "Webhooks: no webhooks for Alerts-prod, alerts%2dProd, alerts-Prod"
    wanted = f"{REDACTED}: no webhooks for Alerts-prod, {REDACTED}, {REDACTED}"
    assert excerpt(text, secrets) == wanted


def test_a_secret_that_holds_a_spelling() -> None:
    """As it is, one is found whatever stands in it."""
    assert excerpt("said: x&amp;y%25z", ["x&amp;y%25z"]) == f"said: {REDACTED}"


def test_what_is_almost_a_secret_takes_no_time() -> None:
    """Forms of a character that are the same text are not tried in all combinations."""
    secret = "/" * 200
    assert excerpt("/" * 199 + "x", [secret]) == "/" * 199 + "x"


def test_an_answer_of_secrets_is_looked_at_in_part() -> None:
    """Where little of much is left, no more is looked for; the last token is left out whole."""
    block = f"-----BEGIN PRIVATE KEY-----{'A1b2 ' * 1_500}-----END PRIVATE KEY-----"
    assert excerpt(f"{block} token {'t' * 4_000} behind") == f"{REDACTED} token"
