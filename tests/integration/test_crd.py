"""The CustomResourceDefinitions on a real API server: schema, columns, selectable fields."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.rendering import render_status
from syncer.model.resource import (
    ChannelRollup,
    ChannelStatus,
    Json,
    LogMark,
    Rollup,
    Status,
    parse_object,
)
from tests.integration.api import (
    CRDS,
    Api,
    attempt,
    definition,
    notification,
)
from tests.servers.definition import upstream_form

TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}


async def serve(api: Api, document: Json) -> str:
    """Install a definition of another group; return the path of its objects once it is served."""
    answer = await api.ask("POST", f"{CRDS}?fieldValidation=Strict", document)
    assert answer.code == 201, answer.body
    path = f"/apis/{document['spec']['group']}/v1alpha1/namespaces/{api.namespace}"
    path = f"{path}/notificationrequests"
    await api.until_served(path)
    return path


async def test_strict_server_takes_it_whole(api: Api) -> None:
    """The server keeps every member of the definition as it is written."""
    group = f"g{uuid.uuid4().hex}.example.com"
    document = definition(group)
    await serve(api, document)
    served = (await api.ask("GET", f"{CRDS}/notificationrequests.{group}")).body
    (ours,), (theirs,) = document["spec"]["versions"], served["spec"]["versions"]
    assert theirs == ours
    established = {c["type"]: c["status"] for c in served["status"]["conditions"]}
    assert established["Established"] == "True"
    assert "NonStructuralSchema" not in established
    await api.ask("DELETE", f"{CRDS}/notificationrequests.{group}")


async def test_upstreams_life_passes(api: Api) -> None:
    """The writes that upstream makes over the life of a notification all pass, without ids."""
    await api.create()
    failed, sent = attempt("failed", id=None), attempt("success", id=None)
    life: list[Json] = [
        {"phase": "Pending", "queuedAt": "2026-01-01T00:00:00Z", "reason": "Initialized"},
        {"phase": "Sending", "processingStartedAt": "2026-01-01T00:00:00Z"},
        {
            "phase": "Retrying",
            "deliveryAttempts": [failed, {**sent, "channel": "file", "durationSeconds": 0.25}],
            "totalAttempts": 2,
            "successfulDeliveries": 1,
            "failedDeliveries": 1,
            "observedGeneration": 1,
        },
        {
            "phase": "Sent",
            "deliveryAttempts": [failed, {**sent, "channel": "file"}, {**sent, "attempt": 2}],
            "totalAttempts": 3,
            "successfulDeliveries": 2,
            "completionTime": "2026-01-01T00:00:02Z",
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "Ready",
                    "message": "Notification delivered",
                    "lastTransitionTime": "2026-01-01T00:00:02Z",
                }
            ],
        },
    ]
    answer = await api.ask("GET", f"{api.requests}/a")
    for status in life:
        written = {**answer.body, "status": status}
        answer = await api.ask("PUT", f"{api.requests}/a/status", written)
        assert answer.code == 200, answer.body
        assert answer.body["status"] == status
    parsed = parse_object(answer.body)
    assert [a.id for a in parsed.status.attempts] == ["0-0", "0-1", "0-2"]


@pytest.mark.parametrize("ours", [False, True])
async def test_our_status_comes_back_whole(api: Api, ours: bool) -> None:
    """It parses to what it was, whether the server keeps our members or prunes them."""
    group, path = "kubernaut.ai", api.requests
    if ours:
        group = f"g{uuid.uuid4().hex}.example.com"
        path = await serve(api, definition(group))
    answer = await api.ask("POST", path, notification("a", group=group))
    assert answer.code == 201, answer.body
    status = Status(
        phase="Retrying",
        attempts=(
            Attempt(AttemptId("0.7-1"), "console", AttemptState.SUCCESS, 900, 1_000, number=1),
            Attempt(
                AttemptId("0.7-2"), "slack:ops", AttemptState.UNKNOWN, 900, 1_000, 31_000, 100,
                FailureClass.UNCERTAIN, "no answer", 504, 4,
            ),
        ),
        total_attempts=5,
        successful=1,
        failed=1,
        uncertain=1,
        queued_at=500,
        started_at=600,
        observed_generation=1,
        channels=(ChannelStatus("slack:ops", "due", 4, 31_000),),
        rollup=Rollup(3, (ChannelRollup("slack:ops", 3, AttemptId("0.6-9"), 3),)),
        log=LogMark(9, "0.7", "5f1d"),
    )  # fmt: skip
    written = render_status(status)
    answer = await api.ask("PATCH", f"{path}/a/status?fieldValidation=Ignore", {"status": written})
    assert answer.code == 200, answer.body
    assert "Warning" not in answer.headers
    assert parse_object(answer.body).status == status
    left = set(written) - set(answer.body["status"])
    assert left == (set() if ours else {"channels", "rollup", "uncertainAttempts", "log"})
    assert all(("id" in e) is ours for e in answer.body["status"]["deliveryAttempts"])


@pytest.mark.parametrize(
    ("spec", "field", "reason"),
    [
        pytest.param({"type": "simple"}, "spec.type", "FieldValueNotSupported", id="old type"),
        pytest.param({"priority": ""}, "spec.priority", "FieldValueNotSupported", id="no priority"),
        pytest.param(
            {"reviewSource": "x"}, "spec.reviewSource", "FieldValueNotSupported", id="source"
        ),
        pytest.param({"subject": ""}, "spec.subject", "FieldValueInvalid", id="empty subject"),
        pytest.param(
            {"subject": "x" * 501}, "spec.subject", "FieldValueTooLong", id="long subject"
        ),
        pytest.param({"body": ""}, "spec.body", "FieldValueInvalid", id="empty body"),
        pytest.param({"retentionDays": 0}, "spec.retentionDays", "FieldValueInvalid", id="0 days"),
        pytest.param(
            {"retentionDays": 91}, "spec.retentionDays", "FieldValueInvalid", id="91 days"
        ),
        pytest.param(
            {"context": {"verification": {}}},
            "spec.context.verification.assessed",
            "FieldValueRequired",
            id="verification without assessed",
        ),
        pytest.param(
            {"actionLinks": [{"url": "u"}]},
            "spec.actionLinks[0].label",
            "FieldValueRequired",
            id="link without label",
        ),
        *(
            pytest.param(
                {"retryPolicy": {name: value}},
                f"spec.retryPolicy.{name}",
                "FieldValueInvalid",
                id=f"{name} {value}",
            )
            for name, low, high in (
                ("maxAttempts", 0, 11),
                ("initialBackoffSeconds", 0, 301),
                ("backoffMultiplier", 0, 11),
                ("maxBackoffSeconds", 59, 3601),
            )
            for value in (low, high)
        ),
    ],
)
async def test_spec_bounds(api: Api, spec: dict[str, Any], field: str, reason: str) -> None:
    """A spec outside upstream's bounds is refused, naming the member."""
    answer = await api.ask("POST", api.requests, notification(**spec))
    assert answer.code == 422
    causes = {(c["field"], c["reason"]) for c in answer.body["details"]["causes"]}
    assert (field, reason) in causes


