"""The object that is created: defaults, mapping, bounds."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import pytest

from notifier.gateway.draft import Refused
from notifier.gateway.manifest import FAULTS, IDENTITY, SOURCE_LABEL
from notifier.routing.attributes import attributes_of
from syncer.model.event import EVENT, event_label
from syncer.model.incident import DATA, INCIDENT, group_hash, incident_label
from syncer.model.resource import Json, parse_spec
from tests.unit.notifier.gateway.desired import desired, everything
from tests.unit.notifier.gateway.payloads import alert, alertmanager


def spec(payload: Json, kind: str = "alertmanager", **source: Any) -> Json:
    """The spec of it."""
    found: Json = desired(payload, kind, **source).manifest["spec"]
    return found


def test_the_object_names_its_source_and_its_event() -> None:
    """Label and annotations let people and the gateway find it again."""
    found = desired(alertmanager())
    meta = found.manifest["metadata"]
    assert meta["name"] == found.identity.name
    assert meta["namespace"] == found.namespace == "alerts"
    event = 'alertmanager:{}:{alertname="Disk"}'
    assert meta["labels"] == {
        SOURCE_LABEL: "src", EVENT: event_label(event), INCIDENT: incident_label(found.incident[0]),
    }  # fmt: skip
    assert meta["annotations"] == {IDENTITY: found.identity.digest, EVENT: event}


def test_an_event_of_any_length_is_found() -> None:
    """The label is within its bound and of what the annotation says, also where that is cut."""
    key = "{" + ",".join(f'label{n}="value"' for n in range(200)) + "}"
    meta = desired(alertmanager(groupKey=key)).manifest["metadata"]
    assert len(meta["annotations"][EVENT]) == 1024
    assert meta["labels"][EVENT] == event_label(f"alertmanager:{key}")
    assert meta["labels"][EVENT] == event_label(meta["annotations"][EVENT])
    assert len(meta["labels"][EVENT]) <= 63


def test_what_has_no_event_has_no_label_of_one() -> None:
    """Plain JSON without an id is found by its name alone."""
    found = desired({"a": 1}, "json", mapping={"subject": "s", "body": "b"})
    assert found.manifest["metadata"]["labels"] == {SOURCE_LABEL: "src"}


def test_labels_that_routes_trust_are_renamed() -> None:
    """A label called as an attribute of the notification cannot pass for it."""
    extensions = spec(alertmanager())["extensions"]
    assert extensions["label_namespace"] == "shop"
    assert "namespace" not in extensions
    assert extensions["source"] == "src"
    assert extensions["alertname"] == "Disk"


def test_a_mapping_replaces_what_it_names() -> None:
    """Members with a template are its own, all others stay the source's."""
    found = spec(
        alertmanager(),
        mapping={
            "type": "{{ if(status == 'firing', 'ManualReview', 'Completion') }}",
            "priority": "low",
            "subject": "{{ commonLabels.alertname }}\n in {{ commonLabels.namespace }}",
            "extensions": {
                "shop": "{{ commonLabels.namespace }}",
                "alertname": "{{ commonLabels.no }}",
            },
            "links": [
                {
                    "service": "runbook",
                    "url": "https://r/{{ commonLabels.alertname }}",
                    "label": "Do",
                },
                {"service": "x", "url": "javascript:alert(1)", "label": "No"},
            ],
            "retentionDays": 30,
            "clusterID": "c1",
        }
        | {"priority": "Low"},
    )
    assert (found["type"], found["priority"]) == ("ManualReview", "Low")
    assert found["subject"] == "Disk in shop"
    assert found["body"].startswith("firing since")
    assert found["extensions"]["shop"] == "shop"
    assert "alertname" not in found["extensions"]
    assert {"service": "runbook", "url": "https://r/Disk", "label": "Do"} in found["actionLinks"]
    assert all(link["url"].startswith("http") for link in found["actionLinks"])
    assert (found["retentionDays"], found["clusterID"]) == (30, "c1")


