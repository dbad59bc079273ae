"""
Laws of what is sent: any notification at all becomes a payload of every channel.

Each builder answers for any document that an API server could hand out, and for worse ones; what it
makes is of the right form and bounded; it takes time in proportion; and no planted secret is in it,
wherever it was planted.
"""

from __future__ import annotations

import email
import email.policy
import json
import time
from collections.abc import Callable
from typing import Any, Final

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from notifier.channels.base import encode
from notifier.channels.console import console_text
from notifier.channels.file import file_content, file_name
from notifier.channels.log import log_json, log_text
from notifier.channels.mail_message import MESSAGE_BYTES, mail
from notifier.channels.pagerduty import pagerduty_body
from notifier.channels.slack import HEADER_CHARS, SECTION_CHARS, slack_payload
from notifier.channels.teams import BODY_BYTES, teams_body
from notifier.channels.webhook import webhook_payload
from notifier.content.message import MAX_GROWTH, compose, enrich
from notifier.content.mrkdwn import to_mrkdwn
from notifier.content.redaction import RULES
from notifier.content.sanitise import sanitise, sanitise_tree
from notifier.contract import Message
from notifier.routing.attributes import attributes_of
from notifier.routing.config import KINDS, RoutingConfig
from notifier.routing.parse import parse
from notifier.routing.tree import resolve
from syncer.model.errors import ConfigError
from syncer.model.incident import INCIDENT, STATE
from syncer.model.resource import parse_spec
from tests.channels.messages import mail_entry
from tests.examples import examples

Json = dict[str, Any]

OPS: Final = mail_entry("n@sender.example", "ops@receiver.example", "Alerts, „all“")
PAGERDUTY_BYTES: Final = 512 * 1024

BUILDERS: Final[dict[str, Callable[[Message], bytes]]] = {
    "slack": lambda m: encode(slack_payload(m)),
    "pagerduty": lambda m: pagerduty_body(m, "key"),
    "teams": teams_body,
    "webhook": lambda m: encode(webhook_payload(m)),
    "email": lambda m: mail(m, OPS, 0),
    "file, json": lambda m: file_content(m.document(), "json"),
    "file, yaml": lambda m: file_content(m.document(), "yaml"),
    "log, json": lambda m: log_json(m, 0).encode(),
    "log, text": lambda m: log_text(m, 0).encode(),
    "console": lambda m: console_text(m).encode(),
}


def message_of(document: Json) -> Message:
    """The message of an attempt."""
    return compose(document, "slack:ops", "0.5-1")


# -- any notification -----------------------------------------------------------------------------

#: Text with what has a meaning somewhere on the way: markup, line ends, controls, halves of pairs.
TEXT: Final = st.lists(
    st.text(alphabet=st.characters(), max_size=12)
    | st.sampled_from([
        "\r\n", "\n", "\r", "\0", "\x1b[31m", "\u2028", "\ud800", "😀", "é", "`", "```", "**", "<!channel>",
        "](", "\n.\n", "\r\n.\r\n", "Bcc: x@y.example", "=?utf-8?b?eA==?=", "password=", "token: ", '"',
        "\\", "://", "{", "---", "%", "&", "|", " ", "\t", "\ufeff", "\u202e",
    ]),
    max_size=12,
).map("".join)  # fmt: skip
PLAIN: Final = st.none() | st.booleans() | st.integers() | TEXT
CONTEXT: Final = st.dictionaries(
    st.sampled_from([
        "lineage", "workflow", "analysis", "review", "execution", "dedup", "target", "verification",
        "else",
    ]),
    st.dictionaries(
        st.sampled_from([
            "remediationRequest", "rootCause", "confidence", "targetResource", "workflowId",
            "workflowName", "outcome", "reason", "assessed", "degraded", "summary",
        ]) | TEXT,
        PLAIN, max_size=4,
    ) | PLAIN,
    max_size=4,
)  # fmt: skip
URL: Final = TEXT | TEXT.map(lambda text: f"https://x/{text}")
LINK: Final = st.fixed_dictionaries({"service": TEXT | st.just("image"), "url": URL, "label": TEXT})
SPEC: Final = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["Escalation", "Approval", "StatusUpdate", "Completion"]) | TEXT,
        "priority": st.sampled_from(["Critical", "High", "Medium", "Low"]) | TEXT,
        "subject": TEXT,
        "body": TEXT,
    },
    optional={
        "severity": TEXT, "phase": TEXT, "reviewSource": TEXT, "clusterID": TEXT,
        "remediationRequestRef": st.fixed_dictionaries({"name": TEXT}),
        "context": CONTEXT,
        "extensions": st.dictionaries(TEXT | st.sampled_from([INCIDENT, STATE]), TEXT, max_size=4),
        "actionLinks": st.lists(LINK, max_size=25),
    },
)  # fmt: skip
NAME: Final = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,30}[a-z0-9])?", fullmatch=True)
DOCUMENT: Final = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {"name": NAME,
             "namespace": st.sampled_from(["ops", ""]),
             "uid": st.just("0a1b2c3d-0000-4000-8000-000000000001")},
            optional={"labels": st.dictionaries(TEXT, TEXT, max_size=3),
                      "annotations": st.dictionaries(TEXT, TEXT, max_size=3)},
        ),
        "spec": SPEC,
        "status": st.fixed_dictionaries({}, optional={"phase": TEXT, "message": TEXT}),
    }
)  # fmt: skip


