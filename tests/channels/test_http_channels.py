"""Slack, PagerDuty, Teams and webhook: golden payloads, headers, credentials, limits."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import time
from dataclasses import replace
from functools import partial
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.channels import teams, webhook
from notifier.channels.base import cut
from notifier.channels.http import HttpClient
from notifier.channels.mail_message import mail
from notifier.channels.pagerduty import (
    DEDUP_CHARS,
    pagerduty_body,
    pagerduty_channel,
    pagerduty_payload,
)
from notifier.channels.slack import slack_payload
from notifier.channels.teams import teams_body, teams_payload
from notifier.channels.webhook import (
    Authentication,
    WebhookChannel,
    basic_auth,
    bearer_token,
    parse_secret,
    sign,
    webhook_payload,
)
from notifier.content.message import compose
from notifier.content.trim import TRUNCATED
from notifier.contract import Channel, Message, Outcome
from syncer.model.attempt import AttemptState, FailureClass
from syncer.model.trace import TRACE
from tests.channels.http_payloads import MAKERS
from tests.channels.messages import UID, document, mail_entry, message, untrimmed
from tests.channels.receiver import Receiver, Step, closed_port, receiving
from tests.examples import examples

CONTEXT = {
    "lineage": {"remediationRequest": "mem-fix-rr"},
    "analysis": {"rootCause": "handler keeps every request body"},
    "workflow": {"confidence": "0.92"},
    "target": {"targetResource": "Deployment/web-api"},
    "verification": {"assessed": True, "outcome": "partial", "reason": "latency still high"},
}


def test_slack_golden() -> None:
    """The three blocks are exactly upstream's."""
    assert slack_payload(message()) == {
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": "🚨 Disk full"}},
            {
                "type": "section",
                "text": {"type": "mrkdwn", "verbatim": True, "text": "a *loud* word"},
            },
            {
                "type": "context",
                "elements": [
                    {
                        "type": "mrkdwn",
                        "verbatim": True,
                        "text": "*Priority:* Critical | *Type:* Escalation",
                    }
                ],
            },
        ]
    }


@pytest.mark.parametrize(
    ("priority", "emoji", "severity"),
    [("Critical", "🚨", "critical"), ("High", "⚠️", "error"), ("Medium", "\u2139\ufe0f", "warning"),
     ("Low", "💬", "info"), ("Odd", "📢", "warning")],
)  # fmt: skip
def test_what_shows_a_priority(priority: str, emoji: str, severity: str) -> None:
    """Slack's header begins with the priority's sign; PagerDuty has a severity for each."""
    header = slack_payload(message(priority=priority))["blocks"][0]
    assert header["text"]["text"] == f"{emoji} Disk full"
    assert pagerduty_payload(message(priority=priority), "k")["payload"]["severity"] == severity


@pytest.mark.parametrize("body", ["```\n```", " \n ", ""])
def test_slack_section_is_never_empty(body: str) -> None:
    """A body of which nothing is left does not become an empty section, which Slack refuses."""
    assert slack_payload(message(body=body))["blocks"][1]["text"]["text"] == "_(empty)_"


def test_pagerduty_golden() -> None:
    """The event is exactly upstream's, without the body."""
    made = message(name="mem-alert-7", subject="web-api out of memory", context=CONTEXT)
    assert pagerduty_payload(made, "routing-key-abc") == {
        "routing_key": "routing-key-abc",
        "event_action": "trigger",
        "dedup_key": "mem-alert-7",
        "payload": {
            "summary": "web-api out of memory",
            "severity": "critical",
            "source": "kubernaut",
            "component": "ops",
            "custom_details": {
                "notification_type": "Escalation",
                "correlation_id": "mem-alert-7",
                "rca_summary": "handler keeps every request body",
                "confidence": "0.92",
                "affected_resource": "Deployment/web-api",
                "kubectl_command": "kubectl kubernaut chat rar/mem-fix-rr -n ops",
            },
        },
    }


