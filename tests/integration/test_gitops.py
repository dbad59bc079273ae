"""What tools of GitOps make of our statuses on a real API server, by what the page tells them."""

from __future__ import annotations

import asyncio
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa import lua51

from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.record import Plan
from syncer.model.rendering import difference
from syncer.model.resource import NO_STATUS, Json, RetryPolicy, parse_object
from syncer.rules.fold import LogView
from syncer.rules.merge import Facts, merge, quarantine
from tests.fakes.kstatus import kstatus
from tests.integration.accounts import admitting
from tests.integration.api import CRDS, Api, definition, notification
from tests.servers.controlplane import ControlPlane

PAGE = (Path(__file__).parents[2] / "docs" / "gitops.md").read_text(encoding="utf-8")
NOW = 1_700_000_100_000
FACTS = Facts(generation=1, policy=RetryPolicy(max_attempts=1))
FAILED, SUCCESS = AttemptState.FAILED, AttemptState.SUCCESS


@dataclass(frozen=True)
class Case:
    """What the log holds, None where nobody has looked; what kstatus and Argo CD say then."""

    states: dict[str, AttemptState | None] | None
    kstatus: str
    argo: str
    unreadable: bool = False
    planned: bool = True


CASES = {
    "nobody has looked at it": Case(None, "InProgress", "Progressing"),
    "not planned yet": Case({}, "InProgress", "Progressing", planned=False),
    "nothing was sent yet": Case({"a": None}, "InProgress", "Progressing"),
    "one channel delivered, the other to come": Case(
        {"a": SUCCESS, "b": None}, "InProgress", "Progressing"
    ),
    "delivered": Case({"a": SUCCESS}, "Current", "Healthy"),
    "delivered in part": Case({"a": SUCCESS, "b": FAILED}, "Current", "Healthy"),
    "failed": Case({"a": FAILED}, "Failed", "Degraded"),
    "its log is damaged": Case({"a": None}, "Failed", "Degraded", unreadable=True),
    "delivered, and its log was damaged afterwards": Case(
        {"a": SUCCESS}, "Current", "Healthy", unreadable=True
    ),
}
#: What an expression of Flux says where kstatus says this.
SAID = {"InProgress": "neither", "Current": "current", "Failed": "failed"}


async def shown(api: Api, path: str, name: str, case: Case) -> Json:
    """Create an object, give it the status of a case as the controller does, and read it."""
    group = path.split("/")[2]
    made = await api.ask("POST", path, notification(name, group=group))
    assert made.code == 201, made.body
    if case.states is not None:
        before = parse_object(made.body).status
        status = merge(before, view(case), FACTS, now=NOW).status
        if case.unreadable:
            status = quarantine(status, "record 3: checksum does not match", FACTS, now=NOW)
        patch = {"status": difference(before, status)}
        answer = await api.ask("PATCH", f"{path}/{name}/status", patch)
        assert answer.code == 200, answer.body
        read = parse_object(answer.body).status
        again = merge(read, view(case), FACTS, now=NOW + 60_000).status
        # Quarantine ends with a log that can be read; nothing else is ever written a second time.
        assert case.unreadable or difference(read, again) == {}
    shown: dict[str, Any] = (await api.ask("GET", f"{path}/{name}")).body
    return shown


def view(case: Case) -> LogView:
    """The log of a case: for each channel an attempt in that state, or none yet."""
    states = case.states or {}
    log = LogView()
    if case.planned:
        log.plan = Plan(tuple(states), "RoutingRuleMatched", "Matched rules [r]", NOW)
    for n, (channel, state) in enumerate(states.items(), 1):
        if state is not None:
            failure = FailureClass.TRANSIENT if state is FAILED else None
            made = Attempt(AttemptId(f"0.7-{n}"), channel, state, NOW, NOW, 0, 1, failure, "")
            log.attempts[made.id] = made
    return log


