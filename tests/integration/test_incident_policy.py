"""The policy on incidents, on a real API server: who may name one of the gateway's."""

from __future__ import annotations

import asyncio

from syncer.model.incident import INCIDENT
from syncer.model.resource import Json
from tests.chart.helm import objects, of_kind, template
from tests.integration.accounts import account, admitting, as_account
from tests.integration.api import Api, Reply, notification
from tests.servers.controlplane import ControlPlane


def policy(namespace: str) -> list[Json]:
    """The policy of a release whose gateway writes to a namespace, and its binding."""
    source = {
        "name": "am",
        "kind": "alertmanager",
        "namespace": namespace,
        "auth": {"insecure": True},
    }
    values = {"gateway": {"enabled": True, "config": {"sources": [source]}}}
    found = objects(template("4", values, release=namespace, namespace=namespace))
    kind = "ValidatingAdmissionPolicy"
    return [
        each
        for each in (*of_kind(found, kind), *of_kind(found, f"{kind}Binding"))
        if each["metadata"]["name"].endswith("-incidents")
    ]


async def test_only_a_gateway_names_a_gateways_incidents(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Others name their own, and may label what a gateway has made; in other namespaces they may all."""
    plane = control_plane
    usual = ("create", "get", "patch")
    account(plane, namespace, "gateway", {"objects": (*usual, "incident")})
    account(plane, namespace, "foreign", {"objects": usual})
    made = policy(namespace)
    assert [each["kind"] for each in made] == [
        "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
    ]  # fmt: skip

    async def create(api: Api, name: str, incident: str) -> Reply:
        body = notification(name)
        body["spec"]["extensions"] = {INCIDENT: incident}
        return await api.ask("POST", api.requests, body)

    with admitting(plane, made):
        async with (
            as_account(plane, namespace, "foreign") as foreign,
            as_account(plane, namespace, "gateway") as gateway,
        ):
            async with asyncio.timeout(30):
                n = 0
                while (refused := await create(foreign, f"f{n}", "gw/am/1")).code != 403:
                    assert refused.code == 201, refused.message
                    n += 1
                    await asyncio.sleep(0.1)
            assert ':foreign" cannot incident resource "notificationrequests"' in refused.message
            assert (await create(foreign, "own", "disk")).code == 201
            assert (await create(gateway, "g", "gw/am/1")).code == 201
            label = {"metadata": {"labels": {"seen": "yes"}}}
            assert (await foreign.ask("PATCH", f"{foreign.requests}/g", label)).code == 200