def test_a_retry_policy_is_passed_on() -> None:
    """What is left out of it is left to the API server."""
    given = {"maxAttempts": 3, "initialBackoffSeconds": None}
    assert spec(alertmanager(), retryPolicy=given)["retryPolicy"] == {"maxAttempts": 3}
    assert "retryPolicy" not in spec(alertmanager())


def test_a_template_that_finds_nothing_leaves_the_source_s_own() -> None:
    """A page with a plain subject beats none."""
    found = spec(alertmanager(), mapping={"subject": "{{ commonLabels.nobody }}"})
    assert found["subject"] == "[FIRING:1] Disk: disk is full"


def test_what_does_not_fit_leaves_the_source_s_own_and_is_noted() -> None:
    """Words that do not exist, and expressions that meet another form, are on the object."""
    mapping = {
        "priority": "{{ commonLabels.alertname }}",
        "subject": "{{ lower(alerts) }}",
        "extensions": {"x": "{{ upper(alerts) }}", "alertname": "{{ lower(alerts) }}"},
        "retentionDays": "{{ commonLabels.alertname }}",
    }
    found = desired(alertmanager(), mapping=mapping).manifest
    spec = found["spec"]
    assert (spec["priority"], spec["subject"]) == ("Critical", "[FIRING:1] Disk: disk is full")
    assert "retentionDays" not in spec
    assert "x" not in spec["extensions"]
    assert spec["extensions"]["alertname"] == "Disk"
    assert found["metadata"]["annotations"][FAULTS] == (
        "priority: yields none of Critical, High, Medium, Low; "
        "subject: the expression lower(alerts) does not fit what it meets (JMESPathTypeError); "
        "extensions.x: the expression upper(alerts) does not fit what it meets (JMESPathTypeError); "
        "extensions.alertname: the expression lower(alerts) does not fit what it meets"
        " (JMESPathTypeError); "
        "retentionDays: does not yield a number of days"
    )
    assert FAULTS not in desired(alertmanager()).manifest["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("mapping", "text"),
    [
        (
            {"subject": "{{ title }}", "body": "b"},
            "mapping.subject: nothing was found by {{ title }}",
        ),
        (
            {"subject": "{{ lower(n) }}", "body": "b"},
            "mapping.subject: the expression lower(n) does",
        ),
        ({"subject": "s", "body": " "}, "mapping.body: nothing was found"),
    ],
)
def test_a_required_member_that_is_not_found_is_refused(mapping: Json, text: str) -> None:
    """Where the source has nothing of its own, the answer names the template."""
    with pytest.raises(Refused) as refused:
        spec({"kind": "odd", "n": 1}, "json", mapping=mapping)
    assert text in str(refused.value)
    assert refused.value.status == 422
    assert "odd" not in str(refused.value)


def test_everything_is_cut_to_its_bounds() -> None:
    """Subject, body, values and their number; what is cut says so."""
    labels = {f"l{n:03}": "v" * 400 for n in range(100)}
    mapping = {"subject": "{{ s }}", "body": "{{ b }}", "extensions": {"mine": "{{ s }}"}}
    found = spec({"s": "s" * 600, "b": "b" * 40_000}, "json", mapping=mapping)
    assert len(found["subject"]) == 500
    assert found["subject"].endswith("…")
    assert found["body"].endswith("\n… 7232 more characters were left out by the gateway.")
    many = spec(alertmanager(alert(), commonLabels=labels), mapping={"extensions": {"mine": "1"}})
    extensions = many["extensions"]
    assert extensions["mine"] == "1"
    assert len(extensions) == 68
    # A hundred labels, status, receiver, source and the mapping's own; what tells of the incident besides.
    assert extensions["extensionsLeftOut"] == str(104 - 64)
    assert max(len(value) for value in extensions.values()) == 256


