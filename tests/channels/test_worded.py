"""Channels whose receivers word their messages: what goes out, and what does if the words do not fit."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import re
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import AsyncMock, Mock

import orjson
import pytest

from notifier.channels.http import HttpClient
from notifier.channels.mail_message import mail
from notifier.channels.pagerduty import pagerduty_body, pagerduty_payload
from notifier.channels.slack import slack_payload
from notifier.channels.teams import teams_payload
from notifier.channels.worded import WordedChannel
from notifier.content.wording import view_of, worded
from notifier.contract import GRACE, Message, Outcome, Words
from notifier.routing.parse import examine
from notifier.templates.expressions import Unfit
from notifier.templates.request import Requests
from notifier.templates.text import utf16
from notifier.templates.wording import ITEM, NAMES, digest_of, wording_of
from syncer.model.incident import DATA
from syncer.runtime.offload import SMALL, offload
from tests.channels.messages import mail_entry, message
from tests.channels.receiver import receiving
from tests.channels.rig import Rig

HOSTILE: Final = "<!channel> & \"'> ](javascript:1) {{ x }} \u202e@all\n```"
#: What the gateway hands on, as anybody may write it, too.
ALERTS: Final = {
    "status": "firing", "truncatedAlerts": 2, "groupLabels": {"alertname": "Disk"},
    "commonLabels": {"severity": "critical", "team": HOSTILE}, "commonAnnotations": {},
    "alerts": [
        {"status": "firing", "labels": {"instance": "db-1", "password": "hunter2"}, "url": "https://p/1"},
        {"status": "resolved", "labels": {"instance": HOSTILE}, "annotations": {"summary": "s"}},
    ],
}  # fmt: skip


def told(data: Any = ALERTS, **spec: Any) -> Message:
    """A notification with such alerts behind it."""
    extensions = {
        DATA: data if isinstance(data, str) else orjson.dumps(data).decode(),
        "team": "db",
    }
    return message(extensions=extensions, **spec)


def made(kind: str, source: dict[str, Any], seen: Message | None = None) -> Message:
    """The message in the words of such templates."""
    return worded(seen or told(), wording_of(kind, source))


def test_templates_see_what_they_may_begin_with() -> None:
    """Neither more nor less; alerts are sanitised one by one, and are no attribute."""
    seen = told(actionLinks=[{"service": "s", "url": "https://l", "label": "L"}])
    view = view_of(seen)
    assert set(view) == NAMES
    assert {*view["alerts"][0], *view["links"][0]} == ITEM
    assert view["alerts"][0]["labels"] == {"instance": "db-1", "password": "[REDACTED]"}
    assert "\u202e" not in view["alerts"][1]["labels"]["instance"]
    assert view["labels"] == {"team": "db"}
    assert not any(DATA in where for where in (seen.metadata, seen.spec.extensions))
    assert DATA not in seen.document()["spec"]["extensions"]


@pytest.mark.parametrize(
    "data", ["", "{", "[]", "7", '{"alerts": 7}', '{"alerts": [7, {"labels": [1]}]}', "x" * 20_000]
)
def test_what_is_not_the_gateways_has_the_same_shape(data: str) -> None:
    """Whoever may create a notification may write anything there."""
    view = view_of(told(data))
    assert set(view) == NAMES
    assert all(isinstance(alert["labels"], dict) for alert in view["alerts"])
    text = made("slack", {"subject": "{{ length(alerts) }} {{ commonLabels.x }}"}, told(data)).spec
    assert text.subject in {"0", "1"}


def test_as_many_alerts_are_seen_as_a_gateway_may_hand_on() -> None:
    """A template may look at each for each of them, so thousands of empty ones would cost seconds."""
    view = view_of(told({"alerts": [{}] * 5000, "truncatedAlerts": 3}))
    assert (len(view["alerts"]), view["truncatedAlerts"]) == (256, 4747)


def test_slack_is_told_in_its_own_language() -> None:
    """The body as the template writes it, values escaped; the link before the others."""
    seen = made(
        "slack",
        {
            "subject": "{{ status }}\n{{ groupLabels.alertname }}",
            "body": "<!here> *{{ commonLabels.team }}*",
            "titleLink": "https://g/?t={{ commonLabels.severity }}",
        },
    )
    blocks = slack_payload(seen)["blocks"]
    assert blocks[0]["text"]["text"] == "🚨 firing Disk"
    section = blocks[1]["text"]["text"]
    assert section.startswith("<!here> *&lt;!channel&gt; &amp; \"'&gt; ](javascript:1)")
    assert section.count("<") == 1
    assert blocks[3]["elements"][0]["url"] == "https://g/?t=critical"


def test_slacks_blocks_are_the_templates() -> None:
    """Mentions are looked for in none of them, and no value becomes a block."""
    source = [
        {"type": "section", "text": {"type": "mrkdwn", "text": "{{ commonLabels.team }}"}},
        {"type": "section", "text": {"type": "plain_text", "text": "{{ context.x }}"}},
        {"type": "markdown", "text": "{{ commonLabels.team }}"},
        {
            "$each": "alerts",
            "$do": {"type": "image", "image_url": "https://i/{{ labels.instance }}"},
        },
    ]
    seen = made(
        "slack", {"slackBlocks": source}, told(context={"x": {"type": "mrkdwn", "text": "<!here>"}})
    )
    first, second, third, *images = slack_payload(seen)["blocks"]
    assert first["text"]["verbatim"] is True
    assert "<" not in first["text"]["text"]
    assert second["text"]["text"] == '{"type":"mrkdwn","text":"<!here>"}'
    assert third["text"].startswith(r"\<!channel\>")
    assert r"\]\(javascript:1\)" in third["text"]
    assert [i["image_url"].isprintable() and " " not in i["image_url"] for i in images] == [
        True
    ] * 2
    for wrong in ("{{ state }}", {"$if": "state", "$then": "mrkdwn"}):
        with pytest.raises(ValueError, match="must be a plain word"):
            wording_of("slack", {"slackBlocks": [{"type": wrong, "text": "{{ body }}"}]})


def block(kind: str, text: str, member: str = "text", **others: Any) -> dict[str, Any]:
    """A block with one text object."""
    inner = {"type": "plain_text", "text": text}
    return {"type": kind, member: inner if member == "text" else [inner], **others}


@pytest.mark.parametrize(
    ("source", "most"),
    [
        (block("header", "{{ body }}"), 150), (block("section", "{{ body }}"), 3000),
        (block("section", "{{ body }}", "fields"), 2000),
        (block("context", "{{ body }}", "elements"), 3000),
        ({"type": "actions", "elements": [block("button", "{{ body }}")]}, 75),
        ({"type": "markdown", "text": "{{ body }}"}, 12_000),
        ({"type": "image", "image_url": "https://i/x.png", "alt_text": "{{ body }}"}, 2000),
    ],
)  # fmt: skip
def test_texts_of_slacks_blocks_are_as_long_as_slack_takes(source: Any, most: int) -> None:
    """It refuses a message with a longer one for good, and nobody would be told."""
    for sign in "x😀<":
        payload = made("slack", {"slackBlocks": [source]}, told(body=sign * 40_000))
        (shown,) = re.findall(r'"([^"]*…)"', json.dumps(slack_payload(payload), ensure_ascii=False))
        shown = json.loads(f'"{shown}"')
        assert most - 12 < utf16(shown) <= most


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ([{"$each": "alerts", "$do": block("section", "x")}] * 26, "yields 52 blocks"),
        ([{"$each": "links", "$do": block("section", "x")}], "yields 0 blocks"),
        ([block("section", "{{ context.none }}")], "an empty text"),
        ([block("section", "{{ context.none }} ", "fields")], "an empty text"),
        ([{"type": "section", "fields": [{"type": "mrkdwn", "text": "x"}] * 11}], "more fields"),
        ([{"type": "context", "elements": [{"type": "mrkdwn", "text": "x"}] * 11}], "more elements"),
        ([{"type": "actions", "elements": [block("button", "x")] * 26}], "more elements"),
    ],
)  # fmt: skip
def test_blocks_that_slack_would_refuse_are_not_sent(source: Any, reason: str) -> None:
    """Of what it would refuse as a whole, the usual message is sent."""
    with pytest.raises(Unfit, match=reason):
        made("slack", {"slackBlocks": source})


def test_teams_is_told_in_markdown() -> None:
    """Values are no links, and the template's own are."""
    seen = made("teams", {"body": "[R](https://r) **{{ commonLabels.team }}**"})
    text = teams_payload(seen)["attachments"][0]["content"]["body"][2]["text"]
    assert text.startswith(r"[R](https://r) **\<!channel\>")
    assert r"\]\(javascript:1\)" in text


