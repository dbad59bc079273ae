"""The policies of two releases on a real API server: nobody but their controllers writes what decides."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from pathlib import Path
from typing import Final

import pytest

from syncer.model.hold import GROUP, KIND, PLURAL, VERSION
from syncer.model.resource import Json
from tests.chart.admission import BINDINGS, POLICIES, SSA, without_the_planes_own
from tests.chart.helm import CHART, NAMESPACE, helm, objects, of_kind, template
from tests.chart.rights import (
    ACCOUNT,
    PASSWORD,
    as_the_release_says,
    get,
    install,
    may,
    uninstall,
    values,
)
from tests.e2e.harness import NotifierProcess, Stage, stage, until
from tests.integration.accounts import account, as_account
from tests.integration.api import Api
from tests.servers.controlplane import ControlPlane
from tests.servers.users import acl_rule

SECOND: Final = "other-notification-ledger"


async def state(notifier: NotifierProcess, expected: str) -> None:
    """Wait until the controller has found out whether the policy is in force."""
    await notifier.wait_metric("status_policy", 1, state=expected, within=60)


async def refused(foreign: Api, at: str, *, by: str) -> None:
    """Wait until the policy of a release refuses a foreign status."""

    async def so() -> bool:
        change = {"status": {"reason": uuid.uuid4().hex}}
        answer = await foreign.ask("PATCH", f"{at}/status", change)
        return answer.code == 403 and f"'{by}-" in answer.message

    await until(so, f"{at} is protected by {by}")


async def leases_are_refused(foreign: Api) -> None:
    """Try to write each kind of the installation's Leases, and some that only look like them."""
    kind: Json = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {}}

    owned = f"{foreign.leases}/{ACCOUNT}-0"
    taken: Json = {"spec": {"holderIdentity": "x"}}

    def named(name: str, key: str = "name") -> Json:
        return {**kind, "metadata": {key: f"{ACCOUNT}-{name}"}}

    applied = f"{foreign.leases}/{ACCOUNT}-7?fieldManager=x&force=true"
    acts = {
        "a phantom session": ("POST", foreign.leases, named("session-x"), ""),
        "a generated name": ("POST", foreign.leases, named("session-", "generateName"), ""),
        "a shard, applied": ("PATCH", applied, named("7"), SSA),
        "a shard that is owned": ("PATCH", owned, taken, ""),
        "the map": ("PATCH", f"{foreign.leases}/{ACCOUNT}-map", {"metadata": {"labels": {"a": "b"}}}, ""),
    }  # fmt: skip
    for name, (method, path, body, form) in acts.items():
        answer = await foreign.ask(method, path, body, form=form)
        assert answer.code == 403, (name, answer.body)
        assert ':foreign" cannot record resource "leases"' in answer.message, name
    for name in ("gateway-source", "mapped", "session", "7x"):
        answer = await foreign.ask("POST", foreign.leases, named(name))
        assert answer.code == 201, (name, answer.body)


