"""What each source makes of its program's request, and what it refuses with which path."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any, Final

import pytest

from notifier.gateway.draft import Draft, Incoming, Options, Refused
from notifier.gateway.kinds import KINDS
from syncer.model.resource import Json
from tests.unit.notifier.gateway.payloads import (
    ARGOCD,
    CLOUDEVENT,
    FLUX,
    GITHUB,
    alert,
    alertmanager,
    grafana,
)

GITHUB_HEADERS: Final = {"x-github-event": "workflow_run", "x-github-delivery": "guid-1"}


def read(kind: str, payload: Any, **headers: str) -> list[Draft]:
    """Read a payload as a kind of source does."""
    return read_with(Options(), kind, payload, **headers)


def read_with(options: Options, kind: str, payload: Any, **headers: str) -> list[Draft]:
    """Read a payload as the gateway's file says."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    given = {key.replace("_", "-"): value for key, value in headers.items()}
    return list(KINDS[kind].read(Incoming(given, body), options))


def test_a_group_of_alertmanager() -> None:
    """A group is one notification with its counts, its labels for routing, and a link to each place."""
    (draft,) = read("alertmanager", alertmanager(alert(), alert("bbbb", "resolved")))
    assert (draft.type, draft.priority, draft.severity) == ("Escalation", "Critical", "critical")
    assert draft.subject == "[FIRING:1] Disk: disk is full"
    assert draft.body == (
        "firing since 2026-11-27 04:00:00 UTC: alertname=Disk, instance=aaaa, severity=critical\n"
        "  summary: disk is full\n\n"
        "resolved since 2026-11-27 04:00:00 UTC: alertname=Disk, instance=bbbb, severity=critical\n"
        "  summary: disk is full"
    )
    assert draft.extensions == {
        "status": "firing", "receiver": "gw", "alertname": "Disk", "severity": "critical",
        "namespace": "shop",
    }  # fmt: skip
    assert ("prometheus", "http://prometheus/graph?g0", "Expression") in draft.links
    assert draft.event == 'alertmanager:{}:{alertname="Disk"}'
    assert draft.repeats


@pytest.mark.parametrize(
    ("kind", "payload", "header"),
    [("github", GITHUB, "x_github_delivery"), ("json", {"a": 1}, "webhook_id")],
)
def test_what_is_not_signed_tells_no_events_apart(kind: str, payload: Json, header: str) -> None:
    """Where the body alone is signed, a request that is sent again with another id is the same event."""
    given = {"x_github_event": "workflow_run"}

    def identities(options: Options) -> set[object]:
        return {
            read_with(options, kind, payload, **given, **{header: guid})[0].identity
            for guid in ("guid-1", "guid-2")
        }

    assert len(identities(Options())) == 2
    assert len(identities(Options(body_alone=True))) == 1


def test_a_resolved_group_is_a_completion() -> None:
    """It has the urgency of what has ended, since it goes where that went."""
    over = alertmanager(alert(status="resolved"), status="resolved")
    (draft,) = read("alertmanager", over)
    assert (draft.type, draft.priority) == ("Completion", "Critical")
    assert draft.subject.startswith("[RESOLVED:1]")


def test_a_large_group_says_what_it_leaves_out() -> None:
    """A hundred alerts are listed; the rest, and what Alertmanager cut, is counted."""
    many = alertmanager(*(alert(f"{n:04}") for n in range(130)), truncatedAlerts=7)
    (draft,) = read("alertmanager", many)
    assert draft.subject.startswith("[FIRING:130]")
    assert draft.body.count("firing since") == 100
    assert draft.body.endswith("… and 37 more alerts of this group.")