@given(
    payload=st.dictionaries(
        TEXT,
        PLAIN | st.lists(PLAIN, max_size=3) | st.dictionaries(TEXT, PLAIN, max_size=2),
        max_size=3,
    )
)
def test_bytes_are_those_of_the_library(payload: Json) -> None:
    """Whoever makes the bytes of a payload, they are the same: a receiver may compare them by their key."""
    expected = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    assert encode(payload) == expected.encode("utf-8", "replace")


def _check_slack(body: bytes, _: Message) -> None:
    header, section, context, *buttons = json.loads(body)["blocks"]
    for button in buttons[0]["elements"] if buttons else ():
        assert 0 < _units(button["text"]["text"]) <= 75
        assert len(button["url"]) <= 3000
    assert 0 < _units(header["text"]["text"]) <= HEADER_CHARS
    assert section["text"]["text"].strip()
    assert _units(section["text"]["text"]) <= SECTION_CHARS
    assert section["text"]["text"].count("```") % 2 == 0
    assert "<!channel>" not in section["text"]["text"]
    assert context["elements"][0]["type"] == "mrkdwn"
    assert all(text["verbatim"] for text in (section["text"], context["elements"][0]))


def _check_pagerduty(body: bytes, message: Message) -> None:
    assert len(body) <= PAGERDUTY_BYTES
    event = json.loads(body)
    assert event["dedup_key"] == (message.incident or message.name)
    assert event["event_action"] == ("resolve" if message.resolved else "trigger")
    assert all(link["text"] for link in event.get("links", ()))
    assert all(image["src"].startswith("https://") for image in event.get("images", ()))
    assert len(event["payload"]["summary"]) <= 1024
    assert event["payload"]["severity"] in {"critical", "error", "warning", "info"}


def _check_teams(body: bytes, message: Message) -> None:
    assert len(body) <= BODY_BYTES
    blocks = json.loads(body)["attachments"][0]["content"]["body"]
    assert blocks[-1]["facts"][-1]["value"] == message.name


def _check_webhook(body: bytes, message: Message) -> None:
    assert json.loads(body)["id"] == message.idempotency_key


def _check_email(content: bytes, message: Message) -> None:
    assert len(content) <= MESSAGE_BYTES
    assert content.count(b"\r") == content.count(b"\n") == content.count(b"\r\n")
    assert max(map(len, content.split(b"\r\n"))) <= 998
    content.decode("ascii")
    parsed = email.message_from_bytes(content, policy=email.policy.default)
    assert parsed.defects == []
    names = [name for name in parsed if name != "Importance"]
    assert names == [
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Notification-Attempt",
        "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
    ]  # fmt: skip
    assert [a.addr_spec for a in parsed["To"].addresses] == [OPS.to]
    assert f"Notification: {message.key}" in parsed.get_content()


def _check_json(body: bytes, _: Message) -> None:
    assert isinstance(json.loads(body), dict)


def _check_yaml(body: bytes, message: Message) -> None:
    # What `safe_load` cannot read is no YAML, whatever wrote it.
    assert yaml.safe_load(body)["metadata"]["name"] == message.name