@pytest.fixture
async def ours(api: Api) -> str:
    """An object of a group that our definition describes."""
    group = f"g{uuid.uuid4().hex}.example.com"
    path = await serve(api, definition(group))
    answer = await api.ask("POST", path, notification("a", group=group))
    assert answer.code == 201, answer.body
    return f"{path}/a"


async def test_longest_lists(api: Api, ours: str) -> None:
    """Five hundred attempts with the longest ids are taken; one more is refused."""
    epoch = f"{'9' * 10}.{'9' * 38}"
    most = [attempt("success", id=f"{epoch}-{10**13 + n}") for n in range(500)]
    assert {len(e["id"]) for e in most} == {64}
    answer = await api.ask("PATCH", f"{ours}/status", {"status": {"deliveryAttempts": most}})
    assert answer.code == 200, answer.body
    answer = await api.ask(
        "PATCH",
        f"{ours}/status",
        {"status": {"deliveryAttempts": [*most, attempt("failed", id="0.8-1")]}},
    )
    assert "Too many: 501: must have at most 500 items" in answer.message


@pytest.mark.parametrize("bad", ["1", "0.7", "0.7-0", "0.07-1", "a.7-1", "0-01", "0.7-1\n", "-1"])
async def test_ids_that_do_not_parse_are_refused(api: Api, ours: str, bad: str) -> None:
    """What is shown as an id always parses as one."""
    status = {"deliveryAttempts": [attempt("failed", id=bad)]}
    answer = await api.ask("PATCH", f"{ours}/status", {"status": status})
    assert answer.code == 422
    assert "status.deliveryAttempts[0].id" in {c["field"] for c in answer.body["details"]["causes"]}


LARGER: dict[str, dict[str, Any]] = {
    "spec.body": {"body": "b" * 1_100_000},
    "spec.extensions": {"extensions": {f"key-{n:05}": "v" for n in range(2_000)}},
    "spec.extensions.note": {"extensions": {"note": "v" * 70_000}},
    "spec.actionLinks": {"actionLinks": [{"service": "s", "url": "u", "label": "l"}] * 300},
    "spec.context.analysis.outcome": {"context": {"analysis": {"outcome": "o" * 70_000}}},
}