def test_each_alert_by_itself() -> None:
    """Per alert, each has its own identity and view; beyond a hundred the rest is one notification."""
    each, alerts = Options(each=True), [alert(f"{n:04}") for n in range(103)]
    drafts = read_with(each, "alertmanager", alertmanager(*alerts))
    assert len(drafts) == len({str(d.identity) for d in drafts}) == 101
    assert drafts[-1].subject.startswith("[FIRING:3]")
    # What expressions cost does not grow with the square of the group.
    assert drafts[0].view["alert"] == alerts[0]
    assert drafts[0].view["alerts"] == alerts[:100]
    assert drafts[-1].view["alerts"] == alerts
    # What comes unchanged with a flush is no repeat, unless Alertmanager says so.
    assert [draft.repeats for draft in drafts] == [False] * 101
    reason = {"notification_reason": "repeat interval elapsed"}
    again = read_with(each, "alertmanager", alertmanager(*alerts, **reason))
    assert [draft.repeats for draft in again] == [True] * 101


def test_the_urgency_is_that_of_the_worst_alert_that_fires() -> None:
    """Labels drift within a group: what its alerts have in common says nothing of one that is worse."""
    info = alert("b", labels={"alertname": "Disk", "severity": "info"})
    plain = alert("c", labels={"alertname": "Disk"})
    worst = alert("d", "resolved")

    def found(*alerts: Json) -> tuple[str, str, str]:
        (draft,) = read("alertmanager", alertmanager(*alerts, commonLabels={}))
        return draft.type, draft.priority, draft.severity

    assert found(info, alert()) == ("Escalation", "Critical", "critical")
    assert found(info, plain, worst) == ("Escalation", "Medium", "")
    assert found(info, worst) == ("StatusUpdate", "Low", "info")
    (draft,) = read("alertmanager", alertmanager(plain))
    assert draft.severity == "critical", "the common labels have it"
    assert found(alert("b", "resolved", labels=info["labels"]), worst)[1:] == (
        "Critical",
        "critical",
    )


def test_a_payload_that_was_cut_short_resolves_nothing() -> None:
    """Alertmanager cuts before it says whether anything fires."""
    over = alertmanager(alert(status="resolved"), status="resolved", truncatedAlerts=1)
    (draft,) = read("alertmanager", over)
    assert (draft.state, draft.type) == ("firing", "Escalation")
    assert draft.subject == "[FIRING] Disk: disk is full"