def test_pagerdutys_event_has_the_templates_members() -> None:
    """And its own key and action; a severity that PagerDuty does not know does not fit."""
    source = {
        "summary": "{{ commonLabels.team }}" * 40, "severity": "{{ commonLabels.severity }}",
        "component": "{{ commonLabels.none }}", "group": "g", "details": {"n": "{{ length(alerts) }}"},
    }  # fmt: skip
    seen = made("pagerduty", {"pagerduty": source, "body": "{{ status }}"})
    event, plain = pagerduty_payload(seen, "k"), pagerduty_payload(told(), "k")
    assert len(event["payload"]["summary"]) <= 1024
    details = plain["payload"]["custom_details"] | {"n": 2, "body": "firing"}
    assert event["payload"] == {
        **plain["payload"], "summary": event["payload"]["summary"], "severity": "critical",
        "group": "g", "custom_details": details,
    }  # fmt: skip
    assert {**event, "payload": 0} == {**plain, "payload": 0}
    assert json.loads(pagerduty_body(seen, "k")) == event
    for found in ("commonLabels.team", "alerts[].status"):
        with pytest.raises(Unfit, match="severity: yields none of critical, error, info, warning"):
            made("pagerduty", {"pagerduty": {"severity": f"{{{{ {found} }}}}"}})