def test_pagerduty_keys_of_long_names_stay_apart() -> None:
    """A key may hold 255 characters; two names that differ at their end are two incidents still."""
    for length in (255, 256):
        key = pagerduty_payload(replace(message(), name="x" * length), "k")["dedup_key"]
        assert len(key) == 255
        assert (key == "x" * length) is (length == 255)
    keys = set()
    for end in ("a", "b"):
        made = replace(message(), namespace="n" * 63, name="x" * 252 + end)
        keys.add(pagerduty_payload(made, "k", dedup_namespace=True)["dedup_key"])
        assert pagerduty_payload(made, "k")["dedup_key"] == made.name
    assert len(keys) == 2
    assert {len(key) for key in keys} == {DEDUP_CHARS}


@pytest.mark.parametrize("unit", ["x", "é", "😀", '"', "\\", "\n"])
def test_pagerduty_size(unit: str) -> None:
    """An oversized root cause is cut at a code point, by what it takes as JSON, and marked."""
    context = {"analysis": {"rootCause": unit * 600_000}}
    body = pagerduty_body(untrimmed(context=context), "k")
    details = json.loads(body)["payload"]["custom_details"]
    assert 512 * 1024 - 16 < len(body) <= 512 * 1024
    assert details["rca_summary"].endswith(unit + TRUNCATED)


def test_pagerduty_cuts_other_fields_too() -> None:
    """Where the root cause is not the large one, the longest detail is cut until it fits."""
    context = {
        "analysis": {"rootCause": "short"},
        "workflow": {"confidence": "c" * 600_000},
        "target": {"targetResource": "t" * 600_000},
        "lineage": {"remediationRequest": "r" * 200},
    }
    body = pagerduty_body(untrimmed(context=context), "k")
    details = json.loads(body)["payload"]["custom_details"]
    assert len(body) <= 512 * 1024
    assert details["rca_summary"] == "short"
    assert details["correlation_id"] == "disk-full"
    assert "r" * 200 in details["kubectl_command"]
    assert details["confidence"].endswith(TRUNCATED)
    assert details["affected_resource"].endswith(TRUNCATED)


#: An alert's notification, as the gateway makes it.
ALERT: Final[dict[str, Any]] = {
    "subject": "[FIRING:1] Disk: disk is full",
    "severity": "critical",
    "clusterID": "prod",
    "extensions": {
        "status": "firing", "source": "am", "alertname": "Disk", "job": "node", "label_namespace": "shop",
        "notification-ledger/incident": "gw/am/0123", "notification-ledger/state": "firing",
    },
    "actionLinks": [
        {"service": "alertmanager", "url": "https://am.example/", "label": "Alerts"},
        {"service": "image", "url": "https://g.example/p.png", "label": "Panel"},
        {"service": "image", "url": "http://g.example/p.png", "label": "Plain panel"},
        {"service": "runbook", "url": "javascript:alert(1)", "label": "Not a link"},
    ],
}  # fmt: skip
KEY: Final = "nl-kqhlhdi7r5yu6nxnn3l3pdtckuz6qr4efi3spr2cznsg6wipsfra"


def alert_message(state: str = "firing", installation: str = "ledger/nl@1", **spec: Any) -> Message:
    """The message of an alert in a state."""
    extensions = ALERT["extensions"] | {"notification-ledger/state": state}
    return compose(
        document(**(ALERT | {"extensions": extensions} | spec)), "pagerduty:ops", "0.5-1",
        installation=installation,
    )  # fmt: skip


