"""E-mail: the message, what a session comes to, and that no recipient gets it twice."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes
from email.header import decode_header, make_header
from email.utils import parseaddr
from pathlib import Path
from typing import Any

import pytest

from notifier.channels import mail_message
from notifier.channels.egress import EgressGuard
from notifier.channels.email import (
    EmailChannel,
    MailClient,
    address_literal,
    announced_size,
    secrets_of,
)
from notifier.channels.http import HttpClient
from notifier.channels.mail_message import MESSAGE_BYTES, mail, mail_facts
from notifier.channels.registry import ChannelRegistry
from notifier.content.trim import TRUNCATED
from notifier.contract import Outcome
from notifier.routing.mail import Security, recipient_tag
from notifier.routing.models import EmailConfig
from syncer.model.attempt import AttemptState, FailureClass
from syncer.runtime.offload import SMALL, offload
from tests.beside import eventually
from tests.channels.mailserver import CUT, HANG, Arrived, MailServer, mail_server, scripted
from tests.channels.messages import mail_entry, message, untrimmed
from tests.channels.receiver import Certificates, closed_port
from tests.channels.rig import Rig

NOW = 1_700_000_000
OPS = mail_entry("alerts@sender.example", "ops@receiver.example", "Alerts")
TRANSIENT, PERMANENT = FailureClass.TRANSIENT, FailureClass.PERMANENT
#: How the test's server is told to encrypt.
ENCRYPTION = {Security.STARTTLS: "starttls", Security.IMPLICIT: "tls"}


@pytest.fixture
def mail_door() -> Iterator[MailClient]:
    """Return a door that trusts the system's authorities only."""
    mail_client = MailClient()
    yield mail_client
    mail_client.close()


@pytest.fixture
def trusting(certificates: Certificates) -> Iterator[MailClient]:
    """Return a door that trusts the test's authority."""
    mail_client = MailClient(ca_file=str(certificates.ca))
    yield mail_client
    mail_client.close()


def served(host: str, port: int, security: Security, username: str = "") -> EmailConfig:
    """The entry of a server."""
    server = {"host": host, "port": port, "security": security, "username": username}
    return OPS.model_copy(update=server)


def channel(
    mail_client: MailClient,
    port: int,
    security: Security = Security.NONE,
    *,
    host: str = "127.0.0.1",
    username: str = "",
    password: str = "",
    timeout_s: float = 20.0,
) -> EmailChannel:
    """A channel to a server of the test."""
    return EmailChannel(
        mail_client,
        served(host, port, security, username),
        password=lambda: password,
        timeout_s=timeout_s,
        clock=lambda: NOW * 1000,
    )


# -- the message ----------------------------------------------------------------------------------


def test_golden_message() -> None:
    """The message is exactly the documented one: headers, body, facts, links."""
    made = message(
        "email:ops",
        "3.14-2",
        body="it is **full**\n\n.\nend ",
        severity="critical",
        context={
            "analysis": {"rootCause": "logs"},
            "workflow": {"confidence": "0.9"},
            "target": {"targetResource": "Node/a"},
            "lineage": {"remediationRequest": "rr"},
        },
        actionLinks=[{"service": "grafana", "url": "https://g.example/d/1", "label": "Graph"}],
    )
    assert mail(made, OPS, NOW).decode() == (
        "From: Alerts <alerts@sender.example>\r\n"
        "To: ops@receiver.example\r\n"
        "Subject: CRITICAL: Disk full\r\n"
        "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
        f"Message-ID: <{made.idempotency_key}@sender.example>\r\n"
        "Auto-Submitted: auto-generated\r\n"
        "X-Notification-Attempt: 3.14-2\r\n"
        "MIME-Version: 1.0\r\n"
        'Content-Type: text/plain; charset="utf-8"\r\n'
        "Content-Transfer-Encoding: quoted-printable\r\n"
        "Importance: high\r\n"
        "\r\n"
        "it is **full**\r\n\r\n=2E\r\nend=20\r\n\r\n---\r\n"
        "Priority: Critical\r\n"
        "Type: Escalation\r\n"
        "Severity: critical\r\n"
        "Root cause: logs\r\n"
        "Confidence: 0.9\r\n"
        "Affected resource: Node/a\r\n"
        "Command: kubectl kubernaut chat rar/rr -n ops\r\n"
        "Notification: ops/disk-full\r\n"
        "Graph: https://g.example/d/1\r\n"
    )