def _check_line(body: bytes, message: Message) -> None:
    assert body.decode().splitlines() == [body.decode()]
    assert message.key in body.decode()


CHECKS: Final[dict[str, Callable[[bytes, Message], None]]] = {
    "slack": _check_slack,
    "pagerduty": _check_pagerduty,
    "teams": _check_teams,
    "webhook": _check_webhook,
    "email": _check_email,
    "file, json": _check_json,
    "file, yaml": _check_yaml,
    "log, json": _check_json,
    "log, text": _check_line,
    "console": lambda body, _: None if body.decode().endswith("\n") else pytest.fail("no end"),
}


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def test_every_builder_is_checked() -> None:
    """A channel whose payload is not tried here fails this test."""
    delivered = {name.partition(",")[0] for name in BUILDERS}
    assert delivered == set(KINDS)
    assert BUILDERS.keys() == CHECKS.keys()


@given(document=DOCUMENT)
@examples(100)
def test_any_notification_becomes_a_payload(document: Json) -> None:
    """No exception, the right form, the same again, and no more than the input accounts for."""
    message, again = message_of(document), message_of(document)
    # Names of workflows may make the body longer; how much is a law of its own.
    bound = 6 * (len(json.dumps(document)) + len(message.spec.body)) + 4096
    for kind, build in BUILDERS.items():
        built = build(message)
        CHECKS[kind](built, message)
        assert built == build(again), kind
        assert len(built) <= bound, kind


@given(name=NAME)
def test_any_notification_has_a_file_name(name: str) -> None:
    """A name is one component of a path, and short enough for any file system."""
    from datetime import UTC, datetime  # noqa: PLC0415 - used here alone

    file = file_name(name * 9, datetime.fromtimestamp(0, UTC), "json")
    assert len(file.encode()) < 255
    assert not set(file) & {"/", "\0"}


# -- size and time --------------------------------------------------------------------------------

#: Made to be large after escaping, hard to cut, or slow to search.
UNITS: Final = [
    "x", "\0", "\n", '"', "\\", "😀", "\ud800", "&", "<", "`", "*", "[a](", "\r", "=", "\n.", " ", "@",
    "a@", "token: ", "eyJ", "-----BEGIN PRIVATE KEY-----", "://u:p@", "\u2028",
]  # fmt: skip
LARGE: Final = 128 * 1024


