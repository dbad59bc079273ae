"""The policy on statuses, on a real API server: who may write one, and what nobody takes from it."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
import yaml

from syncer.kube.errors import error_of
from syncer.model.errors import NOT_CORRECTED, Unauthorised
from syncer.model.resource import Json
from tests.conftest import STATUS_POLICY
from tests.integration.accounts import account, admitting, as_account
from tests.integration.api import CRDS, Api, Reply, attempt, notification
from tests.servers.controlplane import ControlPlane
from tests.servers.definition import load_crd, upstream_form

USUAL: Final = ("get", "patch", "update")
SSA: Final = "application/apply-patch+yaml"
JSON_PATCH: Final = "application/json-patch+json"


async def in_force(api: Api, name: str = "probe", requests: str = "") -> None:
    """Wait until the policy refuses this writer, which takes the API server a second."""
    path = f"{requests or api.requests}/{name}/status"
    async with asyncio.timeout(30):
        while (await api.ask("PATCH", path, {"status": {"reason": uuid.uuid4().hex}})).code != 403:
            await asyncio.sleep(0.1)


@pytest.fixture
async def admin(api: Api) -> Api:
    """Return a client that may do everything, with an object to write to and one to probe with."""
    await api.create("a")
    await api.create("probe")
    return api


async def put(api: Api, at: str) -> Reply:
    """Replace the status of what was read before."""
    current = (await api.ask("GET", at)).body
    return await api.ask("PUT", f"{at}/status", {**current, "status": {"phase": "Sent"}})


def patched(
    body: Json | list[Any], form: str = "", query: str = ""
) -> Callable[[Api, str], Awaitable[Reply]]:
    """Return an act that patches the status."""
    return lambda api, at: api.ask("PATCH", f"{at}/status{query}", body, form=form)


FORGED: Final = {"status": {"phase": "Sent"}}
APPLIED: Final = {"apiVersion": "kubernaut.ai/v1alpha1", "kind": "NotificationRequest", **FORGED}
#: What somebody with the usual rights on statuses may try.
ACTS: Final[dict[str, Callable[[Api, str], Awaitable[Reply]]]] = {
    "replaces it": put,
    "merges into it": patched(FORGED),
    "removes it": patched({"status": None}),
    "patches a member": patched(
        [{"op": "add", "path": "/status", "value": {"phase": "Sent"}}], JSON_PATCH
    ),
    "applies it by force": patched(APPLIED, SSA, "?fieldManager=x&force=true"),
    "tries without writing": patched(FORGED, query="?dryRun=All"),
    "changes metadata by way of it": patched({"metadata": {"labels": {"a": "b"}}}),
}


async def test_nobody_writes_a_status_without_the_verb(
    control_plane: ControlPlane, admin: Api
) -> None:
    """Each way to write one is refused, naming user, verb and namespace; controller and admin may."""
    account(control_plane, admin.namespace, "foreign", {"objects": USUAL, "statuses": USUAL})
    async with as_account(control_plane, admin.namespace, "foreign") as foreign:
        await in_force(foreign)
        for name, act in ACTS.items():
            answer = await act(foreign, f"{admin.requests}/a")
            assert (answer.code, answer.reason) == (403, "Forbidden"), name
            assert (
                f'User "system:serviceaccount:{admin.namespace}:foreign" cannot record resource'
                ' "notificationrequests/status" in API group "kubernaut.ai" in the namespace'
                f' "{admin.namespace}"'
            ) in answer.message, name
            # What the controller would make of it: a missing permission, of all objects alike.
            error = error_of(answer.code, json.dumps(answer.body).encode(), None, write=True)
            assert isinstance(error, Unauthorised)
            assert error.reason == "Forbidden"
            assert str(error).startswith('403 Forbidden: User "system:serviceaccount:')
        # A status in the object itself is dropped by the server; nothing changed by any of it.
        await foreign.ask("PATCH", f"{admin.requests}/a", FORGED)
        found = (await admin.ask("GET", f"{admin.requests}/a")).body
        assert "phase" not in found.get("status", {})
        assert "labels" not in found["metadata"]
    plane = control_plane
    async with Api(plane.server, plane.controller_token, plane.ca_file, admin.namespace) as own:
        for api in (own, admin):
            for name, act in ACTS.items():
                answer = await act(api, f"{admin.requests}/a")
                assert answer.code == 200, (name, answer.body)


_TWO: Final = [attempt("failed", id=None), {**attempt("failed", id=None), "attempt": 2}]
_SENT: Final = [_TWO[0], {**_TWO[1], "status": "success"}]
_LOST: Final = "deliveryAttempts may not lose an entry, by channel, number and time"
#: What happens to a status, and what is said to a writer who may not correct; empty if he may do it.
CHANGES: Final[dict[str, tuple[Json, Json | None, str]]] = {
    "a delivery may end": ({"phase": "Retrying"}, {"phase": "Sent"}, ""),
    "a phase that is not final may change back": ({"phase": "Retrying"}, {"phase": "Sending"}, ""),
    "Sent is final": ({"phase": "Sent"}, {"phase": "Retrying"}, "phase may not change once it is"),
    "Failed is final": ({"phase": "Failed"}, {"reason": "x"}, "phase may not change once it is"),
    "the total may not fall": ({"totalAttempts": 2}, {"totalAttempts": 1}, "totalAttempts may not fall"),
    "the total may not vanish": ({"totalAttempts": 2}, {"reason": "x"}, "totalAttempts may not fall"),
    "successes may not fall": (
        {"successfulDeliveries": 2}, {"successfulDeliveries": 1}, "successfulDeliveries may not fall",
    ),
    "failures may fall": ({"failedDeliveries": 2}, {"failedDeliveries": 1}, ""),
    "an attempt may be added": ({"deliveryAttempts": _TWO[:1]}, {"deliveryAttempts": _TWO}, ""),
    "attempts may change places": ({"deliveryAttempts": _TWO}, {"deliveryAttempts": _TWO[::-1]}, ""),
    "an attempt may turn out successful": ({"deliveryAttempts": _TWO}, {"deliveryAttempts": _SENT}, ""),
    "an attempt may not vanish": ({"deliveryAttempts": _TWO}, {"deliveryAttempts": _TWO[1:]}, _LOST),
    "not behind a roll-up either": (
        {"deliveryAttempts": _TWO}, {"deliveryAttempts": _TWO[1:], "rollup": {"through": 1}}, _LOST,
    ),
    "nor with a mark of ours": (
        {"deliveryAttempts": _TWO},
        {"deliveryAttempts": _TWO[1:], "conditions": [{
            "type": "notification-ledger/Record", "status": "True", "reason": "Recorded", "message": "{}",
            "lastTransitionTime": "2026-01-01T00:00:02Z"}]},
        _LOST,
    ),
    "the list may not vanish": ({"deliveryAttempts": _TWO}, {"reason": "x"}, _LOST),
    "an attempt may not change its time": (
        {"deliveryAttempts": _TWO},
        {"deliveryAttempts": [{**_TWO[0], "timestamp": "2026-01-01T00:00:09Z"}, _TWO[1]]},
        _LOST,
    ),
    "an attempt may not change its channel": (
        {"deliveryAttempts": _TWO}, {"deliveryAttempts": [{**_TWO[0], "channel": "x"}, _TWO[1]]}, _LOST,
    ),
    "a success stays one": (
        {"deliveryAttempts": _SENT}, {"deliveryAttempts": _TWO},
        "deliveryAttempts may not change an entry that succeeded",
    ),
    "the record may not be removed": ({"totalAttempts": 1}, None, "may not"),
}  # fmt: skip


@pytest.mark.parametrize("form", [upstream_form, load_crd], ids=["Kubernaut's", "ours"])
async def test_a_writer_adds_to_the_record_and_takes_nothing_from_it(
    control_plane: ControlPlane, admin: Api, form: Callable[[], Json]
) -> None:
    """Under either definition: who records is held to the rules, who corrects is not."""
    group = f"g{uuid.uuid4().hex}.example.com"
    requests = admin.requests.replace("kubernaut.ai", group)
    definition = form()
    definition["metadata"]["name"], definition["spec"]["group"] = (
        f"notificationrequests.{group}",
        group,
    )
    assert (await admin.ask("POST", CRDS, definition)).code == 201
    await admin.until_served(requests)
    for name in ("a", "probe"):
        assert (await admin.ask("POST", requests, notification(name, group=group))).code == 201
    policy = yaml.safe_load(STATUS_POLICY.read_text().replace("kubernaut.ai", group))
    policy["metadata"]["name"] = group
    binding = {
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": group},
        "spec": {"policyName": group, "validationActions": ["Deny"]},
    }
    account(control_plane, admin.namespace, "foreign", {})
    account(control_plane, admin.namespace, "writer", {})
    for name, verbs in (("foreign", USUAL), ("writer", (*USUAL, "record"))):
        path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{admin.namespace}/roles/{name}"
        rule = {"apiGroups": [group], "resources": ["*"], "verbs": verbs}
        assert (await admin.ask("PATCH", path, {"rules": [rule]})).code == 200
    at = f"{requests}/a"
    with admitting(control_plane, (policy, binding)):
        async with as_account(control_plane, admin.namespace, "foreign") as foreign:
            await in_force(foreign, requests=requests)
        async with as_account(control_plane, admin.namespace, "writer") as writer:
            for name, (before, after, refusal) in CHANGES.items():
                current = (await admin.ask("GET", at)).body
                answer = await admin.ask("PUT", f"{at}/status", {**current, "status": before})
                assert answer.code == 200, (name, answer.body)
                change = {**answer.body, "status": after}
                if after is None:
                    del change["status"]
                answer = await writer.ask("PUT", f"{at}/status", change)
                assert answer.code == (403 if refusal else 200), (name, answer.body)
                if refusal:
                    assert ':writer" cannot correct resource' in answer.message, name
                    assert refusal in answer.message, name
                    text = json.dumps(answer.body).encode()
                    error = error_of(answer.code, text, None, write=True)
                    assert getattr(error, "reason", "") == NOT_CORRECTED, name
                    # An administrator holds every verb, and the controller was granted it.
                    assert (await admin.ask("PUT", f"{at}/status", change)).code == 200, name
    await admin.ask("DELETE", f"{CRDS}/notificationrequests.{group}")


async def test_the_longest_status_stays_below_the_limit_of_costs(
    control_plane: ControlPlane, admin: Api
) -> None:
    """With 500 attempts a writer's change is judged and not given up, in whatever order they are."""
    most = [{**attempt("success", id=None), "attempt": n + 1} for n in range(500)]
    assert (
        await admin.ask(
            "PATCH", f"{admin.requests}/a/status", {"status": {"deliveryAttempts": most}}
        )
    ).code == 200
    account(control_plane, admin.namespace, "foreign", {"statuses": USUAL})
    account(control_plane, admin.namespace, "writer", {"statuses": (*USUAL, "record")})
    async with as_account(control_plane, admin.namespace, "foreign") as foreign:
        await in_force(foreign)
    async with as_account(control_plane, admin.namespace, "writer") as writer:
        for entries, code, reason in ((most[::-1], 200, ""), (most[1:], 403, _LOST)):
            change = {"status": {"deliveryAttempts": entries}}
            answer = await writer.ask("PATCH", f"{admin.requests}/a/status", change)
            assert answer.code == code, answer.body
            assert reason in answer.message