SUBJECTS: dict[str, tuple[str, str]] = {
    "plain": ("Disk full", "CRITICAL: Disk full"),
    "letters beyond ASCII": ("Größe: 🚨 満杯", "CRITICAL: Größe: 🚨 満杯"),
    "long": ("word " * 100, "CRITICAL: " + ("word " * 100)[:489] + "…"),
    "long and beyond ASCII": ("é🚨" * 240, "CRITICAL: " + "é🚨" * 240),
    "what looks like an encoded word": ("=?utf-8?q?x?=", "CRITICAL: =?utf-8?q?x?="),
    "another header": ("a\r\nBcc: c@z.example", "CRITICAL: a Bcc: [REDACTED]"),
    "a bare line feed": ("a\nBcc: b", "CRITICAL: a Bcc: b"),
    "a folded line": ("a\r\n b", "CRITICAL: a  b"),
    "line ends of Unicode": ("a\u2028b\u2029c\x85d\x0be", "CRITICAL: a b c d e"),
    "directions of writing": ("a\u202ecba\u202c \u2067x\u2069.", "CRITICAL: acba x."),
    "marks of a language": ("\u05d0\u200f!", "CRITICAL: \u05d0!"),
    "NUL": ("a\0b", "CRITICAL: a\ufffdb"),
    "a lone surrogate": ("a\ud800b", "CRITICAL: a\ufffd\ufffd\ufffdb"),
}


@pytest.mark.parametrize("case", SUBJECTS)
def test_subject(case: str) -> None:
    """A subject arrives as it was written; nothing in it becomes a header of its own."""
    text, wanted = SUBJECTS[case]
    content = mail(message(subject=text), OPS, NOW)
    arrived = Arrived("", (), content, tls=False, user="").mail
    assert arrived["Subject"] == wanted
    assert arrived["Bcc"] is None
    assert max(map(len, content.partition(b"\r\n\r\n")[0].split(b"\r\n"))) < 200
    assert content.count(b"\r\n\r\n---\r\n") == 1


def test_name_of_the_sender_is_encoded() -> None:
    """A name beyond ASCII, or with quotes, arrives as it was written."""
    for name in ("Jürgen 🚨 " * 9, 'a "b" \\ c', "a, b"):
        content = mail(message(), mail_entry("a@x", "b@y", name.strip()), NOW)
        # The standard library's newer parser puts blanks between encoded words of a name.
        value = str(make_header(decode_header(message_from_bytes(content)["From"])))
        assert parseaddr(value) == (name.strip(), "a@x")


def test_no_fact_turns_its_direction() -> None:
    """A line that we put below the body reads as it is written: a command above all is copied."""
    turned = "a\u202ecba\u202c \u2066x\u2069 \u05d0\u200f"
    facts = mail_facts(message(context={"target": {"targetResource": turned}}))
    assert "Affected resource: acba x \u05d0" in facts.split("\r\n")


def test_headers_that_hold_a_line_break_are_refused() -> None:
    """Whatever way a line break comes by, no header is written with it."""
    for envelope in (mail_entry("a@x\r\nBcc: c@z", "b@y"), mail_entry("a@x", "b@y\nBcc: c@z")):
        with pytest.raises(ValueError, match="cannot be written"):
            mail(message(), envelope, NOW)
    with pytest.raises(ValueError, match="header X-Notification-Attempt cannot be written"):
        mail(message(attempt="1\r\nBcc: c@z"), OPS, NOW)


def test_attempts_differ_in_date_and_attempt_only() -> None:
    """Message-ID and body are the same for each attempt: a repeat can be known as one."""
    one = mail(message("email:ops", "0.5-1"), OPS, NOW).split(b"\r\n")
    two = mail(message("email:ops", "0.5-2"), OPS, NOW + 60).split(b"\r\n")
    assert [a.partition(b":")[0] for a, b in zip(one, two, strict=True) if a != b] == [
        b"Date", b"X-Notification-Attempt",
    ]  # fmt: skip
    other = mail(message("email:other"), OPS, NOW)
    assert b"Message-ID: <" + message("email:other").idempotency_key.encode() in other
    assert one[4] not in other.split(b"\r\n")


@pytest.mark.parametrize("unit", ["x", "é", "😀", "=", "\n", " ", "\n.", "\r"])
def test_long_body_is_cut(unit: str) -> None:
    """A body larger than a message may be is cut at a character, marked, and its facts stay."""
    content = mail(untrimmed(body=unit * 600_000), OPS, NOW)
    text = Arrived("", (), content, tls=False, user="").text
    body, _, below = text.partition("\n\n---\n")
    assert MESSAGE_BYTES - 100 < len(content) <= MESSAGE_BYTES
    assert body.endswith(f"\n{TRUNCATED}")
    assert set(body.removesuffix(TRUNCATED)) <= set(unit.replace("\r", "\n")) | {"\n"}
    assert below.endswith("Notification: ops/disk-full\n")
    assert max(map(len, content.split(b"\r\n"))) <= 100
    assert content.count(b"\r") == content.count(b"\n") == content.count(b"\r\n")


