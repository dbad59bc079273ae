"""Messages: what a channel is given, and that it cannot depend on when or how often."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any
from unittest.mock import Mock

import pytest

from notifier.channels.base import encode
from notifier.channels.pagerduty import pagerduty_body
from notifier.channels.slack import slack_payload
from notifier.channels.teams import teams_body
from notifier.channels.webhook import webhook_payload
from notifier.content.message import compose, enrich, idempotency_key
from notifier.content.sanitise import PIECE_CHARS
from notifier.contract import Message
from tests.channels.messages import UID, document, message

BUILDERS: dict[str, Callable[[Message], bytes]] = {
    "slack": lambda m: encode(slack_payload(m)),
    "webhook": lambda m: encode(webhook_payload(m)),
    "pagerduty": lambda m: pagerduty_body(m, "key"),
    "teams": teams_body,
}


def test_idempotency_key() -> None:
    """The key is fixed by uid and channel, and has the form that signed webhooks need."""
    key = idempotency_key("uid-1", "slack:ops")
    assert re.fullmatch("nl_[a-z2-7]{52}", key)
    assert key == "nl_76jderi6qwelrv4q7knbkxx2zedh2vcse6rowbvklzedbako5ooq"
    assert key != idempotency_key("uid-1", "slack:op")
    assert key != idempotency_key("uid-1s", "lack:ops")


@pytest.mark.parametrize("kind", BUILDERS)
def test_equal_key_means_equal_bytes(kind: str) -> None:
    """What changes between attempts changes no byte of a request's body."""
    first = document(context={"analysis": {"rootCause": "r"}}, extensions={"b": "1", "a": "2"})
    later = copy.deepcopy(first)
    later["metadata"].update(
        resourceVersion="99", labels={"new": "label"}, annotations={"touched": "yes"}, generation=3
    )
    later["status"] = {"phase": "Retrying", "totalAttempts": 3, "failedDeliveries": 1}
    one = compose(first, f"{kind}:x", "0.5-1")
    two = compose(later, f"{kind}:x", "0.9-77")
    assert one.idempotency_key == two.idempotency_key
    assert one.attempt_id != two.attempt_id
    assert BUILDERS[kind](one) == BUILDERS[kind](two)
    assert b"0.9-77" not in BUILDERS[kind](two)


def test_members_of_a_message() -> None:
    """A message says which object it is of, and how that stands; what is not there counts nothing."""
    source = document(
        status={"phase": "Retrying", "successfulDeliveries": 2, "failedDeliveries": 1},
        metadata={"labels": {"team": "a"}, "annotations": {"note": "pwd=oak31"}},
    )
    made = compose(source, "slack:ops", "0.5-1")
    assert (made.uid, made.namespace, made.name) == (UID, "ops", "disk-full")
    assert made.idempotency_key == idempotency_key(UID, "slack:ops")
    assert (made.phase, made.successful, made.failed) == ("Retrying", 2, 1)
    assert (made.labels, made.annotations) == ({"team": "a"}, {"note": "pwd: [REDACTED]"})
    assert made.size == len("Disk full") + len("a **loud** word")
    still = compose(source, "slack:ops", "0.5-1", live=False)
    assert (still.labels, still.annotations) == ({}, {}), "they may change"
    bare = compose({"spec": {}, "status": {"successfulDeliveries": "2"}}, "slack:ops", "0.5-1")
    assert (bare.uid, bare.namespace, bare.name, bare.phase) == ("", "", "", "")
    assert (bare.successful, bare.failed, bare.size) == (0, 0, 0)


def test_every_member_of_a_spec_is_shown() -> None:
    """Bounding and cleaning leave out none that says something."""
    spec = compose(
        document(
            severity="high",
            phase="executing",
            reviewSource="human",
            clusterID="c-1",
            remediationRequestRef={"name": "rr"},
            context={"review": {"reason": "because"}},
            extensions={"team": "sre"},
            actionLinks=[{"service": "grafana", "url": "https://g.example/d", "label": "open"}],
            retentionDays=3,
        ),
        "slack:ops",
        "0.7-1",
    ).spec
    assert [f.name for f in fields(spec) if not getattr(spec, f.name)] == []
    assert spec.retention_days == 3


def test_a_long_message_is_made_with_breaks() -> None:
    """A breath is taken for each text, and between the pieces of a long one."""
    few, many = Mock(), Mock()
    compose(document(body="b"), "slack:ops", "0.5-1", breath=few)
    compose(document(body="word " * 10_000), "slack:ops", "0.5-1", breath=many)
    assert many.call_count - few.call_count >= 50_000 // PIECE_CHARS


def test_everything_is_sanitised() -> None:
    """Subject, body, context, extensions, links, labels and annotations are all cleaned."""
    secret = "pwd=canary"
    made = message(
        subject=secret,
        body=secret,
        context={"analysis": {"rootCause": secret}},
        extensions={"note": secret, "apiKey": "canary"},
        actionLinks=[{"service": "s", "url": "https://u:canary@x.example", "label": secret}],
        metadata={"labels": {"a": secret}, "annotations": {"b": secret}},
    )
    shown = f"{made.spec} {made.metadata} {made.labels} {made.annotations} {made.document()}"
    assert "canary" not in shown
    assert made.metadata["rootCause"] == "pwd: [REDACTED]"


