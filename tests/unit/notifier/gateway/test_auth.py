"""Who may send: tokens, passwords and signatures, with what each scheme documents."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Final

import pytest

from notifier.gateway.auth import (
    check_basic,
    check_bearer,
    check_certificate,
    check_signature,
)
from notifier.gateway.draft import Certificate, Incoming, Refused
from notifier.gateway.proofs import SignatureSettings

NOW: Final = 1_795_752_000.0
BODY: Final = b'{"a":1}'
KEYS: Final = (b"old", b"new")


def incoming(**headers: str) -> Incoming:
    """A request."""
    return with_body(BODY, **headers)


def with_body(body: bytes, **headers: str) -> Incoming:
    """A request with another body."""
    return Incoming({k.replace("_", "-"): v for k, v in headers.items()}, body)


def digest(key: bytes, signed: bytes) -> str:
    """A signature in hex."""
    return hmac.new(key, signed, hashlib.sha256).hexdigest()


def refusal(check: Callable[..., object], *given: object) -> str:
    """Why a request is refused, with 401; empty if it is let in."""
    try:
        check(*given)
    except Refused as refused:
        return str(refused) if refused.status == 401 else f"not with 401: {refused.status}"
    return ""


@pytest.mark.parametrize(
    ("header", "fits"),
    [
        ("Bearer old", True), ("bearer new", True), ("Bearer other", False), ("Bearer ", False),
        ("Bearer", False), ("old", False), ("", False), ("Basic old", False), ("Bearer ol", False),
    ],
)  # fmt: skip
def test_a_bearer_token(header: str, fits: bool) -> None:
    """Any of the tokens is accepted, and nothing else; an empty token never fits."""
    refused = refusal(check_bearer, incoming(authorization=header), (*KEYS, b""))
    assert (not refused) is fits


def encoded(pair: str) -> str:
    """A user and a password as they are sent."""
    return base64.b64encode(pair.encode()).decode()


@pytest.mark.parametrize(
    ("pair", "fits"),
    [
        (encoded("me:old"), True), (encoded("me:new"), True), (encoded("you:old"), False),
        (encoded("me:"), False), (encoded("me"), False), ("§", False),
        ("!".join(encoded("me:old")), False),
    ],
)  # fmt: skip
def test_a_user_and_a_password(pair: str, fits: bool) -> None:
    """The user, and any of the passwords; text that is no base64 is refused like a wrong one."""
    refused = refusal(check_basic, incoming(authorization=f"Basic {pair}"), "me", KEYS)
    assert ("user and password" in refused) is not fits


def signed_by(scheme: str, **more: str) -> SignatureSettings:
    """How a source's requests are signed."""
    return SignatureSettings.model_validate({"scheme": scheme, "keyFiles": ["k"], **more})


def test_github_s_own_example() -> None:
    """The key and the body of its documentation have the signature of its documentation."""
    sent = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    request = with_body(b"Hello, World!", x_hub_signature_256=sent)
    check_signature(request, signed_by("github"), (b"It's a Secret to Everybody",), NOW)


@pytest.mark.parametrize("key", KEYS)
def test_signatures_of_the_body(key: bytes) -> None:
    """Flux and GitHub write the algorithm before the signature, Grafana does not; each key is accepted."""
    for scheme, header, prefix in (
        ("flux", "x_signature", "sha256="),
        ("github", "x_hub_signature_256", "sha256="),
        ("grafana", "x_grafana_alerting_signature", ""),
    ):
        signature = signed_by(scheme)
        signed = {header: prefix + digest(key, BODY)}
        assert refusal(check_signature, incoming(**signed), signature, KEYS, NOW) == ""
        others = {header: prefix + digest(b"other", BODY)}
        for wrong in (incoming(**others), with_body(BODY + b" ", **signed)):
            assert "matches none" in refusal(check_signature, wrong, signature, KEYS, NOW)
        assert "is missing" in refusal(check_signature, incoming(), signature, KEYS, NOW)


def test_grafana_signs_the_time_where_it_is_told_to() -> None:
    """The time is part of what is signed, and may be off by the tolerance; one of twelve digits is one."""
    signature, now = signed_by("grafana", timestampHeader="X-Time"), int(NOW)
    for stamp, said in (
        (now - 300, ""), (now + 300, ""), (now - 301, "off by more than 300 s"),
        (now + 301, "off by more than 300 s"), ("9" * 12, "off by more than 300 s"),
        *((odd, "x-time must hold Unix seconds") for odd in ("", "soon", "-1", "\u0661", "9" * 13)),
    ):  # fmt: skip
        signed = digest(b"new", f"{stamp}:".encode() + BODY)
        request = incoming(x_time=str(stamp), x_grafana_alerting_signature=signed)
        refused = refusal(check_signature, request, signature, KEYS, NOW)
        assert said in refused if said else not refused, stamp
    unsigned = incoming(x_time=str(now), x_grafana_alerting_signature=digest(b"new", BODY))
    assert "matches none" in refusal(check_signature, unsigned, signature, KEYS, NOW)


