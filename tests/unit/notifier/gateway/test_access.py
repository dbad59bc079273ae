"""Secrets of a source: rotation, removal, and what is said of a file that cannot be read."""

from __future__ import annotations

import base64
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock, Mock, call

import pytest

from notifier.gateway import access as access_module
from notifier.gateway.access import Access, Secrets
from notifier.gateway.draft import Incoming, Refused
from notifier.gateway.proofs import (
    AuthSettings,
    BasicSettings,
    BearerSettings,
    ClientCertificateSettings,
    SignatureSettings,
    TokenReviewSettings,
)
from notifier.gateway.tls import Tls
from notifier.gateway.translation import Source
from syncer.model.errors import ConfigError, Unavailable


def test_a_replaced_secret_is_accepted_within_seconds(tmp_path: Path) -> None:
    """Files are read anew every five seconds; a removed one is accepted no longer."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("a\n")
    now = 0.0
    secrets = Secrets((str(old), str(new)), "tokenFiles", lambda: now)
    assert secrets.current() == (b"a",)
    new.write_text("b\n")
    now = 4.9
    assert secrets.current() == (b"a",)
    now = 5.0
    assert secrets.current() == (b"a", b"b")
    old.unlink()
    now = 10.0
    assert secrets.current() == (b"b",)
    new.unlink()
    now = 15.0
    with pytest.raises(Unavailable, match="no secret of tokenFiles"):
        secrets.current()


def test_a_secret_that_is_left_out_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Senders that use it get 401: the line says why, again only for another reason, and quotes nothing."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text("a\n")
    now = 0.0
    secrets = Secrets((str(good), str(bad)), "tokenFiles", lambda: now)
    for content in (None, None, b"", b"b\n", None):
        bad.unlink(missing_ok=True)
        if content is not None:
            bad.write_bytes(content)
        now += 5.0
        assert secrets.current()[0] == b"a"
    lines = [vars(record) for record in caplog.records]
    assert {(line["message"], line["file"]) for line in lines} == {
        ("a secret of the gateway is left out", str(bad))
    }
    errors = [line["error"] for line in lines]
    assert (len(errors), errors[0] == errors[2] != errors[1]) == (3, True), errors


def test_a_source_needs_a_secret_that_can_be_read(tmp_path: Path) -> None:
    """At the start a source without any usable secret is an error with the key, quoting nothing."""
    with pytest.raises(ConfigError, match=r"^auth\.bearer\.tokenFiles: cannot be read"):
        proofs(AuthSettings(bearer=BearerSettings(token_files=("/none",))))
    file = tmp_path / "key"
    given = SignatureSettings(scheme="standard-webhooks", key_files=(str(file),))
    text = r"^auth\.signature\.keyFiles: holds a key that is empty or not base64$"
    # Anybody can sign with the empty key.
    for key in ("no base64 §", "whsec_\n"):
        file.write_text(key)
        with pytest.raises(ConfigError, match=text):
            proofs(AuthSettings(signature=given))


def proofs(auth: AuthSettings, **more: Any) -> Access:
    """Return the access to a source whose clock stands still."""
    source = SimpleNamespace(name="am", namespaces=("ns",))
    usual: dict[str, Any] = {"source": source, "review": AsyncMock(), "tls": None}
    return Access(auth, "auth", lambda: 0.0, **(usual | more))


def test_a_proof_that_nobody_can_check_ends_the_start() -> None:
    """A source that asks for a certificate is never served without what checks it."""
    auth = AuthSettings(client_certificate=ClientCertificateSettings(ca_files=("f",)))
    with pytest.raises(ConfigError, match=r"auth\.clientCertificate: needs `tls`"):
        proofs(auth)


async def test_every_proof_must_hold(tmp_path: Path) -> None:
    """A token and a signature: one without the other is refused."""
    file = tmp_path / "secret"
    file.write_text("s")
    auth = AuthSettings(
        bearer=BearerSettings(token_files=(str(file),)),
        signature=SignatureSettings(scheme="flux", key_files=(str(file),)),
    )
    access = proofs(auth)
    request = Incoming({"authorization": "Bearer s"}, b"")
    await access.check_sender(request)
    with pytest.raises(Refused, match="x-signature is missing"):
        access.check_body(request, 0.0)
    with pytest.raises(Refused, match="this source's tokens"):
        await access.check_sender(Incoming({}, b""))


async def test_each_proof_of_a_source_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate and a password before anything is read; the API server behind them, for its source."""
    file = tmp_path / "secret"
    file.write_text("s")
    source = cast("Source", SimpleNamespace(name="am", namespaces=("ns",)))
    tls = cast("Tls", SimpleNamespace(anchors=lambda name: f"anchors of {name}"))
    missing = Refused("no certificate", status=401)
    certificate, review = Mock(side_effect=[None, missing, None, None]), AsyncMock()
    monkeypatch.setattr(access_module, "check_certificate", certificate)
    names = ("dns:am.example.com",)
    certificates = ClientCertificateSettings(ca_files=("f",), names=names)
    basic = AuthSettings(
        basic=BasicSettings(user="u", password_files=(str(file),)), client_certificate=certificates
    )
    access = proofs(basic, source=source, tls=tls)
    password = "Basic " + base64.b64encode(b"u:s").decode()
    incoming = Incoming({"authorization": password}, b"", certificate=cast("Any", "theirs"))
    await access.check_sender(incoming)
    with pytest.raises(Refused, match="no certificate"):
        await access.check_sender(Incoming({"authorization": password}, b""))
    with pytest.raises(Refused):
        await access.check_sender(Incoming({}, b"", certificate=cast("Any", "theirs")))
    reviewed = AuthSettings(token_review=TokenReviewSettings(audiences=("gateway",)))
    access = proofs(reviewed, source=source, review=review)
    await access.check_sender(incoming)
    review.assert_awaited_once_with(incoming, source, ("gateway",))
    assert certificate.call_count == 3
    await proofs(basic, source=source, tls=tls).check_sender(incoming)
    assert certificate.call_args_list == [
        call(theirs, "anchors of am", names) for theirs in ("theirs", None, "theirs", "theirs")
    ]