def test_metadata_lets_extensions_win() -> None:
    """An extension replaces a context member of the same name."""
    made = message(
        context={"analysis": {"rootCause": "context"}, "lineage": {"remediationRequest": "rr"}},
        extensions={"rootCause": "extension", "empty": ""},
    )
    assert made.metadata == {"rootCause": "extension", "remediationRequest": "rr"}


ENRICH = {
    "the id becomes the name, everywhere": (
        {"workflowId": "id-1", "workflowName": "restart"}, "id-1 and id-1", "restart and restart",
    ),
    "the selected workflow stands in for an absent id": (
        {"selectedWorkflow": "id-2", "workflowName": "restart"}, "run id-2", "run restart",
    ),
    "without a name nothing changes": ({"workflowId": "id-1"}, "run id-1", "run id-1"),
    "without an id nothing changes": ({"workflowName": "restart"}, "run id-1", "run id-1"),
    "a workflow of another type is ignored": ("id-1", "run id-1", "run id-1"),
}  # fmt: skip


@pytest.mark.parametrize("case", ENRICH)
def test_enrich(case: str) -> None:
    """The body tells workflows by name."""
    workflow, body, wanted = ENRICH[case]
    assert enrich(body, {"workflow": workflow}) == wanted


def test_enrichment_is_bounded() -> None:
    """Names may add 4 KiB to a body; where they would add more, the ids stay."""
    workflow = {"workflow": {"workflowId": "x", "workflowName": "yyy"}}
    assert enrich("x" * 2_048, workflow) == "yyy" * 2_048
    assert enrich("x" * 2_049, workflow) == "x" * 2_049


def test_enriched_body_is_sanitised() -> None:
    """A name that holds a secret does not get past the sanitiser, and the subject stays."""
    workflow = {"workflowId": "id-1", "workflowName": "pwd=canary"}
    made = message(subject="id-1", body="run id-1", context={"workflow": workflow})
    assert made.spec.body == "run pwd: [REDACTED]"
    assert made.spec.subject == "id-1"
    assert made.document()["spec"]["body"] == "run pwd: [REDACTED]"


def test_document() -> None:
    """The whole object is shown without managed fields, its identity as stored."""
    source = document(
        name="node-10.0.0.1",
        metadata={"managedFields": [{"manager": "x"}], "labels": {"password": "canary"}},
        status={"phase": "Sending"},
    )
    before = copy.deepcopy(source)
    shown = compose(source, "file", "0.5-1").document()
    assert shown["metadata"]["name"] == "node-10.0.0.1"
    assert shown["metadata"]["labels"] == {"password": "[REDACTED]"}
    assert "managedFields" not in shown["metadata"]
    assert shown["status"] == {"phase": "Sending"}
    assert source == before


def test_repr_hides_the_content() -> None:
    """A message that ends up in a log record tells who it is, not what it says."""
    made = message(
        context={"analysis": {"rootCause": "cause"}},
        metadata={"labels": {"l": "label"}, "annotations": {"a": "note"}},
    )
    assert re.findall(r"(\w+)=", repr(made)) == [
        "uid", "namespace", "name", "attempt_id", "idempotency_key",
        "phase", "successful", "failed", "size",
    ]  # fmt: skip
    assert "disk-full" in repr(made)


def test_equal_texts_make_equal_messages() -> None:
    """Two messages of one object are equal, as is what they say."""
    assert message() == message()
    assert message() != message(body="another")


@pytest.mark.parametrize("spec", [{"actionLinks": [1]}, {"extensions": [1]}, {"context": 5}])
def test_impossible_spec(spec: dict[str, Any]) -> None:
    """A spec that the schema would not let through is refused with the one error."""
    with pytest.raises(ValueError, match="shape"):
        message(**spec)


@pytest.mark.parametrize(
    "name",
    [
        "x; rm -rf ~",
        "$(id)",
        "a b",
        "a\nb",
        "`id`",
        "-o",
        "--kubeconfig=x",
        "A",
        "é",
        "a" * 254,
        "a-",
        "x|sh",
        "../x",
    ],
)
def test_a_command_holds_nothing_but_a_name(name: str) -> None:
    """People copy it: what cannot be the name of an object makes no command, on no channel."""
    made = message(type="Approval", context={"lineage": {"remediationRequest": name}})
    assert made.chat_command() == ""
    for build in (lambda m: pagerduty_body(m, "key"), teams_body):
        assert b"kubectl kubernaut chat" not in build(made)
    for named in ("rr-1.a", "a" * 253):
        good = message(context={"lineage": {"remediationRequest": named}})
        assert good.chat_command() == f"kubectl kubernaut chat rar/{named} -n ops"