def test_pagerduty_opens_an_incident() -> None:
    """The key is the incident's, and all that PagerDuty has a place for is there."""
    event = pagerduty_payload(alert_message(), "k", dedup_namespace=True)
    assert event == {
        "routing_key": "k", "event_action": "trigger", "dedup_key": KEY,
        "client": "notification-ledger", "client_url": "https://am.example/",
        "links": [
            {"href": "https://am.example/", "text": "Alerts"},
            {"href": "http://g.example/p.png", "text": "Plain panel"},
        ],
        "images": [{"src": "https://g.example/p.png", "alt": "Panel"}],
        "payload": {
            "summary": "[FIRING:1] Disk: disk is full", "severity": "critical", "source": "prod",
            "component": "node", "group": "prod", "class": "Disk",
            "custom_details": {
                "notification_type": "Escalation", "correlation_id": "disk-full",
                "body": "a **loud** word", "severity": "critical",
                "labels": {
                    "status": "firing", "source": "am", "alertname": "Disk", "job": "node",
                    "label_namespace": "shop",
                },
            },
        },
    }  # fmt: skip


def test_pagerduty_closes_what_it_opened() -> None:
    """By the same key, whatever the notification is called; `client` and links are a trigger's alone."""
    event = pagerduty_payload(alert_message("resolved", name="another"), "k")
    assert (event["event_action"], event["dedup_key"]) == ("resolve", KEY)
    assert event.keys() == {"routing_key", "event_action", "dedup_key", "payload"}


@pytest.mark.parametrize("state", ["firing", "resolved"])
def test_pagerduty_joins_alertmanagers_own_incident(state: str) -> None:
    """By option, and only for what is a group of its alerts, as the gateway says."""
    group = "7" * 64
    for incident, groups, key in (
        (f"gw/am/0123/{group}", True, group),
        (f"gw/am/0123/{group}", False, "nl-"),
        ("gw/am/0123", True, "nl-"),
        (f"mine/am/0123/{group}", True, "nl-"),
    ):
        own = {"notification-ledger/incident": incident, "notification-ledger/state": state}
        event = pagerduty_payload(alert_message(state, extensions=own), "k", groups=groups)
        assert event["dedup_key"].startswith(key), incident
        assert event["event_action"] == {"firing": "trigger", "resolved": "resolve"}[state]


def test_an_incident_is_that_of_one_installation_and_namespace() -> None:
    """Equal words of others are other incidents; secrets in them are not what tells them apart."""
    incident = {"notification-ledger/incident": "token=abcdefabcdefabcd1"}
    other = {"notification-ledger/incident": "token=abcdefabcdefabcd2"}
    keys = {
        alert_message().incident,
        alert_message("resolved").incident,
        alert_message(installation="ledger/nl@2").incident,
        alert_message(namespace="dev").incident,
        alert_message(extensions=incident).incident,
        alert_message(extensions=other).incident,
    }
    assert len(keys) == 5
    assert alert_message(extensions={"state": "resolved", "incident": "x"}).incident == ""
    assert not any("abcdef" in str(alert_message(extensions=e)) for e in (incident, other))


def test_details_of_an_incident_are_cut_to_size() -> None:
    """The body of a large one goes before its labels do."""
    made = alert_message()
    body = pagerduty_body(replace(made, spec=replace(made.spec, body="b" * 600_000)), "k")
    details = json.loads(body)["payload"]["custom_details"]
    assert len(body) <= 512 * 1024
    assert details["body"].endswith(TRUNCATED)
    assert details["labels"]["alertname"] == "Disk"


def test_links_are_buttons() -> None:
    """Of what can be followed, as many as a receiver shows, with texts that it takes."""
    links = [
        {"service": "s", "url": f"https://x/{n}", "label": " " if n else "l" * 200}
        for n in range(12)
    ]
    made = message(actionLinks=[*ALERT["actionLinks"][-1:], *links])
    actions = slack_payload(made)["blocks"][3]
    assert (actions["type"], len(actions["elements"])) == ("actions", 10)
    assert [e["text"]["text"] for e in actions["elements"][:2]] == ["l" * 74 + "…", "https://x/1"]
    assert [e["url"] for e in actions["elements"]] == [f"https://x/{n}" for n in range(10)]
    card = teams_payload(made)["attachments"][0]["content"]["actions"]
    assert card[0] == {"type": "Action.OpenUrl", "title": "l" * 75, "url": "https://x/0"}
    assert len(card) == 6