def test_mail_has_a_page_beside_its_text() -> None:
    """If it fits; what a value holds is text in it."""
    seen = made("email", {"mailHtml": "<p>{{ commonLabels.team }}</p>", "body": "{{ status }}"})
    envelope = mail_entry("a@example.org", "b@example.org")
    raw = mail(seen, envelope, 0)
    read = email.message_from_bytes(raw, policy=email.policy.default)
    text, page = read.iter_parts()
    assert text.get_content().startswith("firing\r\n")
    assert page.get_content_type() == "text/html"
    assert page.get_content().startswith("<p>&lt;!channel&gt; &amp; &quot;&#x27;&gt;")
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    large = replace(seen, words=Words(payload="x" * 9000))
    small = mail(large, envelope, 0, limit=6000)
    assert len(small) <= 6000
    assert email.message_from_bytes(small).get_content_type() == "text/plain"


@pytest.mark.parametrize("request_", [False, True])
async def test_words_that_take_too_long_leave_the_send_its_time(*, request_: bool) -> None:
    """The usual text goes out in time; a request that has none is certainly not sent, and tried again."""
    sent = AsyncMock(return_value=Outcome.success(200))
    channel: Any = SimpleNamespace(timeout_s=30.0, shows_status=False, keeps_state="", send=sent)
    wording = wording_of("slack", {"subject": "{{ status }}"})
    if request_:
        wording = replace(wording, payload=Mock(spec=Requests))
    release, message = threading.Event(), told(body="x" * (SMALL + 1))
    other = asyncio.create_task(offload(release.wait, size=SMALL + 1, seconds=9, author="other"))
    try:
        outcome = await asyncio.wait_for(WordedChannel(channel, wording).send(message), GRACE)
    finally:
        release.set()
        await other
    if request_:
        assert outcome == Outcome.not_sent("the templates were not rendered in time")
        assert not sent.called
    else:
        assert (outcome.code, outcome.unworded) == (200, "not rendered in time")
        assert sent.call_args.args == (message,)


TEXT: Final = """\
route: {receiver: ops}
receivers:
- name: ops
  templates: {subject: "%s"}
  slackConfigs: [{credentialRef: slack}]
"""