def test_what_is_within_the_bounds_is_left_as_it_is() -> None:
    """A body and a number of extensions of just the bound are whole, and nothing says otherwise."""
    found = spec({"b": "b" * 32 * 1024}, "json", mapping={"subject": "s", "body": "{{ b }}"})
    assert found["body"] == "b" * 32 * 1024
    # Status, receiver and source come besides.
    labels = {f"l{n:03}": "v" * 256 for n in range(61)}
    extensions = spec(alertmanager(commonLabels=labels))["extensions"]
    assert len(extensions) == 67
    assert "extensionsLeftOut" not in extensions
    assert extensions["l060"] == "v" * 256


def incident(payload: Json, kind: str = "alertmanager", **source: Any) -> tuple[str, str]:
    """The incident that a payload is about, and its state."""
    return desired(payload, kind, **source).incident


def test_an_incident_is_what_its_notifications_share() -> None:
    """Members, labels and status come and go; receiver, group and source do not, and no label can be it."""
    labels = {
        "notification-ledger/incident": "gw/other/1", "notification-ledger/state": "resolved",
        "state": "resolved", "incident": "mine", "status": "resolved", "receiver": "evil",
    }  # fmt: skip
    found, state = incident(alertmanager(alert(), commonLabels=labels))
    assert re.fullmatch(r"gw/src/[0-9a-f]{32}/[0-9a-f]{64}", found)
    group = hashlib.sha256(str(alertmanager()["groupKey"]).encode()).hexdigest()
    assert group_hash(found) == group, "as Alertmanager hashes it"
    each = incident(alertmanager(alert()), per="alert")[0]
    assert (group_hash(each), each.count("/")) == ("", 2)
    assert state == "firing"
    over = alertmanager(alert("bbbb", "resolved"), status="resolved", commonLabels={})
    assert incident(over) == (found, "resolved")
    assert incident(over | {"truncatedAlerts": 1}) == (found, "firing"), "what was cut off may fire"
    for other in ({"groupKey": "{}:{}"}, {"receiver": "b"}):
        assert incident(alertmanager(**other))[0] != found
    extensions = spec(alertmanager(alert(), commonLabels=labels))["extensions"]
    assert (extensions["status"], extensions["receiver"]) == ("firing", "gw")
    assert {k for k in extensions if k.startswith("label_")} == {f"label_{k}" for k in labels}


def test_an_incident_of_the_mapping_wins() -> None:
    """Plain JSON has none of its own; what is no state is noted and fires."""
    mapping = {"subject": "s", "body": "b", "incident": "{{ key }}", "state": "{{ s }}"}
    key, state = incident({"key": "disk", "s": "Resolved"}, "json", mapping=mapping)
    assert (key.startswith("gw/src/"), state) == (True, "resolved")
    assert incident({"key": "disk", "s": "gone"}, "json", mapping=mapping) == (key, "firing")
    assert incident({"s": "resolved"}, "json", mapping=mapping) == ("", "")
    assert incident(alertmanager(key="disk"), mapping=mapping) == (key, "firing")


def test_links_are_bounded() -> None:
    """Sixteen of them, with addresses that an API server takes; one that is too long is left out."""
    address = "https://r/" + "x" * 2038
    links = [{"service": f"s{n}", "url": "https://r/", "label": "l"} for n in range(16)]
    links[0]["url"], links[1]["url"] = "{{ u }}", "{{ u }}x"
    found = spec(alertmanager(u=address), mapping={"links": links})["actionLinks"]
    assert [link["service"] for link in found] == [
        "alertmanager", "prometheus", "s0", *(f"s{n}" for n in range(2, 15)),
    ]  # fmt: skip
    assert found[2]["url"] == address


@pytest.mark.parametrize(("given", "days"), [(0, 1), (1, 1), (90, 90), (91, 90), ("7", 7)])
def test_days_of_retention_are_brought_within_their_bounds(given: object, days: int) -> None:
    """What an API server would refuse becomes the nearest that it takes."""
    mapping = {"subject": "s", "body": "b", "retentionDays": "{{ d }}"}
    assert spec({"d": given}, "json", mapping=mapping)["retentionDays"] == days