def test_what_is_over_looks_so() -> None:
    """Its priority is that of what has ended, and nobody is to be alarmed by it."""
    over = alert_message("resolved", type="Completion")
    assert slack_payload(over)["blocks"][0]["text"]["text"].startswith("✅ [")
    headline = _blocks(over)[0]
    assert (headline["text"][0], headline["color"]) == ("[", "good")
    assert b"Importance" not in mail(over, mail_entry("a@b.example", "c@d.example"), 0)


CARD = "application/vnd.microsoft.card.adaptive"


def _blocks(made: Message) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = teams_payload(made)["attachments"][0]["content"]["body"]
    return blocks


def test_teams_golden() -> None:
    """The card is exactly upstream's, in its order."""
    made = message(type="Approval", subject="please approve", body="text", context=CONTEXT)
    assert teams_payload(made) == {
        "type": "message",
        "attachments": [
            {
                "contentType": CARD,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.0",
                    "body": [
                        {
                            "type": "TextBlock",
                            "text": "CRITICAL: please approve",
                            "weight": "bolder",
                            "size": "medium",
                            "wrap": True,
                            "color": "attention",
                        },
                        {
                            "type": "TextBlock",
                            "text": "Priority: CRITICAL | Type: Approval",
                            "isSubtle": True,
                            "spacing": "none",
                        },
                        {"type": "TextBlock", "text": "text", "wrap": True, "spacing": "medium"},
                        {
                            "type": "FactSet",
                            "facts": [
                                {
                                    "title": "Root Cause",
                                    "value": "handler keeps every request body",
                                },
                                {"title": "Confidence", "value": "0.92"},
                                {"title": "Affected Resource", "value": "Deployment/web-api"},
                            ],
                            "spacing": "medium",
                        },
                        {
                            "type": "TextBlock",
                            "text": "`kubectl kubernaut chat rar/mem-fix-rr -n ops`",
                            "wrap": True,
                            "spacing": "medium",
                        },
                        {
                            "type": "FactSet",
                            "facts": [{"title": "Correlation ID", "value": "disk-full"}],
                            "spacing": "small",
                        },
                    ],
                },
            }
        ],
    }


@pytest.mark.parametrize("kind", ["StatusUpdate", "Completion"])
def test_teams_verification(kind: str) -> None:
    """An update and a completion show what was verified."""
    facts = _blocks(message(type=kind, context=CONTEXT))[4]["facts"]
    assert facts == [
        {"title": "Verification Outcome", "value": "partial"},
        {"title": "Verification Reason", "value": "latency still high"},
    ]


def test_teams_escalation() -> None:
    """An escalation says so, loudly."""
    block = _blocks(message(priority="High"))[3]
    assert block["text"] == "CRITICAL ESCALATION — Priority: HIGH"
    assert (block["weight"], block["color"]) == ("bolder", "attention")
    assert block["spacing"] == "medium"


def test_teams_headline() -> None:
    """Only the two urgent priorities colour the headline."""
    high, low = _blocks(message(priority="High"))[0], _blocks(message(priority="Low"))[0]
    assert (high["text"], high["color"]) == ("HIGH: Disk full", "warning")
    assert low["text"] == "Disk full"
    assert "color" not in low


@pytest.mark.parametrize("unit", ["x", "é", "😀", '"'])
@pytest.mark.parametrize("where", ["body", "root cause", "both"])
def test_teams_size(unit: str, where: str) -> None:
    """Oversized blocks and facts are cut until the card fits; the correlation id stays whole."""
    long = unit * 40_000
    made = message(
        name="teams-cut-check",
        body=long if where != "root cause" else "short",
        context={"analysis": {"rootCause": long}} if where != "body" else {},
    )
    body = teams_body(made)
    card = json.loads(body)
    assert teams.BODY_BYTES * 0.5 < len(body) <= teams.BODY_BYTES == 28_672
    assert TRUNCATED in body.decode()
    assert card["attachments"][0]["content"]["body"][-1]["facts"][0]["value"] == "teams-cut-check"