#: What of each program is about which incident, and its state; None is about none.
INCIDENTS: Final[dict[str, tuple[str, Json, tuple[object, ...] | None, str]]] = {
    "Flux fails": (
        "flux", FLUX, ("kustomize.toolkit.fluxcd.io", "Kustomization", "apps", "podinfo"), "firing",
    ),
    "Flux recovers, for another reason": (
        "flux", FLUX | {"severity": "info", "reason": "ReconciliationSucceeded"},
        ("kustomize.toolkit.fluxcd.io", "Kustomization", "apps", "podinfo"), "resolved",
    ),
    "Flux goes on": ("flux", FLUX | {"severity": "info", "reason": "Progressing"}, None, ""),
    "Flux rolls back": ("flux", FLUX | {"severity": "info", "reason": "RollbackSucceeded"}, None, ""),
    "a sync of Argo CD fails": (
        "argocd", ARGOCD, ("/argocd/argocd/guestbook", "sync"), "firing",
    ),
    "a sync succeeds before its application is healthy": (
        "argocd", ARGOCD | {"type": "on-sync-succeeded"},
        ("/argocd/argocd/guestbook", "sync"), "resolved",
    ),
    "an application degrades": (
        "argocd", ARGOCD | {"type": "on-health-degraded"},
        ("/argocd/argocd/guestbook", "health"), "firing",
    ),
    "an application is deployed": (
        "argocd", ARGOCD | {"type": "on-deployed"},
        ("/argocd/argocd/guestbook", "health"), "resolved",
    ),
    "a trigger of one's own": ("argocd", ARGOCD | {"type": "on-monday"}, None, ""),
    "an event": ("cloudevents", CLOUDEVENT, None, ""),
    "Grafana's has the organisation": (
        "grafana", grafana(), (2, "gw", "group", '{}:{alertname="Disk"}'), "firing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", INCIDENTS)
def test_what_an_event_is_about(case: str) -> None:
    """The object, not the reason; the trigger, not what else the application suffers from."""
    kind, payload, wanted, state = INCIDENTS[case]
    (draft,) = read(kind, payload)
    assert (draft.incident, draft.state) == (wanted, state)


#: An alert by itself: its members that differ, and type, priority and subject of its notification.
SINGLE: Final[dict[str, tuple[Json, tuple[str, str, str]]]] = {
    "it fires": ({}, ("Escalation", "Critical", "[FIRING] Disk: disk is full")),
    "it is over": (
        {"status": "resolved"}, ("Completion", "Critical", "[RESOLVED] Disk: disk is full"),
    ),
    "its severity has no rank": (
        {"labels": {"alertname": "Disk", "severity": "purple"}},
        ("Escalation", "Medium", "[FIRING] Disk: disk is full"),
    ),
    "nobody says what it means": ({"annotations": {}}, ("Escalation", "Critical", "[FIRING] Disk")),
    "it has no name": (
        {"labels": {"severity": "warning"}}, ("Escalation", "Medium", "[FIRING] disk is full"),
    ),
    "it has neither": (
        {"labels": {}, "annotations": {}}, ("Escalation", "Medium", "[FIRING] aaaa"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SINGLE)
def test_an_alert_by_itself(case: str) -> None:
    """Its own state and severity count, not those of its group."""
    members, wanted = SINGLE[case]
    one = alert(**members)
    (draft, *_) = read_with(Options(each=True), "alertmanager", alertmanager(one))
    if draft.whole is not None:
        draft = draft.whole()
    assert (draft.type, draft.priority, draft.subject) == wanted
    assert draft.severity == one["labels"].get("severity", "")
    assert draft.extensions == {"status": one["status"], "receiver": "gw", **one["labels"]}
    assert draft.event == "alertmanager:aaaa"
    assert draft.links[0] == ("alertmanager", "http://alertmanager-0:9093", "Alerts")
    assert draft.since == 1_795_752_000_123
    assert (draft.repeats, draft.repeat) == (False, False)


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("ignored", [False, True])
def test_starts_that_each_peer_makes_up_can_be_left_out(each: bool, ignored: bool) -> None:
    """With `ignoreStartsAt` a start counts neither in the identity nor for the slots of repeats."""
    options = Options(each=each, ignore_starts_at=ignored)
    first, second = (
        read_with(options, "alertmanager", alertmanager(alert(startsAt=f"2026-11-27T0{n}:00:00Z")))[
            0
        ]
        for n in (4, 5)
    )
    assert (first.identity == second.identity) is ignored
    assert (first.since == 0) is ignored


@pytest.mark.parametrize("each", [False, True])
def test_a_group_has_a_state_and_a_key(each: bool) -> None:
    """Also where each alert is told by itself: without them it is not what it says it is."""
    options = Options(each=each)
    for member, text in (
        ("status", "status: must be one of"),
        ("groupKey", "groupKey: is required"),
    ):
        for value in ("odd" if member == "status" else "", None):
            with pytest.raises(Refused, match=text if value else f"{member}: is required"):
                read_with(options, "alertmanager", alertmanager(**{member: value}))
    assert (
        read_with(options, "alertmanager", alertmanager(receiver=""))[0].extensions["receiver"]
        == ""
    )


#: What may change between two deliveries of one event, and what makes it another one.
SAME: Final[dict[str, Callable[[Json], Any]]] = {
    "the peer's address": lambda p: p.update(externalURL="http://alertmanager-1:9093"),
    "an annotation": lambda p: p["alerts"][0]["annotations"].update(summary="fuller"),
    "the end": lambda p: p["alerts"][0].update(endsAt="2026-11-27T09:00:00Z"),
    "the expression's address": lambda p: p["alerts"][0].update(generatorURL="http://other"),
    "the reason": lambda p: p.update(notification_reason="repeat interval elapsed"),
    "the order": lambda p: p["alerts"].reverse(),
}
OTHER: Final[dict[str, Callable[[Json], Any]]] = {
    "an alert more": lambda p: p["alerts"].append(alert("cccc")),
    "an alert that is over": lambda p: p["alerts"][0].update(status="resolved"),
    "an alert that fires again": lambda p: p["alerts"][0].update(startsAt="2026-11-27T05:00:00Z"),
    "another group": lambda p: p.update(groupKey="{}:{}"),
    "another receiver": lambda p: p.update(receiver="other"),
    "more that was cut": lambda p: p.update(truncatedAlerts=1),
}


@pytest.mark.parametrize("change", [*SAME, *OTHER])
def test_what_makes_another_event_of_a_group(change: str) -> None:
    """Retries, twins and repeats share an identity; growth, resolution and a new start do not."""
    before = alertmanager(alert(), alert("bbbb"))
    after = copy.deepcopy(before)
    (SAME | OTHER)[change](after)
    identities = [read("alertmanager", p)[0].identity for p in (before, after)]
    assert (identities[0] == identities[1]) is (change in SAME)


def test_a_group_of_grafana() -> None:
    """Its starts have a zone, its organisations are apart, and its links lead to Grafana."""
    (draft,) = read("grafana", grafana())
    (elsewhere,) = read("grafana", grafana(orgId=3))
    assert draft.identity != elsewhere.identity
    assert draft.identity is not None
    assert draft.identity[-1] == [("aaaa", "firing", 1795752000123)]
    assert ("grafana", "https://g/d/1", "Dashboard") in draft.links
    assert draft.event.startswith("grafana:")


def test_an_event_of_flux() -> None:
    """Its object, reason and message; the identity knows nothing of the Alert that sent it."""
    (draft,) = read("flux", FLUX)
    assert draft.subject == "[ERROR] Kustomization apps/podinfo: HealthCheckFailed"
    assert draft.body == "health check failed\ncluster: prod\nrevision: main@sha1:0123"
    assert (draft.type, draft.priority) == ("Escalation", "High")
    assert draft.extensions["objectNamespace"] == "apps"
    other_alert = {**FLUX, "metadata": {"revision": "main@sha1:0123", "cluster": "other"}}
    prefixed = {
        **FLUX,
        "metadata": {"kustomize.toolkit.fluxcd.io/revision": "main@sha1:0123", "cluster": "prod"},
    }
    again = {**FLUX, "timestamp": "2026-11-27T04:05:00Z"}
    same = [read("flux", p)[0].identity == draft.identity for p in (other_alert, prefixed, again)]
    assert same == [True, True, False]


def test_an_event_of_argo_cd() -> None:
    """The template's CloudEvent, by its id; what failed escalates."""
    (draft,) = read("argocd", ARGOCD)
    assert draft.subject == "Application guestbook: on-sync-failed"
    assert (draft.type, draft.priority) == ("Escalation", "High")
    assert draft.body.splitlines()[0] == "phase: Failed"
    assert draft.identity == ("/argocd/argocd/guestbook", ARGOCD["id"])
    well = {**ARGOCD, "type": "on-deployed", "data": {"app": "guestbook", "health": "Healthy"}}
    assert read("argocd", well)[0].type == "StatusUpdate"


def test_a_structured_cloudevent() -> None:
    """Source and id are the identity, extension attributes are for routing, data is the text."""
    (draft,) = read("cloudevents", CLOUDEVENT, content_type="application/cloudevents+json")
    assert draft.identity == ("/falco", "a1")
    assert draft.subject == "io.example.alarm: door"
    assert json.loads(draft.body) == {"open": True}
    assert draft.extensions["team"] == "security"
    assert read("cloudevents", CLOUDEVENT, content_type="application/json")[0] == draft


def test_a_binary_cloudevent() -> None:
    """Attributes are headers, quoted or percent-encoded; the body is the data."""
    headers = {
        "ce_specversion": "1.0", "ce_id": '"a 1"', "ce_source": "/x%20y", "ce_type": "t",
        "content_type": "application/json",
    }  # fmt: skip
    (draft,) = read("cloudevents", b'{"a":1}', **headers)
    assert draft.identity == ("/x y", "a 1")
    assert draft.view["data"] == {"a": 1}
    (text,) = read("cloudevents", b"words", **{**headers, "content_type": "text/plain"})
    assert text.body == "words"
    (raw,) = read("cloudevents", b"\xff", **{**headers, "content_type": "image/png"})
    assert raw.view["data_base64"] == "/w=="
    with pytest.raises(Refused, match="ce-source: is not UTF-8"):
        read("cloudevents", b"", **{**headers, "ce_source": "%ff"})


def test_a_signed_cloudevent_is_structured() -> None:
    """Whoever overhears one cannot choose by ce- headers what it becomes."""
    options = Options(body_alone=True)
    assert read_with(options, "cloudevents", CLOUDEVENT) == read("cloudevents", CLOUDEVENT)
    headers = {"ce_specversion": "1.0", "ce_id": "2", "ce_source": "/x", "ce_type": "t"}
    with pytest.raises(Refused, match="does not cover ce- headers") as refused:
        read_with(options, "cloudevents", CLOUDEVENT, **headers)
    assert refused.value.status == 415


_MEMBERS: Final = b",".join(b'"%x" \n:1' % n for n in range(399_999))
#: A body that is read, how much is in it, one that is too much, and what is said of that.
BOUNDS: Final[dict[str, tuple[bytes, int, bytes, str]]] = {
    "objects and lists count alike": (
        b'{"x": [' + b"[]," * 100_000 + b"{}," * 99_997 + b"{}]}", 199_998,
        b'{"x": [' + b"[]," * 100_000 + b"{}," * 99_998 + b"{}]}", "200000 objects and lists",
    ),
    "members cost as much, however they are written": (
        b'{"x": {' + _MEMBERS + b"}}", 399_999, b'{"x": {' + _MEMBERS + b',"one":1}}', "400000 members",
    ),
    "short texts and numbers of a list are neither, and cost as much": (
        b'{"x": [' + b'"",' * 800_000 + b'""]}', 800_001,
        b'{"x": [' + b"0," * 800_001 + b"0]}", "800000 commas",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BOUNDS)
def test_the_parts_of_a_body_are_bounded(case: str) -> None:
    """As many as may be are read; with one more it is refused."""
    body, count, more, text = BOUNDS[case]
    (draft,) = read("json", body)
    assert len(draft.view["x"]) == count
    with pytest.raises(Refused, match=f"more than {text}") as refused:
        read("json", more)
    assert (refused.value.status, refused.value.path) == (413, "")


def test_colons_in_texts_are_no_members() -> None:
    """However many there are."""
    (draft,) = read("json", b'{"x": "' + b"12:00:01 " * 300_000 + b'"}')
    assert len(draft.view["x"]) == 2_700_000


def test_the_alerts_of_a_group_are_bounded() -> None:
    """More than 8 MiB of real ones are no group; they would be sorted in one go."""
    tiny = {"status": "firing"}
    (draft,) = read("alertmanager", alertmanager(*[tiny] * 50_000))
    assert draft.body.endswith("… and 49900 more alerts of this group.")
    with pytest.raises(Refused, match="more than 50000 alerts") as refused:
        read("alertmanager", alertmanager(*[tiny] * 50_001))
    assert (refused.value.status, refused.value.path) == (413, "alerts")


def test_a_group_that_does_not_count_what_was_cut() -> None:
    """A number that is absent, or a start before all time, is none; a negative one is refused."""
    payload = alertmanager(alert(startsAt="0001-01-01T00:00:00Z"))
    (draft,) = read("alertmanager", without(payload, "truncatedAlerts"))
    assert "more alerts" not in draft.body
    assert draft.body.startswith("firing: alertname=Disk")
    assert draft.since == 0
    assert read("alertmanager", payload)[0].identity == draft.identity
    for wrong in (-1, True, 1.0, "1"):
        with pytest.raises(Refused, match="truncatedAlerts: must be a whole number"):
            read("alertmanager", alertmanager(truncatedAlerts=wrong))


def test_a_group_is_as_old_as_its_youngest_alert() -> None:
    """Slots of repeats are counted from the newest start on."""
    older = alert("bbbb", startsAt="2026-11-27T03:00:00Z")
    (draft,) = read("alertmanager", alertmanager(older, alert(), older))
    assert draft.since == 1_795_752_000_123
    (single,) = read_with(Options(each=True), "alertmanager", alertmanager(older))
    assert single.since == 1_795_748_400_000


def test_what_is_shown_of_an_alert_is_bounded() -> None:
    """Eight annotations in the order of their names, each cut, like the labels, to a thousand."""
    notes = {f"n{n}": "x" * (1000 + n % 2) for n in range(10)}
    (draft,) = read("alertmanager", alertmanager(alert(annotations=notes)))
    shown = [line.strip().partition(": ") for line in draft.body.splitlines()[1:]]
    assert [name for name, _, _ in shown] == [f"n{n}" for n in range(8)]
    assert {text for _, _, text in shown} == {"x" * 1000, "x" * 999 + "…"}
    (wide,) = read("alertmanager", alertmanager(alert(labels={"l": "x" * 2000})))
    labels = wide.body.splitlines()[0].partition("UTC: ")[2]
    assert (len(labels), labels[-1]) == (1000, "…")


def test_the_path_of_a_member_is_bounded() -> None:
    """Its name is the sender's."""
    labels = {"l" * 300: 1}
    with pytest.raises(Refused) as refused:
        read("alertmanager", alertmanager(alert(labels=labels)))
    assert len(refused.value.path) == 200
    assert refused.value.path.startswith("alerts[0].labels.lll")


def test_a_delivery_of_github() -> None:
    """The delivery is the identity; what failed escalates; a ping becomes nothing."""
    headers = {k.replace("-", "_"): v for k, v in GITHUB_HEADERS.items()}
    (draft,) = read("github", GITHUB, **headers)
    assert draft.identity == ("delivery", "guid-1")
    assert draft.subject == "o/r: workflow_run completed: CI"
    assert (draft.type, draft.severity) == ("Escalation", "error")
    assert draft.links == (("github", "https://github.com/o/r/actions/runs/1", "CI"),)
    assert read("github", {"zen": "x"}, x_github_event="ping") == []


def test_what_is_not_there_is_left_out() -> None:
    """Objects that an event need not have may be absent; it is told by what there is."""
    (bare,) = read("argocd", without(ARGOCD, "data"))
    assert (bare.subject, bare.body) == ("Application guestbook: on-sync-failed", "on-sync-failed")
    assert bare.extensions == {"app": "guestbook", "trigger": "on-sync-failed"}
    (push,) = read("github", {"compare": "https://github.com/c"}, x_github_event="push")
    assert (push.subject, push.body) == ("GitHub: push", "https://github.com/c")
    assert (push.identity, push.type, push.priority) == (None, "StatusUpdate", "Low")
    assert push.extensions == {"event": "push"}
    assert push.links == (("github", "https://github.com/c", "push"),)
    (flux,) = read("flux", without(without(FLUX, "metadata"), "timestamp"))
    assert (flux.body, flux.since, flux.repeat) == ("health check failed", 0, False)


def test_plain_json_is_what_the_mapping_sees() -> None:
    """Nothing is read of it; an id of Standard Webhooks is taken for the event's."""
    (draft,) = read("json", {"a": 1})
    assert (draft.identity, draft.view) == (None, {"a": 1})
    assert read("json", {"a": 1}, webhook_id="m1")[0].identity == ("webhook-id", "m1")


def without(payload: Json, *path: str | int) -> Json:
    """A payload without a member."""
    out = copy.deepcopy(payload)
    node: Any = out
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = None
    return out


REFUSED: Final[dict[str, tuple[str, Any, int, str]]] = {
    "no JSON": ("alertmanager", b"{", 400, "the body is not JSON (line 1, column 2)"),
    "no object": ("json", [1], 400, "the body must be a JSON object"),
    "another version": ("alertmanager", alertmanager(version="3"), 422, "version: must be 4"),
    "no alerts": ("alertmanager", {**alertmanager(), "alerts": []}, 422, "alerts: must hold"),
    "alerts that are no list": (
        "alertmanager", {**alertmanager(), "alerts": {}}, 422, "alerts: must be a list",
    ),
    "an alert that is no object": (
        "alertmanager", {**alertmanager(), "alerts": [1]}, 422, "alerts[0]: must be an object",
    ),
    "a state that nobody knows": (
        "alertmanager", alertmanager(alert(), alert(status="odd")), 422,
        "alerts[1].status: must be one of firing, resolved",
    ),
    "a label that is no text": (
        "alertmanager", alertmanager(alert(labels={"a": 1})), 422, "alerts[0].labels.a: must be text",
    ),
    "a start that is no time": (
        "alertmanager", alertmanager(alert(startsAt="soon")), 422, "alerts[0].startsAt: must be a time",
    ),
    "no group key": (
        "alertmanager", without(alertmanager(), "groupKey"), 422, "groupKey: is required",
    ),
    "Grafana's format for Alertmanager": ("alertmanager", grafana(), 422, "version: must be 4"),
    "Alertmanager's format for Grafana": ("grafana", alertmanager(), 422, "version: must be 1"),
    "an organisation that is no number": ("grafana", grafana(orgId="2"), 422, "orgId: must be a whole"),
    "no object of Flux": (
        "flux", without(FLUX, "involvedObject"), 422, "involvedObject: must be an object",
    ),
    "an object without a name": (
        "flux", without(FLUX, "involvedObject", "name"), 422, "involvedObject.name: is required",
    ),
    "a severity that Flux has not": (
        "flux", {**FLUX, "severity": "bad"}, 422, "severity: must be one of info, error, trace",
    ),
    "an Argo CD event without an id": ("argocd", without(ARGOCD, "id"), 422, "id: is required"),
    "a CloudEvent of another version": (
        "cloudevents", {**CLOUDEVENT, "specversion": "0.3"}, 422, "specversion: must be 1.0",
    ),
    "a delivery without its event": ("github", GITHUB, 400, "x-github-event: is required, as a header"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_request_of_its_program_is_refused(case: str) -> None:
    """The answer has the path of the member at fault, and quotes no value."""
    kind, payload, status, text = REFUSED[case]
    with pytest.raises(Refused) as refused:
        read(kind, payload)
    assert str(refused.value).startswith(text)
    assert refused.value.status == status


_EVENT: Final = b'{"specversion":"1.0","id":"1","source":"s","type":"t","data":'
_MANY: Final = b'{"x": [' + b"[]," * 200_000 + b"1]}"
#: What is refused by its form: its kind, headers and body, the status, and what is said.
FORMS: Final[dict[str, tuple[str, dict[str, str], bytes, int, str]]] = {
    "data that can be read and not be written again": (
        "cloudevents", {"content_type": "application/cloudevents+json"},
        _EVENT + b"[" * 500 + b"]" * 500 + b"}", 422, "data: is nested too deeply",
    ),
    "data that cannot be read": ("json", {}, b"[" * 100_000, 400, "the body is not JSON"),
    "very many parts, which would keep the interpreter's lock": (
        "cloudevents", {}, _MANY, 413, "^the body has more than 200000 objects and lists",
    ),
    "very many parts of data": (
        "cloudevents", {"ce_specversion": "1.0", "content_type": "application/json"}, _MANY, 413,
        "^the body has more than 200000 objects and lists",
    ),
    "a batch": (
        "cloudevents", {"content_type": "application/cloudevents-batch+json"}, b"{}", 415,
        "send events one by one",
    ),
    "a form": (
        "github", {"content_type": "application/x-www-form-urlencoded"}, b"{}", 415,
        "content type to application/json",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FORMS)
def test_what_has_another_form_is_refused(case: str) -> None:
    """The answer says what to do instead."""
    kind, headers, body, status, text = FORMS[case]
    with pytest.raises(Refused, match=text) as refused:
        read(kind, body, **headers)
    assert refused.value.status == status