def test_standard_webhooks() -> None:
    """Id, time and body are signed; of a list of signatures one has to fit; a replay is refused."""
    secret = b"whsec_" + base64.b64encode(b"k" * 24)
    stamp = str(int(NOW))
    signed = f"m1.{stamp}.".encode() + BODY
    good = base64.b64encode(hmac.digest(b"k" * 24, signed, "sha256")).decode()
    signature = signed_by("standard-webhooks")

    def request(**more: str) -> Incoming:
        headers = {
            "webhook_id": "m1", "webhook_timestamp": stamp,
            "webhook_signature": f"v1a,x v1,AAAA v1,{good}",
        }  # fmt: skip
        return incoming(**headers | more)

    assert refusal(check_signature, request(), signature, (secret,), NOW) == ""
    for more, text in (
        ({"webhook_id": "m2"}, "matches none"),
        ({"webhook_id": ""}, "webhook-id is missing"),
        ({"webhook_timestamp": str(int(NOW) - 301)}, "off by more"),
        ({"webhook_signature": "v1a," + good}, "matches none"),
        ({"webhook_signature": ""}, "webhook-signature is missing"),
    ):
        assert text in refusal(check_signature, request(**more), signature, (secret,), NOW)


def test_of_a_list_of_signatures_eight_are_looked_at() -> None:
    """A sender has few keys; whoever sends thousands makes nobody compare them all."""
    secret = base64.b64encode(b"k" * 24)
    stamp = str(int(NOW))
    good = base64.b64encode(hmac.digest(b"k" * 24, f"m1.{stamp}.".encode() + BODY, "sha256"))
    for others, fits in ((7, True), (8, False)):
        listed = " ".join(["v1,AAAA"] * others + [f"v1,{good.decode()}"])
        request = incoming(webhook_id="m1", webhook_timestamp=stamp, webhook_signature=listed)
        refused = refusal(check_signature, request, signed_by("standard-webhooks"), (secret,), NOW)
        assert ("matches none" in refused) is not fits


CERTIFICATE: Final = Certificate((b"client", b"between", b"authority"), ("dns:a", "uri:spiffe://a"))
#: Of the client, the authorities that a source trusts, the names that it takes, and what is refused.
CERTIFICATES: Final[dict[str, tuple[Certificate | None, set[bytes], tuple[str, ...], str]]] = {
    "any of this authority": (CERTIFICATE, {b"other", b"authority"}, (), ""),
    "one of several names": (CERTIFICATE, {b"authority"}, ("dns:b", "uri:spiffe://a"), ""),
    "none at all": (None, {b"authority"}, (), "a client certificate of an authority"),
    "another authority's": (CERTIFICATE, {b"other"}, (), "a client certificate of an authority"),
    "another authority's, of the name": (
        CERTIFICATE, {b"other"}, ("dns:a",), "a client certificate of an authority",
    ),
    "another name": (CERTIFICATE, {b"authority"}, ("dns:b",), "has none of this source's names"),
    "a name of another kind": (CERTIFICATE, {b"authority"}, ("cn:a",), "has none of this source's"),
}  # fmt: skip


@pytest.mark.parametrize("case", CERTIFICATES)
def test_a_client_s_certificate(case: str) -> None:
    """One of the source's authorities vouches for it, and it bears one of the source's names."""
    certificate, anchors, names, said = CERTIFICATES[case]
    refused = refusal(check_certificate, certificate, frozenset(anchors), names)
    assert said in refused if said else not refused


def test_no_reason_quotes_what_was_sent() -> None:
    """What a refusal says holds neither the secret nor what was offered."""
    bearer, signed = (
        incoming(authorization="Bearer offered"),
        incoming(x_signature="sha256=offered"),
    )
    for reason in (
        refusal(check_bearer, bearer, (b"hidden",)),
        refusal(check_signature, signed, signed_by("flux"), (b"hidden",), NOW),
    ):
        assert reason
        assert "offered" not in reason
        assert "hidden" not in reason