@pytest.mark.parametrize("kind", ["teams", "pagerduty"])
def test_payload_that_just_fits_is_whole(kind: str) -> None:
    """At its size a payload is not touched; one byte less has its longest text cut."""
    made = message(type="Simple", body="b" * 900, context={"analysis": {"rootCause": "r" * 900}})

    def body(limit: int) -> bytes:
        if kind == "teams":
            return teams_body(made, limit=limit)
        return pagerduty_body(made, "k", limit=limit)

    whole = body(28_000)
    assert body(len(whole)) == whole
    cut_down = body(len(whole) - 1)
    assert len(cut_down) == len(whole) - 1
    assert TRUNCATED in cut_down.decode()
    with pytest.raises(ValueError, match="cannot be cut to size"):
        body(100)


def test_texts_that_just_fit_slack() -> None:
    """A header takes 150 characters, of which the sign is two, and a section 3,000."""
    for subject, body, whole in (("s" * 147, "b" * 3_000, True), ("s" * 148, "b" * 3_001, False)):
        header, section, _ = slack_payload(message(subject=subject, body=body))["blocks"]
        assert (header["text"]["text"] == f"🚨 {subject}") is whole
        assert (section["text"]["text"] == body) is whole


def test_webhook_golden() -> None:
    """The body is the documented one, empty members left out."""
    made = message("webhook:w", extensions={"b": "1", "a": "2"}, severity="critical")
    assert webhook_payload(made) == {
        "version": 1,
        "id": made.idempotency_key,
        "uid": UID,
        "namespace": "ops",
        "name": "disk-full",
        "type": "Escalation",
        "priority": "Critical",
        "subject": "Disk full",
        "body": "a **loud** word",
        "severity": "critical",
        "metadata": {"a": "2", "b": "1"},
    }


@examples(200)
@given(st.text(max_size=200), st.integers(1, 400))
def test_cut(text: str, excess: int) -> None:
    """A cut is marked, at a code point, and shorter by what was asked unless nothing is left."""

    def size(value: str) -> int:
        return len(json.dumps(value, ensure_ascii=False).encode())

    result = cut(text, excess)
    if len(text) <= len(TRUNCATED):
        assert result == text
        return
    assert result.endswith(TRUNCATED)
    kept = result.removesuffix(TRUNCATED)
    assert text.startswith(kept)
    assert not kept or size(result) <= size(text) - excess


async def _send(kind: str, http_client: HttpClient, receiver: Receiver, made: Message) -> Outcome:
    return await MAKERS[kind](http_client, receiver.url).send(made)


@pytest.mark.parametrize("kind", MAKERS)
async def test_headers(http_client: HttpClient, kind: str) -> None:
    """Every HTTP channel says what it sends, under which key, and by which attempt."""
    made = message(f"{kind}:x", "3.14-2")
    async with receiving() as receiver:
        outcome = await _send(kind, http_client, receiver, made)
    headers = receiver.requests[0].headers
    assert outcome == Outcome.success(200)
    assert headers["content-type"] == "application/json"
    assert headers["idempotency-key"] == f'"{made.idempotency_key}"'
    assert headers["x-notification-attempt"] == "3.14-2"
    assert headers.get("webhook-id") == (made.idempotency_key if kind == "webhook" else None)


@pytest.mark.parametrize("kind", [kind for kind in MAKERS if kind != "pagerduty"])
async def test_rotated_credential_serves_the_next_call(http_client: HttpClient, kind: str) -> None:
    """The credential is asked for at each send, of PagerDuty as of the other vendors."""
    async with receiving() as receiver:
        paths = iter(["/old", "/new"])
        channel = MAKERS[kind](http_client, lambda: receiver.url(next(paths)))
        await channel.send(message())
        await channel.send(message())
    assert [r.line.split()[1] for r in receiver.requests] == ["/old", "/new"]