@pytest.mark.parametrize("redis_binary", ["valkey"], indirect=True)
async def test_only_its_controller_writes_what_a_release_decides_by(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """Foreign statuses and Leases are refused, both releases pass; who lacks the verb says so."""
    plane = control_plane
    async with (
        without_the_planes_own(plane),
        stage(plane, redis_url, tmp_path / "s", sampled=False) as here,
    ):
        await here.redis.execute_command(*acl_rule("ledger", PASSWORD, prefix=here.prefix))  # type: ignore[no-untyped-call]  # vendor
        usual = ("get", "patch", "update")
        verbs = {"statuses": usual, "leases": ("create", "delete", "deletecollection", *usual)}
        account(plane, here.namespace, "foreign", verbs)
        run = await asyncio.to_thread(install, here)
        assert run.code == 0, run.err
        await here.create("first")
        first = f"{here.api.requests}/first"
        async with as_account(plane, here.namespace, "foreign") as foreign:
            await refused(foreign, first, by=ACCOUNT)
            notifier = as_the_release_says(here)
            await notifier.start().wait_ready(60)
            await until(lambda: bool(here.receiver.calls("first")), notifier.tail)
            await state(notifier, "in-force")
            assert "status-policy" not in (await notifier.ask("/readyz"))[1]
            await leases_are_refused(foreign)
            await second_release(here)
            await refused(foreign, first, by=ACCOUNT)
        # Whoever may record, as the controller may, is needed for each status of its namespace.
        await asyncio.to_thread(
            may, here, "notifications", "notificationrequests/status", "record", granted=False
        )
        later = await here.create("later")
        await until(lambda: bool(here.receiver.calls("later")), notifier.tail)

        reason = (
            f"[-] status: status writes are refused in namespace {here.namespace} (403 Forbidden: User"
            f' "system:serviceaccount:{here.namespace}:{ACCOUNT}" cannot record'
        )

        await notifier.wait_says(503, reason)
        await asyncio.to_thread(
            may, here, "notifications", "notificationrequests/status", "record", granted=True
        )
        await here.wait_phase(later)
        await notifier.wait_ready()

        # The quick way out: without its binding a policy does nothing, and the controller knows.
        (name,) = [
            o["metadata"]["name"] for o in get(here, f"{POLICIES}/{BINDINGS}")["items"]
            if o["metadata"]["name"].startswith(ACCOUNT) and o["metadata"]["name"].endswith("-statuses")
        ]  # fmt: skip
        assert (await here.api.ask("DELETE", f"{POLICIES}/{BINDINGS}/{name}")).code == 200
        notifier.kill()
        await notifier.start().wait_ready()
        await state(notifier, "absent")
        reason = f"status-policy: there is no {BINDINGS}/{name}"
        assert reason in (await notifier.ask("/readyz"))[1]

        # As the end of a namespace does it: whatever matched deletions would look for a name.
        notifier.kill()
        for path in (here.api.leases, here.api.requests):
            answer = await here.api.ask("DELETE", path)
            assert answer.code == 200, answer.body

        # The way back removes them all, and the permission to look.
        off = {**values(here), "admission": {"enabled": False}}
        run = await asyncio.to_thread(
            install, here, off, "--force-conflicts"
        )  # the role, see above
        assert run.code == 0, run.err
        for kind in ("validatingadmissionpolicies", BINDINGS):
            left = [o["metadata"]["name"] for o in get(here, f"{POLICIES}/{kind}")["items"]]
            assert not [one for one in left if one.startswith(ACCOUNT)]
        await asyncio.to_thread(uninstall, here)


async def second_release(here: Stage) -> None:
    """Install another release over all namespaces, by Helm 3: each controller passes both policies."""
    plane, name = here.plane, f"{here.namespace}-2"
    plane.api.create_namespace(name)
    account(plane, name, "foreign", {"statuses": ("get", "patch", "update")})
    more, config = {**values(here), "watch": {"all": True}}, plane.kubeconfig
    arguments = ("upgrade", "--install", "other", str(CHART), "-n", name)
    run = await asyncio.to_thread(helm, "3", *arguments, values=more, kubeconfig=config)
    assert run.code == 0, run.err
    try:
        # Here it is alone, and who it names is no matter of chance.
        async with as_account(plane, name, "foreign") as foreign:
            async with Api(plane.server, plane.admin_token, plane.ca_file, name) as admin:
                await admin.create("probe")
            await refused(foreign, f"{foreign.requests}/probe", by=SECOND)
        for own, home in ((ACCOUNT, here.namespace), (SECOND, name)):
            async with as_account(plane, here.namespace, own, home=home) as client:
                change = {"status": {"message": f"by {own}"}}
                answer = await client.ask("PATCH", f"{here.api.requests}/first/status", change)
                assert answer.code == 200, answer.body
    finally:
        run = await asyncio.to_thread(
            helm, "3", "uninstall", "other", "-n", name, kubeconfig=config
        )
    assert run.code == 0, run.err


async def test_a_hold_names_who_places_it(control_plane: ControlPlane, namespace: str) -> None:
    """Where the policy is wanted: anybody else's name is refused, the controller's account may say any."""
    found = objects(
        template("4", {"admission": {"enabled": False, "holdAuthors": True}}, namespace=namespace)
    )
    kinds = "validatingadmissionpolicies", BINDINGS
    made = [one for one in found if one["kind"].lower().startswith("validatingadmission")]
    assert len(made) == 2
    where = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}?dryRun=All"

    def hold(author: str) -> Json:
        spec = {
            "receivers": ["ops"],
            "until": "2027-01-01T00:00:00Z",
            "author": author,
            "reason": "r",
        }
        return {
            "apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": {"name": "h"}, "spec": spec,
        }  # fmt: skip

    for name in ("alice", ACCOUNT):
        account(control_plane, namespace, name, {"holds": ["create"]})
    try:
        for one, kind in zip(made, kinds, strict=True):
            code, said = await control_plane.request("POST", f"{POLICIES}/{kind}", one)
            assert code == 201, said["message"]
        async with (
            as_account(control_plane, namespace, "alice") as alice,
            as_account(control_plane, namespace, ACCOUNT) as controller,
        ):

            async def so() -> bool:
                answer = await alice.ask("POST", where, hold("bob"))
                return answer.code == 403 and "spec.author must be who places" in answer.message

            await until(so, "the policy is in force")
            own = hold(f"system:serviceaccount:{namespace}:alice")
            assert (await alice.ask("POST", where, own)).code == 201
            assert (await controller.ask("POST", where, hold("bob"))).code == 201
    finally:
        for one, kind in zip(made, kinds, strict=True):
            await control_plane.request("DELETE", f"{POLICIES}/{kind}/{one['metadata']['name']}")