def health(body: Json) -> Any:
    """Run the page's script on an object, as Argo CD does."""
    (script,) = re.findall(r"```lua\n(.*?)```", PAGE, re.DOTALL)
    runtime = lua51.LuaRuntime(unpack_returned_tuples=True)
    runtime.globals().obj = runtime.table_from(body, recursive=True)
    return runtime.execute(script)


@pytest.mark.parametrize("ours", [True, False], ids=["our definition", "Kubernaut's definition"])
async def test_what_each_tool_says(control_plane: ControlPlane, api: Api, ours: bool) -> None:
    """
    Every kind of status is told as the page says: by kstatus, Argo CD's script, a real server's CEL.

    Only of a new object without a status, which Kubernaut's definition lets be, kstatus and Flux know less.
    """
    (example,) = re.findall(r"```yaml\n# example: flux\n(.*?)```", PAGE, re.DOTALL)
    (health_check,) = yaml.safe_load(example)["healthCheckExprs"]
    group = f"g{uuid.uuid4().hex}.example.com" if ours else "kubernaut.ai"
    path = api.requests.replace("kubernaut.ai", group)
    if ours:
        assert (await api.ask("POST", CRDS, definition(group))).code == 201
    with admitting(control_plane, policy(api.namespace, health_check)):
        await api.until_served(path)
        found = {}
        for n, name in enumerate(CASES):
            body = await shown(api, path, f"n{n}", CASES[name])
            said = health(body)
            assert said.message
            found[name] = (kstatus(body), said.status, await said_by(api, f"{path}/n{n}"))
    if ours:
        await api.ask("DELETE", f"{CRDS}/notificationrequests.{group}")
    wanted = {n: (c.kstatus, c.argo, f"it is {SAID[c.kstatus]}") for n, c in CASES.items()}
    if not ours:
        # Flux takes an expression that cannot be evaluated for a status that is unknown yet.
        new = found.pop("nobody has looked at it")
        assert new[:2] == ("Current", "Progressing")
        assert new[2].startswith("failed expression")
        del wanted["nobody has looked at it"]
    assert found == wanted


def policy(namespace: str, health_check: Json) -> list[Json]:
    """A policy that refuses each status of that label and says what the expressions make of it."""
    name = f"health.{namespace}.example.com"
    failed, current = (
        re.sub(r"(?<![\w.])status\.", "object.status.", health_check[k])
        for k in ("failed", "current")
    )
    rule = {
        "apiGroups": ["*"],
        "apiVersions": ["v1alpha1"],
        "operations": ["UPDATE"],
        "resources": ["notificationrequests"],
    }
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [
            {
                "expression": "!has(object.metadata.labels) || !('ask' in object.metadata.labels)",
                "messageExpression": (
                    f"'it is ' + (({failed}) ? 'failed' : ({current}) ? 'current' : 'neither')"
                ),
            }
        ],
    }
    binding = {
        "policyName": name,
        "validationActions": ["Deny"],
        "matchResources": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
        },
    }
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    return [
        head | {"kind": "ValidatingAdmissionPolicy", "spec": spec},
        head | {"kind": "ValidatingAdmissionPolicyBinding", "spec": binding},
    ]


async def said_by(api: Api, path: str) -> str:
    """What the policy says of an object, once it is in force."""
    async with asyncio.timeout(30):
        while True:
            patch = {"metadata": {"labels": {"ask": "1"}}}
            answer = await api.ask("PATCH", f"{path}?dryRun=All", patch)
            if answer.code != 200:
                return answer.message.split("denied request: ")[-1]
            await asyncio.sleep(0.1)


def test_the_difference_to_nothing_is_whole() -> None:
    """The default of our definition is no part of the record: the first write shows the generation."""
    fresh = parse_object(
        {
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "generation": 1},
            "spec": {},
            "status": {"observedGeneration": -1},
        }
    ).status
    wanted = merge(fresh, view(CASES["delivered"]), FACTS, now=NOW).status
    plain = merge(NO_STATUS, view(CASES["delivered"]), FACTS, now=NOW).status
    assert difference(fresh, wanted) == difference(NO_STATUS, plain)