def test_what_does_not_fit_is_noted_within_a_bound() -> None:
    """Very many faults end in an ellipsis."""
    mapping = {"extensions": {f"e{n}": "{{ lower(alerts) }}" for n in range(50)}}
    annotations = desired(alertmanager(), mapping=mapping).manifest["metadata"]["annotations"]
    assert len(annotations[FAULTS]) == 1024
    assert annotations[FAULTS].endswith("…")


def test_an_id_of_the_mapping_tells_events_apart() -> None:
    """Two payloads of one id are one event, whatever else they say; the whole of a long one counts."""
    mapping = {"subject": "s", "body": "b", "id": "{{ id }}"}
    first, second, *others = (
        desired({"id": i, "n": n}, "json", mapping=mapping).identity.name
        for i, n in ((1, 1), (1, 2), (2, 1), ("x" * 3000 + "a", 1), ("x" * 3000 + "b", 1))
    )
    assert first == second
    assert len({first, *others}) == 4


def test_an_id_that_does_not_fit_leaves_the_source_s_own_and_is_noted() -> None:
    """A page that may come twice beats none."""
    mapping = {"subject": "s", "body": "b", "id": "{{ lower(run) }}"}
    found = desired({"run": 5}, "json", mapping=mapping)
    plain = desired({"run": 5}, "json", mapping={"subject": "s", "body": "b"})
    assert found.identity == plain.identity
    assert found.manifest["metadata"]["annotations"][FAULTS].startswith("id: the expression")


def test_a_namespace_of_the_payload_is_one_that_the_source_may_reach() -> None:
    """A template leads to the namespaces of the list and to no other: 403."""
    source: Json = {"namespace": "{{ commonLabels.namespace }}", "namespaces": ["shop", "bank"]}
    assert desired(alertmanager(), **source).namespace == "shop"
    with pytest.raises(Refused) as refused:
        desired(alertmanager(commonLabels={"namespace": "kube-system"}), **source)
    assert refused.value.status == 403


def test_the_rest_of_a_group_is_where_its_first_alert_is() -> None:
    """An expression of each alert finds nothing in the group, which is no reason to refuse them all."""
    source: Json = {
        "namespace": "{{ alert.labels.ns }}",
        "namespaces": ["shop", "bank"],
        "per": "alert",
    }

    def one(n: int, ns: str, status: str) -> Json:
        starts = f"2026-11-27T04:{n // 60:02}:{n % 60:02}Z"
        return alert(f"{n:03}", status, startsAt=starts, labels={"alertname": "Disk", "ns": ns})

    many = [one(n, "shop" if n < 100 else "bank", "firing") for n in range(102)]
    made, ends = everything(alertmanager(*many), **source)
    assert [found.namespace for found in made] == ["shop"] * 100 + ["bank"]
    assert ends == ()
    made, ends = everything(alertmanager(one(1, "bank", "resolved")), **source)
    assert (made, [end.namespace for end in ends]) == ((), ["bank", "bank"])
    with pytest.raises(Refused, match="leads to a namespace that is not in"):
        everything(alertmanager(one(1, "kube-system", "resolved")), **source)


def test_templates_of_receivers_get_the_alerts() -> None:
    """As many as fit into 16 KiB; the rest is counted, and all of it is no attribute."""
    many = [alert(f"a{n}", labels={"x": "y" * 400, "alertname": "Disk"}) for n in range(99)]
    for payload, shown, more in (
        (alertmanager(truncatedAlerts=3), 1, 3),
        (alertmanager(*many), 26, 73),
    ):
        extensions = spec(payload)["extensions"]
        assert len(extensions[DATA]) <= 16 * 1024
        data = json.loads(extensions[DATA])
        assert (len(data["alerts"]), data["truncatedAlerts"]) == (shown, more)
        assert data["groupLabels"] == {"alertname": "Disk"}
        assert data["alerts"][0]["url"] == "http://prometheus/graph?g0"
        assert DATA not in attributes_of(
            parse_spec({"extensions": extensions}), namespace="n", name="n"
        )
    huge = {f"k{n}": "v" * 1000 for n in range(64)}
    assert DATA not in spec(alertmanager(commonLabels=huge))["extensions"]