async def test_objects_from_before_the_bounds_stay_usable(api: Api) -> None:
    """
    What was created without the bounds is published and labelled under them, and only new ones are refused.

    Else a definition that is applied over a running installation would leave its largest objects without
    a status for ever.
    """
    group = f"g{uuid.uuid4().hex}.example.com"
    document = definition(group)
    path = await serve(api, upstream_form(document))
    for n, spec in enumerate(LARGER.values()):
        made = notification(f"large-{n}", group=group, **spec)
        answer = await api.ask("POST", path, made)
        assert answer.code == 201, answer.body
    crd_path = f"{CRDS}/{document['metadata']['name']}"
    served = (await api.ask("GET", crd_path)).body
    document["metadata"]["resourceVersion"] = served["metadata"]["resourceVersion"]
    answer = await api.ask("PUT", crd_path, document)
    assert answer.code == 200, answer.body
    # The least of them: the API server reads it until the definition is in force.
    new = notification("new", group=group, **LARGER["spec.context.analysis.outcome"])
    async with asyncio.timeout(30):
        while (answer := await api.ask("POST", f"{path}?dryRun=All", new)).code != 422:
            await asyncio.sleep(0.1)
    for n, (field, spec) in enumerate(LARGER.items()):
        name = f"{path}/large-{n}"
        status = {"phase": "Retrying", "totalAttempts": 1, "deliveryAttempts": [attempt("failed")]}
        answer = await api.ask("PATCH", f"{name}/status", {"status": status})
        assert answer.code == 200, (field, answer.body)
        answer = await api.ask("PATCH", name, {"metadata": {"labels": {"seen": "yes"}}})
        assert answer.code == 200, (field, answer.body)
        again = notification(f"again-{n}", group=group, **spec)
        answer = await api.ask("POST", path, again)
        assert answer.code == 422, field
        assert field in [c["field"] for c in answer.body["details"]["causes"]]


async def test_printer_columns(api: Api) -> None:
    """The table has upstream's columns in upstream's order, and ours in the wide form alone."""
    await api.create()
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Ready",
        "message": "Notification delivered",
        "lastTransitionTime": "2026-01-01T00:00:02Z",
    }
    status = {"phase": "Sent", "totalAttempts": 3, "conditions": [ready]}
    await api.ask("PATCH", f"{api.requests}/a/status", {"status": status})
    table = (await api.ask("GET", api.requests, headers=TABLE)).body
    columns = [(c["name"], c["type"], c["priority"]) for c in table["columnDefinitions"]]
    assert columns == [
        ("Name", "string", 0),
        ("Type", "string", 0),
        ("Priority", "string", 0),
        ("Phase", "string", 0),
        ("Attempts", "integer", 0),
        ("Reason", "string", 1),
        ("Age", "date", 0),
    ]
    cells = table["rows"][0]["cells"]
    assert cells[:6] == ["a", "Simple", "Medium", "Sent", 3, "Ready"]


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        pytest.param("spec.type=Approval", ["b"], id="by type"),
        pytest.param("spec.severity=high", ["a"], id="by severity"),
        pytest.param("spec.remediationRequestRef.name=rr-1", ["b"], id="by remediation"),
        pytest.param("spec.type=Simple,spec.severity=low", [], id="by two members"),
    ],
)
async def test_selectable_fields(api: Api, selector: str, names: list[str]) -> None:
    """Objects can be selected by upstream's three fields."""
    await api.create("a", severity="high")
    await api.create("b", type="Approval", remediationRequestRef={"name": "rr-1"})
    answer = await api.ask("GET", f"{api.requests}?fieldSelector={selector.replace('=', '%3D')}")
    assert [o["metadata"]["name"] for o in answer.body["items"]] == names


async def test_names_and_scope(api: Api) -> None:
    """The type is found by upstream's names, in a namespace, with a status subresource."""
    found = (await api.ask("GET", "/apis/kubernaut.ai/v1alpha1")).body["resources"]
    main, status = sorted(found, key=lambda r: str(r["name"]))
    assert (main["name"], main["singularName"], main["kind"]) == (
        "notificationrequests", "notificationrequest", "NotificationRequest",
    )  # fmt: skip
    assert main["shortNames"] == ["notif", "notifs"]
    assert main["namespaced"] is True
    assert status["name"] == "notificationrequests/status"