EMPTY = {
    "slack": "slack webhook URL is empty for notification ops/disk-full",
    "teams": "teams webhook URL is empty for notification ops/disk-full",
    "webhook": "webhook URL is empty for notification ops/disk-full",
    "pagerduty": "pagerduty routing key is empty for notification ops/disk-full",
}


def missing() -> Any:
    """Have nothing to give, and say so in words that are nobody's business."""
    raise LookupError("canary")


@pytest.mark.parametrize("kind", MAKERS)
async def test_refusal_names_the_kind(http_client: HttpClient, kind: str) -> None:
    """The text of a failure begins with the channel's kind."""
    async with receiving(Step(503, b"busy")) as receiver:
        outcome = await _send(kind, http_client, receiver, message())
    assert outcome.error == f"{kind} webhook returned 503 (retryable): busy"


@pytest.mark.parametrize("kind", MAKERS)
async def test_credential_that_is_missing_or_empty(http_client: HttpClient, kind: str) -> None:
    """One that is not there yet means not sent, an empty one is refused for good."""
    for credential, wanted in (
        (missing, Outcome.not_sent(f"{kind} credential is not available")),
        (str, Outcome.mistaken(EMPTY[kind])),
    ):
        channel: Channel = (
            pagerduty_channel(http_client, credential, timeout_s=20)
            if kind == "pagerduty"
            else MAKERS[kind](http_client, credential)
        )
        assert await channel.send(message()) == wanted