def _large(unit: str) -> Json:
    text = (unit * (LARGE // len(unit) + 1))[:LARGE]
    return {
        "metadata": {"name": "n", "namespace": "ns", "uid": "u"},
        "spec": {
            "type": "Escalation", "priority": "Critical", "subject": text[:500], "body": text,
            "context": {
                "analysis": {"rootCause": text}, "lineage": {"remediationRequest": text[:200]},
                "workflow": {"workflowId": "id", "workflowName": "name", "confidence": text[:5000]},
                "target": {"targetResource": text},
            },
            "extensions": {text[:50]: text, "note": text},
            "actionLinks": [{"service": "s", "url": text[:20_000], "label": text[:500]}] * 3,
        },
        "status": {},
    }  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
def test_large_notification(unit: str) -> None:
    """The largest notification, made of the worst characters, is bounded and not slow."""
    document = _large(unit)
    began = time.process_time()
    message = message_of(document)
    for kind, build in BUILDERS.items():
        if kind == "file, yaml" and unit != "x":
            # The library's scanner is slow on escapes, in proportion; once is enough.
            continue
        built = build(message)
        if kind in ("slack", "pagerduty", "teams", "email"):
            CHECKS[kind](built, message)
        assert len(built) <= 6 * len(json.dumps(document)) + 4096
    # A mebibyte takes a second or two of CPU; what is quadratic takes minutes.
    assert time.process_time() - began < 20


@given(
    body=st.text(alphabet="ab ", max_size=100),
    identity=st.text(alphabet="ab", min_size=1, max_size=3),
    name=st.sampled_from(["n", "a", "name" * 10, "x" * 70_000, "a" * 3_000_000]),
)
def test_enriched_body_is_bounded(body: str, identity: str, name: str) -> None:
    """Names replace ids only as far as that does not blow a body up."""
    result = enrich(body, {"workflow": {"workflowId": identity, "workflowName": name}})
    assert len(result) <= len(body) + MAX_GROWTH
    assert result in (body, body.replace(identity, name))
    assert len(name) > 100 or result == body.replace(identity, name)


# -- secrets --------------------------------------------------------------------------------------

CANARY: Final = "c0ffee00d15ea5ed0badcafe0ddba11000112233"
#: Ways in which a secret stands in a text.
WAYS: Final = [
    f"password={CANARY}", f"PASSWD: {CANARY}", f'"pwd": "{CANARY}"', f'{{"token":"{CANARY}"}}',
    f"token: {CANARY}", f"api_key={CANARY}", f"apikey: '{CANARY}'", f"Bearer {CANARY}",
    f"Authorization: Bearer {CANARY}", f"authorization: Basic {CANARY}", f"client_secret={CANARY}",
    f"https://user:{CANARY}@db.example/x", f"postgres://u:{CANARY}@h/d", f"redis://:{CANARY}@h",
    f"sk-{CANARY}", f"ghp_{CANARY}", f"xoxb-{CANARY}", f"https://x.example/?sig={CANARY}&a=b",
    f"https://hooks.slack.com/services/T0/B0/{CANARY}", f"dbPassword={CANARY}",
    f"DEPLOY_TOKEN={CANARY}", f"refresh_token={CANARY}", f"glpat-{CANARY}", f"eyJhbGci.eyJ{CANARY}.s",
    f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\n-----END RSA PRIVATE KEY-----",
    f"-----BEGIN OPENSSH PRIVATE KEY-----\n{CANARY}\n", f'\\"token\\":\\"{CANARY}\\"',
    f"'api_key': '{CANARY}'",
]  # fmt: skip
WHERE: Final[dict[str, Callable[[Json, str], None]]] = {
    "subject": lambda d, t: d["spec"].update(subject=t),
    "body": lambda d, t: d["spec"].update(body=t),
    "severity": lambda d, t: d["spec"].update(severity=t),
    "phase": lambda d, t: d["spec"].update(phase=t),
    "type": lambda d, t: d["spec"].update(type=t),
    "priority": lambda d, t: d["spec"].update(priority=t),
    "cluster": lambda d, t: d["spec"].update(clusterID=t),
    "review": lambda d, t: d["spec"].update(reviewSource=t),
    "reference": lambda d, t: d["spec"].update(remediationRequestRef={"name": t}),
    "context": lambda d, t: d["spec"].update(context={"analysis": {"rootCause": t}}),
    "name in the context": lambda d, t: d["spec"].update(context={"analysis": {t: "x"}}),
    "workflow name": lambda d, t: d["spec"].update(
        body="run wf-1", context={"workflow": {"workflowId": "wf-1", "workflowName": t}}
    ),
    "extension": lambda d, t: d["spec"].update(extensions={"note": t}),
    "name of an extension": lambda d, t: d["spec"].update(extensions={t: "x"}),
    "link": lambda d, t: d["spec"].update(actionLinks=[{"service": t, "url": t, "label": t}]),
    "label": lambda d, t: d["metadata"].update(labels={"a": t}),
    "annotation": lambda d, t: d["metadata"].update(annotations={"a": t}),
    "status": lambda d, t: d.update(status={"message": t}),
}  # fmt: skip


@given(where=st.sampled_from(sorted(WHERE)), way=st.sampled_from(WAYS), before=TEXT, after=TEXT)
@examples(200)
def test_secret_is_in_no_payload(where: str, way: str, before: str, after: str) -> None:
    """Wherever a secret stands in a notification, whatever is around it, no channel sends it."""
    document: Json = {
        "metadata": {"name": "n", "namespace": "ns", "uid": "u"},
        "spec": {"type": "Simple", "priority": "Low", "subject": "s", "body": "b"},
        "status": {},
    }
    # A break on both sides: a quote that is left open takes what follows it on its line.
    WHERE[where](document, f"{before}\n{way}\n{after}")
    message = message_of(document)
    shown = {kind: build(message) for kind, build in BUILDERS.items()}
    assert [kind for kind, built in shown.items() if CANARY.encode() in built] == []


@given(way=st.sampled_from(WAYS), before=TEXT, after=TEXT)
def test_secret_does_not_survive_the_sanitiser(way: str, before: str, after: str) -> None:
    """A secret is found whatever is on the lines around it, alone and in a tree."""
    text = f"{before}\n{way}\n{after}"
    assert CANARY not in sanitise(text)
    assert CANARY not in json.dumps(sanitise_tree({"a": [{"b": text}], text: 1}))


@given(st.lists(st.sampled_from([n for r in RULES for n in r.needles]) | TEXT, max_size=20))
def test_sanitised_text_is_bounded(parts: list[str]) -> None:
    """Whatever the rules find in a mixture of what they look for, the result is bounded."""
    text = "".join(parts)
    assert len(sanitise(text)) <= 4 * len(text) + 32


@given(TEXT)
def test_markup_is_bounded(text: str) -> None:
    """Conversion grows a text by its escapes at most, and leaves no mention alive."""
    result = to_mrkdwn(text)
    assert len(result) <= 5 * len(text) + 16
    assert "<!" not in result
    assert "<@" not in result


# -- routing --------------------------------------------------------------------------------------

VALUES: Final = st.sampled_from([
    "", "x", "a@x.example", "a@x, b@y", "a@x,", "Jo <a@x>", "mail", "mail:25", "mail:0", "[::1]:25",
    "http://h/p", "none", "starttls", "implicit", "maybe", "true", "ref", CANARY,
]) | st.none() | st.booleans() | st.integers(-1, 70_000) | TEXT.filter(str.isprintable)  # fmt: skip
KEYS: Final = st.sampled_from([
    "to", "from", "smarthost", "requireTls", "tls", "username", "credentialRef", "url", "httpConfig",
    "signingSecretRefs", "bearerToken", "bearerTokenRef", "basicAuth", "password", "passwordRef",
    "severity", "path", "enabled", "other",
])  # fmt: skip
ENTRY: Final = st.recursive(
    st.dictionaries(KEYS, VALUES, max_size=7),
    lambda inner: st.dictionaries(KEYS, VALUES | inner | st.lists(VALUES, max_size=3), max_size=7),
    max_leaves=6,
)
MATCH: Final = st.dictionaries(
    st.sampled_from(["type", "severity", "team"]), st.sampled_from(["a", "^a$", "(", "a*", ""]),
    max_size=2,
)  # fmt: skip
ROUTE: Final = st.recursive(
    st.fixed_dictionaries(
        {"receiver": st.sampled_from(["r0", "r1", "", "none"])},
        optional={"match": MATCH, "matchRe": MATCH, "continue": st.booleans()},
    ),
    lambda inner: st.fixed_dictionaries(
        {"receiver": st.sampled_from(["r0", "r1", ""]), "routes": st.lists(inner, max_size=4)}
    ),
    max_leaves=8,
)
RECEIVERS: Final = st.lists(
    st.dictionaries(
        st.sampled_from(list(KINDS.values())), st.lists(ENTRY, max_size=3), max_size=4
    ),
    min_size=2, max_size=2,
)  # fmt: skip


def _config_or_error(text: str, native: frozenset[str]) -> RoutingConfig | ConfigError:
    try:
        return parse(text, native=native)
    except ConfigError as error:
        return error


@given(
    route=ROUTE,
    entries=RECEIVERS,
    native=st.sets(st.sampled_from(["email", "webhook"])).map(frozenset),
    spec=SPEC,
)
@examples(150)
def test_any_routing_file(
    route: Json, entries: list[Json], native: frozenset[str], spec: Json
) -> None:
    """A file is refused with a text, or routes any notification; neither quotes a value."""
    receivers = [{"name": f"r{n}", **each} for n, each in enumerate(entries)]
    text = json.dumps({"route": route, "receivers": receivers})
    config = _config_or_error(text, native)
    if isinstance(config, ConfigError):
        assert 0 < len(str(config)) < 2_000
        assert CANARY not in str(config)
        return
    assert len(config.warnings) <= 101
    assert not any(CANARY in warning for warning in config.warnings)
    targets = config.targets
    for receiver in config.receivers:
        names = [name for name, _ in receiver.channels(native)]
        assert names
        qualified = [name for name in names if ":" in name]
        assert len(qualified) == len(set(qualified))
        assert set(names) <= set(targets)
    resolution = resolve(
        config, attributes_of(parse_spec(spec), namespace="n", name="a"), clean=sanitise
    )
    assert resolution.channels
    assert set(resolution.channels) <= set(targets)
    assert len(resolution.message.encode()) <= 1024