@pytest.mark.parametrize("unit", ["word ", "é", "=", "a line\n", " ", "\n.", "x \n"])
def test_cutting_is_no_search(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long body is encoded a few times, whatever it holds: each time the whole process waits."""
    lengths: list[int] = []
    encode = mail_message._quoted_printable

    def counted(text: str) -> bytes:
        lengths.append(len(text))
        return encode(text)

    monkeypatch.setattr(mail_message, "_quoted_printable", counted)
    mail(untrimmed(body=unit * (1_000_000 // len(unit))), OPS, NOW)
    assert sum(length > 10_000 for length in lengths) in (2, 3, 4)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("", MESSAGE_BYTES), ("0", MESSAGE_BYTES), ("1000", 1000), ("9" * 30, MESSAGE_BYTES),
     ("x", MESSAGE_BYTES), ("-5", MESSAGE_BYTES), ("\u0665", MESSAGE_BYTES)],
)  # fmt: skip
def test_announced_size(text: str, wanted: int) -> None:
    """A server may lower the limit, and garbage changes nothing."""
    assert announced_size(text) == wanted


def test_address_literal() -> None:
    """A client without a name introduces itself by its address."""
    assert address_literal("10.0.0.1") == "[10.0.0.1]"
    assert address_literal("fe80::1%eth0") == "[IPv6:fe80::1]"


# -- a real server --------------------------------------------------------------------------------


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.IMPLICIT])
async def test_tls(trusting: MailClient, certificates: Certificates, security: Security) -> None:
    """A message goes to a server that demands STARTTLS, or speaks TLS from the start, whole."""
    body = "first\n.\n..two\n. MAIL FROM:<x>\r\n.\r\nlast " + "é" * 300
    async with mail_server(**{ENCRYPTION[security]: certificates.context("mail")}) as server:
        outcome = await channel(trusting, server.port, security).send(message(body=body))
        (arrived,) = server.arrived
    assert outcome == Outcome.success(250)
    assert arrived.tls is (security is Security.STARTTLS)  # the other understands nothing but TLS
    assert (arrived.sender, arrived.recipients) == (OPS.sender, (OPS.to,))
    assert arrived.text.partition("\n\n---\n")[0] == body.replace("\r\n", "\n")
    assert arrived.mail["Date"].datetime == datetime.fromtimestamp(NOW, UTC)


async def test_dialogue(mail_door: MailClient) -> None:
    """The whole dialogue: who we are, from whom, to whom, the content, and a polite end."""
    async with scripted({"EHLO": "250-x\r\n250 SIZE 999999"}) as server:
        outcome = await channel(mail_door, server.port).send(message())
        assert outcome == Outcome.success(250)
        size = len(mail(message(), OPS, NOW))
        wanted = [
            "EHLO [127.0.0.1]", f"MAIL FROM:<alerts@sender.example> SIZE={size}",
            "RCPT TO:<ops@receiver.example>", "DATA", "QUIT",
        ]  # fmt: skip
        await eventually(lambda: server.ended)
    assert server.lines == wanted
    assert server.ended == 1


CERTIFICATES: dict[str, tuple[dict[str, Any], str]] = {
    "self-signed": ({"self_signed": True}, "self-signed certificate"),
    "expired": ({"expired": True}, "certificate has expired"),
    "of another host": ({"san": "DNS:elsewhere.example"}, "IP address mismatch"),
}


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.IMPLICIT])
@pytest.mark.parametrize("case", CERTIFICATES)
async def test_bad_certificate_is_permanent(
    trusting: MailClient, certificates: Certificates, case: str, security: Security
) -> None:
    """A server whose certificate does not verify gets no word of the message."""
    made, why = CERTIFICATES[case]
    context = certificates.context(f"mail-{case.replace(' ', '-')}-{security}", **made)
    async with mail_server(**{ENCRYPTION[security]: context}) as server:
        outcome = await channel(trusting, server.port, security).send(message())
        assert server.arrived == []
    assert outcome == Outcome.mistaken(
        f"TLS certificate validation failed (permanent failure - BR-NOT-058): {why}"
    )


#: What a server answers, what the entry asks for, what comes of it, and the commands that it is given.
SHORT: dict[str, tuple[Mapping[str, str], dict[str, Any], Outcome, list[str]]] = {
    "STARTTLS is not offered": (
        {}, {"security": Security.STARTTLS, "username": "u"},
        Outcome.permanent("email server does not offer STARTTLS"), ["EHLO"],
    ),
    "STARTTLS is offered and then refused": (
        {"EHLO": "250-x\r\n250 STARTTLS", "STARTTLS": "454 not now"}, {"security": Security.STARTTLS},
        Outcome.transient(
            "email server returned 454 to STARTTLS (retryable): not now", code=454
        ),
        ["EHLO", "STARTTLS"],
    ),
    "the hello is refused": (
        {"EHLO": "502 what"}, {"username": "u"},
        Outcome.permanent("email server returned 502 to EHLO (permanent failure): what", code=502),
        ["EHLO"],
    ),
    "no method of authentication is supported": (
        {"EHLO": "250-x\r\n250 AUTH GSSAPI"}, {"username": "u"},
        Outcome.permanent("email server offers no authentication that is supported"), ["EHLO"],
    ),
    # A second try could lock the account.
    "the first method of authentication is refused": (
        {"EHLO": "250-x\r\n250 AUTH PLAIN LOGIN CRAM-MD5", "AUTH": "535 no"}, {"username": "u"},
        replace(
            Outcome.permanent("email server returned 535 to AUTH (permanent failure): no", code=535),
            mistake=True,
        ),
        ["EHLO", "AUTH"],
    ),
    "the first method of authentication is refused for now": (
        {"EHLO": "250-x\r\n250 AUTH PLAIN LOGIN CRAM-MD5", "AUTH": "454 later"}, {"username": "u"},
        Outcome.transient("email server returned 454 to AUTH (retryable): later", code=454),
        ["EHLO", "AUTH"],
    ),
    "nothing fits into the size": (
        {"EHLO": "250-x\r\n250 SIZE 300"}, {},
        Outcome.permanent("failed to render email payload: ValueError"), ["EHLO"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SHORT)
async def test_a_dialogue_that_ends_early(mail_door: MailClient, case: str) -> None:
    """A server that lacks what is needed hears neither a password nor an address."""
    answers, given, wanted, verbs = SHORT[case]
    async with scripted(answers) as server:
        outcome = await channel(mail_door, server.port, password="p", **given).send(message())
    assert outcome == wanted
    assert [line.split()[0] for line in server.lines] == verbs


PASSWORD = "smtp-canary-0123456789"


async def test_authentication(trusting: MailClient, certificates: Certificates) -> None:
    """The password is read at each send, so a rotated one serves the next."""
    async with mail_server(starttls=certificates.context("auth")) as server:
        server.users["relay"] = "second"
        passwords = iter(["first", "second"])
        made = EmailChannel(
            trusting,
            served("127.0.0.1", server.port, Security.STARTTLS, "relay"),
            password=lambda: next(passwords),
            timeout_s=20,
        )
        wrong, right = await made.send(message()), await made.send(message())
        assert server.logins == [("relay", "first"), ("relay", "second")]
        assert len(server.arrived) == 1
    assert (wrong.failure, wrong.code) == (PERMANENT, 535)
    assert wrong.error.startswith(
        "permanent failure: email server returned 535 to AUTH (permanent failure): "
    )
    assert right == Outcome.success(250)


async def test_other_methods_of_authentication(mail_door: MailClient) -> None:
    """LOGIN and CRAM-MD5 are used where nothing better is offered."""
    for offered, first in (
        ("LOGIN", "AUTH LOGIN"),
        ("CRAM-MD5", "AUTH CRAM-MD5"),
        ("CRAM-MD5 LOGIN PLAIN", "AUTH PLAIN"),
    ):
        async with scripted({"EHLO": f"250-x\r\n250 AUTH {offered}"}) as server:
            await channel(mail_door, server.port, username="u", password="p").send(message())
        (tried,) = (line for line in server.lines if line.startswith("AUTH"))
        assert tried.startswith(first)


async def test_missing_password_is_not_sent(mail_door: MailClient) -> None:
    """Without its password nothing is dialled, and the error's text stays inside."""

    def missing() -> str:
        raise LookupError("canary")

    entry = served("x", 1, Security.STARTTLS, "u")
    made = EmailChannel(mail_door, entry, password=missing, timeout_s=20)
    assert await made.send(message()) == Outcome.not_sent("email credential is not available")
    for none in (str, None):  # an empty one, and a user without a credential
        empty = EmailChannel(mail_door, entry, password=none, timeout_s=20)
        assert await empty.send(message()) == Outcome.mistaken(
            "email password is empty for notification ops/disk-full"
        )


async def test_smaller_size_of_a_server(mail_door: MailClient) -> None:
    """A server that announces a smaller size gets a message that fits, with a mark."""
    async with mail_server(data_size_limit=20_000) as server:
        outcome = await channel(mail_door, server.port).send(message(body="é" * 30_000))
        (arrived,) = server.arrived
    assert outcome == Outcome.success(250)
    assert 19_000 < len(arrived.content) <= 20_000
    assert TRUNCATED in arrived.text
    assert "Notification: ops/disk-full" in arrived.text


# -- several recipients ---------------------------------------------------------------------------


def _routing(to: str, port: int, more: str = "") -> str:
    return (
        "route: {receiver: ops}\nreceivers:\n"
        f"- {{name: ops, emailConfigs: [{{to: '{to}', from: Alerts of A <n@x.example>,"
        f" smarthost: '127.0.0.1:{port}', {more or 'tls: none'}}}]}}"
    )


def _names(server: MailServer) -> list[str]:
    return [recipient for arrived in server.arrived for recipient in arrived.recipients]


async def test_partial_refusal_sends_to_nobody_twice(
    tmp_path: Path, http_client: HttpClient, mail_door: MailClient
) -> None:
    """Of four recipients two are refused, one for now: the retry goes to that one alone."""
    a, b, c, d = (f"{name}@y.example" for name in "abcd")
    async with mail_server() as server:
        server.refuse = {b: ["550 no such user"], c: ["451 greylisted", "451 greylisted"]}
        rig = Rig(tmp_path, http_client, _routing(f"{a}, {b}, {c}, {d}", server.port), mail_door)
        config = rig.routing.current.config
        names = [name for name, _ in config.receivers[0].channels(config.native)]
        assert names == [f"email:ops:{recipient_tag(each)}" for each in (a, b, c, d)]
        outcomes = [await rig.send(name) for name in names]
        assert [o.failure for o in outcomes] == [None, PERMANENT, TRANSIENT, None]
        assert outcomes[1].error == (
            "permanent failure: email server returned 550 to RCPT (permanent failure): no such user"
        )
        # What the controller does next: only what may be tried again is.
        again = [n for n, o in zip(names, outcomes, strict=True) if o.failure is TRANSIENT]
        assert [(await rig.send(name)).failure for name in again] == [TRANSIENT]
        assert [(await rig.send(name)).state for name in again] == [AttemptState.SUCCESS]
        assert sorted(_names(server)) == [a, c, d]
        assert len({arrived.mail["Message-ID"] for arrived in server.arrived}) == 3
        assert {arrived.mail["From"] for arrived in server.arrived} == {"Alerts of A <n@x.example>"}


async def test_recipient_removed_meanwhile_gets_nothing(
    tmp_path: Path, http_client: HttpClient, mail_door: MailClient
) -> None:
    """A retry meant for somebody who left the list goes to nobody, least of all to the next."""
    async with mail_server() as server:
        rig = Rig(tmp_path, http_client, _routing("a@y, b@y", server.port), mail_door)
        name = f"email:ops:{recipient_tag('a@y')}"
        assert rig.channels.channel(name) is not None
        rig.file.write_text(_routing("b@y", server.port))
        await rig.reload()
        assert rig.channels.channel(name) is None
        assert rig.channels.channel("email:ops") is not None


async def test_password_comes_from_the_credentials_folder(
    tmp_path: Path, http_client: HttpClient, trusting: MailClient, certificates: Certificates
) -> None:
    """A password is named in the routing file and kept elsewhere; it rotates without a reload."""
    async with mail_server(starttls=certificates.context("rotate")) as server:
        server.users["relay"] = "new-password"
        text = _routing("a@y", server.port, "username: relay, credentialRef: smtp")
        rig = Rig(tmp_path, http_client, text, trusting, smtp="old-password\n")
        assert (await rig.send("email:ops")).code == 535
        (rig.credentials / "smtp").write_text("new-password\n")
        await rig.reload()
        assert await rig.send("email:ops") == Outcome.success(250)
        assert [p for _, p in server.logins] == ["old-password", "new-password"]


async def test_switched_off_there_is_no_channel(
    tmp_path: Path, http_client: HttpClient, mail_door: MailClient
) -> None:
    """Without the switch, and for an entry that is not complete, upstream's answer stays."""
    rig = Rig(tmp_path, http_client, _routing("a@y", 25, "tls: none"), mail_door)
    snapshot = rig.routing.current
    off = ChannelRegistry(
        lambda: snapshot,
        http_client,
        http_timeout=1,
        file=None,
        log=None,
        mail_timeout=1,
        dedup_namespace=False,
    )
    assert rig.channels.channel("email:ops") is not None
    assert off.channel("email:ops") is None
    rig.file.write_text("route: {receiver: r}\nreceivers: [{name: r, emailConfigs: [{to: a@y}]}]")
    await rig.reload()
    assert rig.channels.channel("email:r") is None


# -- what goes wrong ------------------------------------------------------------------------------

ANSWERS: dict[str, tuple[Mapping[str, str | bytes], FailureClass | None, int, str]] = {
    "taken": ({}, None, 250, ""),
    "the lowest code of success": ({"content": "200 ok"}, None, 200, ""),
    "the highest code of success": ({"content": "299 ok"}, None, 299, ""),
    "the lowest code of a refusal for now": ({"RCPT": "400 x"}, TRANSIENT, 400, "400 to RCPT"),
    "the highest code of a refusal for now": ({"RCPT": "499 x"}, TRANSIENT, 499, "499 to RCPT"),
    "the lowest code of a refusal for good": ({"RCPT": "500 x"}, PERMANENT, 500, "500 to RCPT"),
    "the highest code of a refusal for good": ({"RCPT": "599 x"}, PERMANENT, 599, "599 to RCPT"),
    "a code above all": ({"RCPT": "600 x"}, TRANSIENT, 0, "to RCPT that means nothing"),
    "a code above success": (
        {"content": "300 x"}, FailureClass.UNCERTAIN, 0, "to the message that means nothing",
    ),
    "success before the content": ({"DATA": "250 x"}, TRANSIENT, 0, "to DATA that means nothing"),
    "closed at the hello": ({"EHLO": "421 bye"}, TRANSIENT, 421, "421 to EHLO (retryable): bye"),
    "will forward": ({"RCPT": "251 user not local"}, None, 250, ""),
    "closed for now": ({"connect": "421 too busy"}, TRANSIENT, 421, "421 to the connection"),
    "closed for good": ({"connect": "554 go away"}, PERMANENT, 554, "554 to the connection"),
    "sender refused": ({"MAIL": "553 not you"}, PERMANENT, 553, "553 to MAIL"),
    "no space": ({"MAIL": "452 disk"}, TRANSIENT, 452, "452 to MAIL"),
    "greylisted": ({"RCPT": "450 4.2.0 later"}, TRANSIENT, 450, "450 to RCPT"),
    "no such user": ({"RCPT": "550 5.1.1 none"}, PERMANENT, 550, "550 to RCPT"),
    "closing": ({"RCPT": "421 bye"}, TRANSIENT, 421, "421 to RCPT"),
    "no data for now": ({"DATA": "451 later"}, TRANSIENT, 451, "451 to DATA"),
    "no data": ({"DATA": "554 no"}, PERMANENT, 554, "554 to DATA"),
    "content put off": ({"content": "452 later"}, TRANSIENT, 452, "452 to the message"),
    "content refused": ({"content": "550 spam"}, PERMANENT, 550, "550 to the message"),
    "nonsense for MAIL": ({"MAIL": "299 eh"}, TRANSIENT, 0, "an answer to MAIL that means nothing"),
    "nonsense for content": (
        {"content": "354 go on"}, FailureClass.UNCERTAIN, 0, "to the message that means nothing",
    ),
    "no SMTP at all": ({"connect": b"HTTP/1.1 400 No\r\n\r\n"}, TRANSIENT, 0, "means nothing"),
    "garbage after the content": (
        {"content": b"\xff\x00\xfe\r\n"}, FailureClass.UNCERTAIN, 0, "means nothing",
    ),
    "an endless answer": ({"EHLO": b"250-x\r\n" * 20_000}, TRANSIENT, 0, "means nothing"),
    "more lines than any server has": (
        {"RCPT": b"550-a\r\n" * 2_000 + b"550 b\r\n"}, TRANSIENT, 0, "means nothing",
    ),
    "an endless line": ({"content": b"2" * 100_000}, FailureClass.UNCERTAIN, 0, "means nothing"),
    "many lines": ({"RCPT": "550-a\r\n550-b\r\n550 c"}, PERMANENT, 550, "a\nb\nc"),
}  # fmt: skip


@pytest.mark.parametrize("case", ANSWERS)
async def test_answer(mail_door: MailClient, case: str) -> None:
    """Each answer at each step comes to one outcome: 4xx may be tried again, 5xx may not."""
    answers, failure, code, text = ANSWERS[case]
    async with scripted(answers) as server:
        outcome = await channel(mail_door, server.port).send(message())
        assert server.sessions == 1
    assert (outcome.failure, outcome.code) == (failure, code), outcome
    assert text in outcome.error
    assert len(server.contents) <= 1


#: Step of the server, and how an error names it.
STEPS = {
    "connect": "the connection", "EHLO": "EHLO", "MAIL": "MAIL", "RCPT": "RCPT", "DATA": "DATA",
}  # fmt: skip


@pytest.mark.parametrize(
    ("step", "cut_after"),
    [*((step, None) for step in STEPS), ("content", 0), ("content", 10), ("content", None)],
)
async def test_connection_that_is_cut(
    mail_door: MailClient, step: str, cut_after: int | None
) -> None:
    """Whatever breaks before the first byte of content, the message did not leave; later it may have."""
    async with scripted({step: CUT}, cut_after=cut_after) as server:
        outcome = await channel(mail_door, server.port).send(message())
    begun = step == "content"
    assert outcome.failure is (FailureClass.UNCERTAIN if begun else TRANSIENT)
    assert outcome.error in {
        f"email request failed at {STEPS.get(step, 'the message')}: {reason}"
        for reason in (
            "connection closed without an answer (EOF)", "connection reset by peer (ECONNRESET)",
        )
    }  # fmt: skip
    assert len(server.contents) == begun


async def test_a_message_that_was_given_up_does_not_arrive_later(mail_door: MailClient) -> None:
    """A server that reads again after the deadline does not get the end of the message."""
    loop = asyncio.get_running_loop()
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        sent = asyncio.create_task(
            channel(mail_door, listening.getsockname()[1], timeout_s=1.0).send(
                message(body="a line\n" * 20_000)
            )
        )
        sock, _ = await loop.sock_accept(listening)
        with sock:
            await loop.sock_sendall(sock, b"220 ready\r\n")
            said = b""
            while said[:4] != b"DATA":
                said = await loop.sock_recv(sock, 1000)
                await loop.sock_sendall(
                    sock, b"354 go\r\n" if said[:4] == b"DATA" else b"250 fine\r\n"
                )
            outcome = await sent
            assert outcome.state is AttemptState.UNKNOWN
            got = b""
            async with asyncio.timeout(20):
                with contextlib.suppress(ConnectionResetError):
                    while piece := await loop.sock_recv(sock, 1 << 20):
                        got += piece
            assert got
            assert not got.endswith(b"\r\n.\r\n")


#: What a server is silent about, as an error names it, and how it comes to that.
SILENT: dict[str, tuple[Mapping[str, str], Security]] = {
    **{named: ({step: HANG}, Security.NONE) for step, named in STEPS.items()},
    "TLS": ({"connect": HANG}, Security.IMPLICIT),
    "STARTTLS": ({"EHLO": "250-x\r\n250 STARTTLS"}, Security.STARTTLS),
    "the message": ({"content": HANG}, Security.NONE),
}


@pytest.mark.parametrize("step", SILENT)
async def test_silent_server_is_given_up_at_the_deadline(mail_door: MailClient, step: str) -> None:
    """Each step ends with the one deadline; only after the content is the result open."""
    answers, security = SILENT[step]
    async with scripted(answers) as server:
        began = time.monotonic()
        outcome = await channel(mail_door, server.port, security, timeout_s=1.5).send(message())
        took = time.monotonic() - began
    began_content = step == "the message"
    assert outcome.failure is (FailureClass.UNCERTAIN if began_content else TRANSIENT)
    assert outcome.error == f"email request failed at {step}: timeout: no answer within 1.5 s"
    assert len(server.contents) == began_content
    assert 1.5 <= took < 30


@pytest.mark.xdist_group("alone")
async def test_a_message_that_is_made_late_has_no_longer_in_all(mail_door: MailClient) -> None:
    """A send is to end within its timeout: what it waited to be made, its session does not have."""
    busy = asyncio.create_task(offload(lambda: time.sleep(2), size=SMALL + 1, seconds=30))
    await asyncio.sleep(0.1)
    async with scripted({"EHLO": HANG}) as server:
        began = time.monotonic()
        large = message(body="x" * 2 * SMALL)
        outcome = await channel(mail_door, server.port, timeout_s=5).send(large)
        took = time.monotonic() - began
    await busy
    assert outcome.failure is FailureClass.TRANSIENT
    assert took < 6.5


@pytest.mark.xdist_group("alone")
async def test_a_message_that_is_not_cut_in_time_is_not_sent(mail_door: MailClient) -> None:
    """The server announced its size at once: that the smaller message was not made is not its failure."""
    async with scripted({"EHLO": "250-x\r\n250 SIZE 20000"}) as server:
        large = message(body="x" * 2 * SMALL)
        sent = asyncio.create_task(channel(mail_door, server.port, timeout_s=2).send(large))
        await asyncio.sleep(0)  # its first making comes before
        busy = asyncio.create_task(offload(lambda: time.sleep(3), size=SMALL + 1, seconds=30))
        outcome = await sent
    await busy
    assert outcome.failure is FailureClass.NOT_SENT


async def test_closed_client_sends_nothing() -> None:
    """When the process ends, no name is looked up any more."""
    mail_client = MailClient()
    mail_client.close()
    outcome = await channel(mail_client, 25, host="mail.example").send(message())
    assert outcome == Outcome.transient("email request failed at connect: RuntimeError")


async def test_nobody_listens(mail_door: MailClient) -> None:
    """A refused connection and an unknown name are failures before any byte."""
    outcome = await channel(mail_door, closed_port()).send(message())
    assert outcome == Outcome.transient(
        "email request failed at connect: connection refused (ECONNREFUSED)"
    )
    for host in ("no-such-host.invalid", f"{'a' * 64}.example"):  # the latter is no name at all
        outcome = await channel(mail_door, 25, host=host).send(message())
        text = "email request failed at connect: the host name did not resolve"
        assert outcome == replace(Outcome.transient(text), mistake=True)


def resolve(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Have every name resolve to these."""
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", each) for each in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)


@pytest.mark.parametrize("dead", [3, 4])
async def test_four_addresses_are_tried(
    mail_door: MailClient, monkeypatch: pytest.MonkeyPatch, dead: int
) -> None:
    """The first of them that answers is used; a fifth is not tried, and none leaves a socket open."""
    async with mail_server() as server:
        real = ("127.0.0.1", server.port)
        resolve(monkeypatch, *[("127.0.0.2", closed_port())] * dead, real)
        before = _sockets()
        if dead < 4:
            with await mail_door.dial("mail", 25, timeout_s=5) as sock:
                assert sock.getpeername() == real
                # A peer that is gone is noticed, whatever the kernel's defaults are.
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
        else:
            with pytest.raises(ConnectionRefusedError):
                await mail_door.dial("mail", 25, timeout_s=5)
        assert _sockets() <= before + 1  # the server's end of the connection


def _sockets() -> int:
    """How many sockets this process has open."""
    links = list(Path("/proc/self/fd").iterdir())
    return sum(link.readlink().name.startswith("socket:") for link in links if link.is_symlink())


@contextlib.contextmanager
def silent_address() -> Iterator[tuple[str, int]]:
    """An address whose connections the kernel does not answer."""
    with socket.socket() as silent, socket.socket() as first, socket.socket() as second:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)  # space for one
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        yield silent.getsockname()


async def test_dial_that_is_cancelled_leaves_no_socket(
    mail_door: MailClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dial that is under way ends with its cancellation, and takes its socket along."""
    with silent_address() as address:
        resolve(monkeypatch, address)
        before = _sockets()
        task = asyncio.create_task(mail_door.dial("mail", 25, timeout_s=30))
        await eventually(lambda: _sockets() == before + 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert _sockets() == before


async def test_address_that_is_silent_leaves_time_for_the_next(
    mail_door: MailClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that drops what it gets takes only its share of the time."""
    with silent_address() as silent:
        async with mail_server() as server:
            resolve(monkeypatch, silent, ("127.0.0.1", server.port))
            # Two seconds are the silent one's share; the other needs less.
            outcome = await channel(mail_door, server.port, timeout_s=4).send(message())
            assert outcome == Outcome.success(250)


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "0.0.0.0",  # noqa: S104 - to dial, not to bind
     "fd00:ec2::254"],
)  # fmt: skip
async def test_denied_address(mail_door: MailClient, host: str) -> None:
    """An address that nobody may reach is refused for good before anything is dialled."""
    outcome = await channel(mail_door, 25, host=host).send(message())
    assert outcome.failure is PERMANENT
    assert outcome.error.startswith("permanent failure: egress denied: ")
    assert host not in outcome.error


async def test_strict_mode_denies_what_is_not_listed() -> None:
    """In strict mode a private server must be listed; then it is reached."""
    for allowed, denied in (((), True), (("localhost",), False)):
        mail_client = MailClient(guard=EgressGuard("strict", allowed))
        async with mail_server() as server:
            outcome = await channel(mail_client, server.port, host="localhost").send(message())
            assert server.sessions == (not denied)
        mail_client.close()
        assert ("egress denied: private address" in outcome.error) == denied


async def test_cancellation_passes(mail_door: MailClient) -> None:
    """A cancelled send ends with CancelledError, never with an outcome."""
    async with scripted({"RCPT": HANG}) as server:
        task = asyncio.create_task(channel(mail_door, server.port).send(message()))
        await eventually(lambda: server.lines[-1:] and server.lines[-1].startswith("RCPT"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("security", [Security.IMPLICIT, Security.STARTTLS])
async def test_session_that_fails_is_cut_off(
    trusting: MailClient, certificates: Certificates, security: Security
) -> None:
    """The end of a session that failed waits for no polite end of TLS by the server."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    context = certificates.context(f"cut-off-{security}")

    def talk() -> None:
        opened, _ = listener.accept()
        opened.settimeout(20)
        if security is Security.STARTTLS:
            opened.sendall(b"220 x\r\n")
            opened.recv(100)
            opened.sendall(b"250-x\r\n250 STARTTLS\r\n")
            opened.recv(100)
            opened.sendall(b"220 go on\r\n")
        protected = context.wrap_socket(opened, server_side=True)
        if security is Security.IMPLICIT:
            protected.sendall(b"220 x\r\n")
        protected.recv(100)
        protected.sendall(b"502 what\r\n")
        # From here on the server says nothing, not even the end of TLS.
        with socket.socket(fileno=protected.detach()) as bare:
            bare.settimeout(10)
            with contextlib.suppress(ConnectionResetError):
                while bare.recv(1000):
                    pass
        loop.call_soon_threadsafe(ended.set)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        talking = asyncio.create_task(asyncio.to_thread(talk))
        port = listener.getsockname()[1]
        outcome = await channel(trusting, port, security, username="u", password="p").send(
            message()
        )
        assert outcome.code == 502
        await talking
        assert ended.is_set()


async def test_message_that_cannot_be_rendered(
    mail_door: MailClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A poison message fails for good, is logged once and not quoted, and nothing is dialled."""
    broken = replace(message(name="poison"), spec=None)  # type: ignore[arg-type]  # not looked at here
    async with scripted() as server:
        outcome = await channel(mail_door, server.port).send(broken)
        assert server.sessions == 0
    assert outcome == Outcome.permanent("failed to render email payload: AttributeError")
    assert [r.getMessage() for r in caplog.records] == [
        "email cannot render notification ops/poison: AttributeError"
    ]


ECHO = "no {password} {encoded} {plain} for ops@receiver.example"


@pytest.mark.parametrize("step", ["AUTH", "MAIL", "RCPT", "DATA", "content"])
async def test_no_canary_gets_out(
    mail_door: MailClient, step: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that echoes the password in any form puts it on no record, nor an address."""
    caplog.set_level(logging.DEBUG)
    encoded = base64.b64encode(PASSWORD.encode()).decode()
    plain = base64.b64encode(f"\0relay\0{PASSWORD}".encode()).decode()
    echo = ECHO.format(password=PASSWORD, encoded=encoded, plain=plain)
    answers = {"EHLO": "250-x\r\n250 AUTH PLAIN", step: f"451 {echo}"}
    async with scripted(answers) as server:
        made = channel(mail_door, server.port, username="relay", password=PASSWORD)
        outcome = await made.send(message())
    assert f"AUTH PLAIN {plain}" in server.lines
    assert outcome.error.endswith("no [REDACTED] [REDACTED] [REDACTED] for [REDACTED]")
    shown = [repr(outcome), repr(made), str(vars(made))]
    shown += [f"{r.getMessage()} {r.exc_text} {r.__dict__}" for r in caplog.records]
    assert [s for s in shown for c in (PASSWORD, encoded, plain) if c in s] == []


def test_secrets_without_password() -> None:
    """Without a password nothing is replaced, least of all the empty text."""
    assert secrets_of("u", "") == frozenset()