async def test_renderer_that_raises(
    http_client: HttpClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A message that cannot be rendered fails for good, is logged once, and is not quoted."""
    poison = message(subject="canary")
    broken = replace(poison, name="poison", spec=None)  # type: ignore[arg-type]  # not looked at here
    async with receiving() as receiver:
        for kind in MAKERS:
            caplog.clear()
            outcome = await _send(kind, http_client, receiver, broken)
            assert outcome == Outcome.permanent(f"failed to render {kind} payload: AttributeError")
            assert [r.getMessage() for r in caplog.records] == [
                f"{kind} cannot render notification ops/poison: AttributeError"
            ]
        assert receiver.connections == 0


OLD, NEW = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))


async def test_webhook_signature(http_client: HttpClient) -> None:
    """During a rotation both keys sign id, time and body; the id is the same for each attempt."""
    async with receiving() as receiver:
        channel = WebhookChannel(
            http_client,
            receiver.url,
            timeout_s=5,
            secrets=lambda: (NEW, OLD),
            clock=lambda: 1_700_000_000_999,
        )
        await channel.send(message("webhook:w", "0.5-1"))
        await channel.send(message("webhook:w", "0.5-2"))
    one, two = receiver.requests
    identity = one.headers["webhook-id"]
    signed = f"{identity}.1700000000.".encode() + one.body
    digests = [hmac.new(bytes([n]) * 32, signed, hashlib.sha256).digest() for n in (2, 1)]
    expected = " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
    assert one.headers["webhook-timestamp"] == "1700000000"
    assert one.headers["webhook-signature"] == expected
    assert "." not in identity
    assert (two.headers["webhook-id"], two.body) == (identity, one.body)


async def test_signature_is_of_now(http_client: HttpClient) -> None:
    """Receivers refuse an old signature: its time is that of the send."""
    async with receiving() as receiver:
        channel = WebhookChannel(http_client, receiver.url, timeout_s=5, secrets=lambda: [NEW])
        await channel.send(message())
    assert abs(time.time() - int(receiver.requests[0].headers["webhook-timestamp"])) < 60


def test_signature_of_the_specification() -> None:
    """The signature is that of the vector that the Standard Webhooks libraries test with."""
    key = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    assert (
        sign([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


@pytest.mark.parametrize(
    ("secret", "why"),
    [("whsec_!!", "not base64"), ("whsec_YWJj", "not 24 to 64 bytes long"), ("", "not 24")],
)
async def test_unusable_signing_secret(http_client: HttpClient, secret: str, why: str) -> None:
    """A secret that cannot sign is a permanent failure; nothing is sent unsigned instead."""
    async with receiving() as receiver:
        channel = WebhookChannel(http_client, receiver.url, timeout_s=5, secrets=lambda: [secret])
        outcome = await channel.send(message())
        assert receiver.connections == 0
    assert outcome.failure is FailureClass.PERMANENT
    assert f"webhook signing secret is not usable: {why}" in outcome.error


async def test_a_webhook_gets_the_trace_of_its_notification(http_client: HttpClient) -> None:
    """In a header; the body is the same in every byte, and without a trace every header is, too."""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with receiving() as receiver:
        channel = WebhookChannel(http_client, receiver.url, timeout_s=5)
        for text in (trace, "00-not-a-trace-01", None):
            annotations = {TRACE: text} if text else {}
            made = compose(
                document(metadata={"annotations": annotations}), "webhook:w", "0.5-1", live=False
            )
            assert await channel.send(made) == Outcome.success(200)
    traced, odd, plain = receiver.requests
    assert traced.headers == {**plain.headers, "traceparent": trace}
    assert odd.headers == plain.headers
    assert traced.body == odd.body == plain.body


async def test_webhook_conflict_is_unknown(http_client: HttpClient) -> None:
    """409 says that an earlier request with the key is being worked on."""
    async with receiving(Step(409, b"busy")) as receiver:
        outcome = await _send("webhook", http_client, receiver, message())
    assert outcome.state is AttemptState.UNKNOWN
    assert outcome.code == 409


AUTHENTICATION: dict[str, tuple[Authentication | None, str | None]] = {
    "none": (None, None),
    "a token": (partial(bearer_token, lambda: "t0k3n.abc_-~+/="), "Bearer t0k3n.abc_-~+/="),
    "user and password": (
        partial(basic_auth, "Aladdin", lambda: "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
    ),
    "a password beyond ASCII": (
        partial(basic_auth, "jürgen", lambda: "ß:ß"), "Basic asO8cmdlbjrDnzrDnw==",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", AUTHENTICATION)
async def test_webhook_authentication(http_client: HttpClient, case: str) -> None:
    """A webhook gets the header that its entry asks for, and no other."""
    authentication, wanted = AUTHENTICATION[case]
    async with receiving() as receiver:
        channel = WebhookChannel(
            http_client, receiver.url, timeout_s=5, authentication=authentication
        )
        assert await channel.send(message()) == Outcome.success(200)
    assert receiver.requests[0].headers.get("authorization") == wanted


@pytest.mark.parametrize("token", ["", "two words", "a\r\nX-Evil: 1", "é", "a\0b"])
async def test_unusable_token_is_permanent(http_client: HttpClient, token: str) -> None:
    """A token that no header may hold is refused for good; nothing is sent without it."""
    async with receiving() as receiver:
        channel = WebhookChannel(
            http_client,
            receiver.url,
            timeout_s=5,
            authentication=partial(bearer_token, lambda: token),
        )
        outcome = await channel.send(message())
        assert receiver.connections == 0
    assert outcome == Outcome.mistaken(
        "webhook authentication is not usable: the token is empty or holds what no header may"
    )
    empty = WebhookChannel(
        http_client, receiver.url, timeout_s=5, authentication=partial(basic_auth, "u", str)
    )
    assert (await empty.send(message())).failure is FailureClass.PERMANENT


async def test_missing_authentication_is_not_sent(http_client: HttpClient) -> None:
    """A token or a signing secret that is not there yet: not sent; the error's text stays inside."""
    for more, what in (
        ({"authentication": partial(bearer_token, missing)}, "authentication"),
        ({"authentication": partial(basic_auth, "u", missing)}, "authentication"),
        ({"secrets": missing}, "signing secret"),
    ):
        async with receiving() as receiver:
            channel = WebhookChannel(http_client, receiver.url, timeout_s=5, **more)
            outcome = await channel.send(message())
            assert receiver.connections == 0
        assert outcome == Outcome.not_sent(f"webhook {what} is not available")


async def test_echoed_authentication_is_removed(
    http_client: HttpClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A receiver that repeats the header puts token, password and their coding on no record."""
    caplog.set_level(logging.DEBUG)
    pair = base64.b64encode(f"user:{CANARY}".encode()).decode()
    for authentication, hidden in (
        (partial(bearer_token, lambda: CANARY), CANARY),
        (partial(basic_auth, "user", lambda: CANARY), pair),
    ):
        async with receiving(Step(401, f"you said {CANARY} and {pair}!".encode())) as receiver:
            channel = WebhookChannel(
                http_client, receiver.url, timeout_s=5, authentication=authentication
            )
            outcome = await channel.send(message())
        shown = [outcome.error, repr(authentication), repr(channel)]
        shown += [f"{r.getMessage()} {r.__dict__}" for r in caplog.records]
        assert [s for s in shown if CANARY in s] == []
        assert hidden not in outcome.error
        assert "[REDACTED]" in outcome.error


@pytest.mark.parametrize("key", ["R0" + "1a2B" * 7 + "zz", "ruby0oak31zinc77"])
async def test_a_bare_routing_key_is_removed(http_client: HttpClient, key: str) -> None:
    """PagerDuty's key is in the body alone; a receiver that quotes it puts it on no record."""
    async with receiving(Step(400, f"{key} is no key".encode())) as receiver:
        channel = pagerduty_channel(http_client, lambda: key, url=receiver.url(), timeout_s=5)
        outcome = await channel.send(message())
    assert key not in repr((outcome, channel))
    assert "[REDACTED] is no key" in outcome.error


CANARY = "canaryCANARYcanary0123"
TROUBLE: dict[str, Step | None] = {
    "refused": None,
    "reset": Step(reset_after=30),
    "not http": Step(raw=b"not-http"),
    "hang": Step(hang=True),
    "echo of path and key": Step(400, f"bad /services/{CANARY}?sig={CANARY} {CANARY}".encode()),
    "redirect": Step(302, headers=(("Location", f"/{CANARY}"),)),
}


@pytest.mark.parametrize("trouble", TROUBLE)
@pytest.mark.parametrize("kind", MAKERS)
async def test_no_canary_gets_out(
    http_client: HttpClient, kind: str, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong, no secret of URL, body or key is in an outcome, a record or a repr."""
    caplog.set_level(logging.DEBUG)
    made = message(
        body=f"password={CANARY}",
        extensions={"token": CANARY},
        context={"analysis": {"rootCause": f"pwd={CANARY}"}},
    )
    step = TROUBLE[trouble]
    async with receiving(step or Step()) as receiver:
        port = receiver.port if step else closed_port()
        url = f"http://someone:{CANARY}@127.0.0.1:{port}/services/{CANARY}?sig={CANARY}"
        if kind == "pagerduty":
            channel: Channel = pagerduty_channel(
                http_client, lambda: CANARY, url=url, timeout_s=0.3
            )
        elif kind == "webhook":
            channel = webhook.WebhookChannel(
                http_client, lambda: url, secrets=lambda: [OLD], timeout_s=0.3
            )
        else:
            channel = MAKERS[kind](http_client, lambda: url)
            channel.timeout_s = 0.3
        outcome = await channel.send(made)
    assert outcome.state is not AttemptState.SUCCESS
    shown = [repr(outcome), repr(channel), repr(made)]
    shown += [f"{r.getMessage()} {r.exc_text} {r.__dict__}" for r in caplog.records]
    assert [s for s in shown if CANARY in s or OLD in s] == []
    bodies = b"".join(r.body for r in receiver.requests)
    if kind != "pagerduty":
        assert CANARY.encode() not in bodies