def test_a_policy_of_its_own_is_known_by_name_alone() -> None:
    """What the settings name is rendered; switched off, neither is, and no right to read it is granted."""
    for values_given, count in (({}, 2), ({"admission": {"enabled": False}}, 0)):
        found = objects(template("4", values_given))
        policies = of_kind(found, "ValidatingAdmissionPolicy")
        bindings = of_kind(found, "ValidatingAdmissionPolicyBinding")
        assert len(policies) == len(bindings) == count
        assert {p["metadata"]["name"] for p in policies} == {
            b["spec"]["policyName"] for b in bindings
        }
        text = json.dumps(found)
        assert ("statusPolicy" in text) is ("validatingadmissionpolicies" in text) is bool(count)


def test_the_policies_without_the_chart_are_as_the_page_says() -> None:
    """The command on the page renders both policies, and roles with their verbs for an account."""
    page = (CHART.parents[1] / "docs" / "install.md").read_text()
    found = re.search(r"    helm (template ledger .*?) \|\n", page, re.DOTALL)
    assert found
    words = (
        found[1]
        .replace("\\\n", " ")
        .replace("NAMESPACE", NAMESPACE)
        .replace("ACCOUNT", "own")
        .split()
    )
    made = objects(
        helm("4", *[word.replace("charts/notification-ledger", str(CHART)) for word in words])
    )
    kinds = [o["kind"] for o in made]
    assert (
        kinds.count("ValidatingAdmissionPolicy")
        == kinds.count("ValidatingAdmissionPolicyBinding")
        == 2
    )
    assert {s["name"] for o in made for s in o.get("subjects", ())} == {"own"}
    rules = {rule["resources"][0]: set(rule["verbs"]) for o in made for rule in o.get("rules", ())}
    assert rules["notificationrequests/status"] == {"patch", "record", "correct"}
    assert "record" in rules["leases"]
    assert "ServiceAccount" not in kinds