async def test_templates_that_do_not_fit_keep_nobody_from_being_told(
    tmp_path: Path, http_client: HttpClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The usual text is sent, and outcome and log say so; other templates make another channel."""
    fits, does_not = "{{ upper(subject) }}", "{{ upper(links) }}"
    async with receiving() as receiver:
        rig = Rig(tmp_path, http_client, TEXT % fits, slack=receiver.url())
        assert await rig.send("slack:ops") == replace(
            Outcome.success(200), digest=digest_of({"subject": fits})
        )
        rig.file.write_text(TEXT % does_not)
        await rig.reload()
        outcome = await rig.send("slack:ops")
        channel = rig.channels.channel("slack:ops")
        assert channel is not None
        other = await channel.send(replace(told(), data=lambda: dict[str, Any]()["x"]))
    assert (other.code, other.unworded) == (200, "KeyError")
    assert outcome.digest == digest_of({"subject": does_not})
    assert outcome.unworded.startswith("subject: the expression upper(links) does not fit")
    shown = [json.loads(r.body)["blocks"][0]["text"]["text"] for r in receiver.requests]
    assert shown == ["🚨 DISK FULL", *["🚨 Disk full"] * 2]
    assert "templates do not fit a notification" in caplog.text


class Seen(dict[str, str]):
    """Labels that know whether another thread than the loop's has looked at them."""

    def __init__(self) -> None:
        super().__init__()
        self.apart: list[bool] = []

    def get(self, *_: Any) -> Any:
        """Look at one."""
        self.apart.append(threading.current_thread() is not threading.main_thread())
        return "x"


@pytest.mark.parametrize(
    ("template", "alerts", "apart"),
    [
        ("{{#each alerts}}{{ commonLabels.x }}{{/each}}", 17, True),
        ("{{#each alerts}}{{ commonLabels.x }}{{/each}}", 16, False),
        ("{{ commonLabels.x }}", 33, False),
    ],
)
async def test_long_lists_do_not_keep_the_loop(
    template: str, alerts: int, apart: bool, tmp_path: Path, http_client: HttpClient
) -> None:
    """Each alert held against all others takes long, however few characters there are."""
    labels = Seen()
    data: dict[str, Any] = {"alerts": [{}] * alerts, "commonLabels": labels}
    async with receiving() as receiver:
        rig = Rig(tmp_path, http_client, TEXT % template, slack=receiver.url())
        channel = rig.channels.channel("slack:ops")
        assert channel is not None
        assert (await channel.send(replace(told(), data=lambda: data))).code == 200
    assert set(labels.apart) == {apart}


WRONG: Final = {
    "an unknown name": ('subject: "{{ nobody }}"', "subject", "nobody: there is no such member"),
    "no quotes": ("subject: {{ subject }}", "subject", "must be a string in quotes"),
    "no list of blocks": ("slackBlocks: {type: x}", "slackBlocks", "must be a list of blocks"),
    "an unknown member of an event": ("pagerduty: {client: x}", "pagerduty", "with some of class,"),
    "details that are none": ("pagerduty: {details: x}", "pagerduty", "details must be a mapping"),
    "a script": ('mailHtml: "<script>"', None, ""),
    "an unknown key": ("titel: x", "titel", "is unknown and ignored"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_with_its_place(case: str) -> None:
    """When the file is read, for the kinds of channels that the receiver has."""
    line, path, reason = WRONG[case]
    _, findings = examine(
        "route: {receiver: ops}\nreceivers:\n- name: ops\n  templates:\n    " + line + "\n"
        "  slackConfigs: [{credentialRef: a}]\n  pagerdutyConfigs: [{credentialRef: b}]\n"
    )
    if path is None:
        assert not findings
        return
    found = findings[0]
    assert (found.path, found.line) == (f"receivers[0].templates.{path}", 5)
    assert reason in found.message


def test_templates_of_what_belongs_to_nobody_have_no_effect() -> None:
    """Console, file and log are one for all receivers."""
    _, (finding,) = examine(
        "route: {receiver: a}\nreceivers:\n- {name: a, templates: {subject: x}, logConfigs: [{}]}"
    )
    assert "have no effect" in finding.message
