"""The gateway in the chart: its file, its rights, and that it is there only where somebody wants it."""

from __future__ import annotations

from typing import Final

import pytest
import yaml

from notifier.cli.main import _parser
from notifier.gateway.settings import Loaded, of_document
from syncer.model.resource import Json
from tests.chart.helm import (
    OF_EACH_CASE,
    notes,
    objects,
    of_kind,
    one,
    rendered,
    template,
)

pytestmark = OF_EACH_CASE

NAME: Final = "r-notification-ledger-gateway"
#: As little as a gateway can be told.
PLAIN: Final[Json] = {"enabled": True, "config": {"sources": [{"name": "a", "namespace": "b"}]}}


def _loaded(found: tuple[Json, ...]) -> Loaded:
    """What the gateway makes of the rendered file."""
    config = one(found, "ConfigMap", "-gateway")
    return of_document(yaml.safe_load(config["data"]["gateway.yaml"]))


def _pod(found: tuple[Json, ...]) -> Json:
    pod: Json = one(found, "Deployment", "-gateway")["spec"]["template"]["spec"]
    return pod


def _mine(found: tuple[Json, ...]) -> list[Json]:
    return [o for o in found if o["metadata"]["labels"]["app.kubernetes.io/component"] == "gateway"]


def test_there_is_none_by_default() -> None:
    """Nothing of the gateway is made until it is enabled."""
    assert _mine(rendered("4", "default")) == []


def test_the_file_is_one_that_the_gateway_takes() -> None:
    """The rendered file loads without a warning, and listens on the ports of the pod."""
    found = rendered("4", "gateway")
    loaded = _loaded(found)
    assert loaded.warnings == ()
    assert sorted(loaded.sources) == ["alertmanager", "cluster", "platform", "watchdog"]
    (container,) = _pod(found)["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    settings = loaded.settings
    assert ports == {
        "webhooks": settings.listen.port,
        "metrics": settings.metrics_addr.port,
        "health": settings.health_probe_addr.port,
    }
    options = _parser().parse_args(container["args"])
    assert (options.command, options.action) == ("gateway", None)
    assert options.config.startswith(container["volumeMounts"][0]["mountPath"])


def test_secrets_are_where_the_sources_look() -> None:
    """Each file that a source names is in a directory that is mounted."""
    found = rendered("4", "gateway")
    (container,) = _pod(found)["containers"]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    for _, auth in _loaded(found).sources.values():
        for file in auth.bearer.token_files if auth.bearer else ():
            assert file.rpartition("/")[0] in mounts


def test_it_may_write_where_its_sources_lead_and_nowhere_else() -> None:
    """Each namespace of a source has a role for what the gateway does, bound to its own account."""
    found = rendered("4", "gateway")
    roles = {
        o["metadata"]["namespace"]: o["rules"]
        for o in of_kind(found, "Role")
        if o["metadata"]["name"] == NAME
    }
    assert sorted(roles) == ["alerts", "payments", "platform"]
    for rules in roles.values():
        assert rules == [
            {
                "apiGroups": ["kubernaut.ai"], "resources": ["notificationrequests"],
                "verbs": ["create", "get", "incident", "list"],
            }
        ]  # fmt: skip
    assert _pod(found)["serviceAccountName"] == NAME
    rights_of_others = [
        o["metadata"]["name"]
        for kind in ("RoleBinding", "ClusterRoleBinding")
        for o in of_kind(found, kind)
        if any(s["name"] == NAME for s in o["subjects"]) and o["metadata"]["name"] != NAME
    ]
    (review,) = [o["metadata"]["name"] for o in _mine(found) if o["kind"] == "ClusterRoleBinding"]
    assert sorted(rights_of_others) == sorted([f"{NAME}-leases", review])


def test_leases_are_its_own_and_only_where_a_source_is_expected() -> None:
    """The Lease that the process writes is the one that the Role names; without `expectEvery` is none."""
    found = rendered("4", "gateway")
    given = _loaded(found).settings.leases
    role = one(found, "Role", "-gateway-leases")
    assert role["metadata"]["namespace"] == given.namespace
    (rule,) = role["rules"]
    assert rule["resourceNames"] == [f"{given.prefix}-watchdog"]
    # None may be created, for no name would bound that: the chart makes it, and leaves its contents alone.
    assert rule["verbs"] == ["get", "patch"]
    (lease,) = of_kind(found, "Lease")
    assert lease["metadata"]["name"] == f"{given.prefix}-watchdog"
    assert "spec" not in lease


def test_tokens_are_reviewed_only_where_a_source_asks_for_it() -> None:
    """The rights over the whole cluster are two, and are there only where they are used."""
    found = rendered("4", "gateway")
    (role,) = [
        o for o in of_kind(found, "ClusterRole") if o["metadata"]["name"].endswith("-gateway")
    ]
    assert [(r["resources"], r["verbs"]) for r in role["rules"]] == [
        (["tokenreviews"], ["create"]), (["subjectaccessreviews"], ["create"]),
    ]  # fmt: skip


def test_requests_under_way_are_not_cut_off() -> None:
    """A pod has the longest delay and patience that the settings take, and some seconds more."""
    longest = 60 + 60
    assert _pod(rendered("4", "gateway"))["terminationGracePeriodSeconds"] > longest


def test_the_policy_lets_in_who_may_send_and_out_to_the_api_server() -> None:
    """Webhooks come from where the values say; nothing but names and the API server is asked."""
    policy = one(rendered("4", "gateway"), "NetworkPolicy", "-gateway")["spec"]
    (webhooks,) = [rule for rule in policy["ingress"] if rule["ports"][0]["port"] == "webhooks"]
    assert webhooks["from"]
    out = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    assert out == {53, 443, 6443}


def test_an_ingress_leads_to_the_webhooks_alone() -> None:
    """From its host, with its certificate, to the port of the Service that takes webhooks."""
    found = rendered("4", "gateway")
    spec = one(found, "Ingress", "-gateway")["spec"]
    assert spec["ingressClassName"] == "nginx"
    assert spec["tls"] == [{"hosts": ["hooks.example.com"], "secretName": "hooks-tls"}]
    (rule,) = spec["rules"]
    assert rule["host"] == "hooks.example.com"
    (path,) = rule["http"]["paths"]
    service = one(found, "Service", "-gateway")
    assert path["backend"]["service"] == {
        "name": service["metadata"]["name"], "port": {"name": service["spec"]["ports"][0]["name"]},
    }  # fmt: skip


def test_replicas_follow_the_cpu_where_it_is_asked_for() -> None:
    """The autoscaler alone decides how many there are; without it there is none, and the number stands."""
    found = rendered("4", "gateway")
    (scaler,) = of_kind(found, "HorizontalPodAutoscaler")
    spec = scaler["spec"]
    deployment = one(found, "Deployment", "-gateway")
    assert spec["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"], "kind": deployment["kind"],
        "name": deployment["metadata"]["name"],
    }  # fmt: skip
    assert "replicas" not in deployment["spec"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["requests"]["cpu"]
    (metric,) = spec["metrics"]
    assert metric["resource"]["target"] == {"type": "Utilization", "averageUtilization": 80}
    assert spec["behavior"] == {"scaleDown": {"stabilizationWindowSeconds": 600}}


def test_what_nobody_asks_for_is_not_there() -> None:
    """With sources alone: no Lease, no right over the cluster, no way in, and as many replicas as said."""
    sources = {"sources": [{"name": "a", "namespace": "b", "auth": {"insecure": True}}]}
    values = {"gateway": {**PLAIN, "replicas": 3, "config": sources}}
    found = objects(template("4", values))
    assert {o["kind"] for o in _mine(found)}.isdisjoint(
        {"Lease", "ClusterRole", "Ingress", "HorizontalPodAutoscaler"}
    )
    assert not any(o["metadata"]["name"].endswith("-gateway-leases") for o in found)
    document = yaml.safe_load(one(found, "ConfigMap", "-gateway")["data"]["gateway.yaml"])
    assert "leases" not in document
    assert one(found, "Deployment", "-gateway")["spec"]["replicas"] == 3


@pytest.mark.parametrize(
    ("given", "budgets"),
    [
        ({"replicas": 1}, 0),
        ({"replicas": 2}, 1),
        ({"replicas": 2, "autoscaling": {"enabled": True, "minReplicas": 1}}, 0),
        ({"replicas": 1, "autoscaling": {"enabled": True}}, 1),
    ],
)
def test_one_replica_has_no_budget_and_two_have_one(given: Json, budgets: int) -> None:
    """A budget for one pod would keep its node from being drained."""
    found = objects(template("4", {"gateway": {**PLAIN, **given}}))
    made = [o for o in of_kind(found, "PodDisruptionBudget") if o["metadata"]["name"] == NAME]
    assert len(made) == budgets


def test_the_notes_say_where_webhooks_go_and_who_is_let_in() -> None:
    """The address with the sources, and a warning for each that asks for no proof."""
    sources = [
        {"name": "am", "namespace": "a", "auth": {"insecure": True}},
        {"name": "flux", "namespace": "a", "auth": {"bearer": {"tokenFiles": ["/f"]}}},
    ]
    values = {"gateway": {"enabled": True, "config": {"sources": sources}}}
    said = notes(values)
    assert f"http://{NAME}.default.svc/v1/<source>, for the sources am, flux." in said
    assert "source am is insecure" in said
    assert "source flux is insecure" not in said
    tls = {"certFile": "/c", "keyFile": "/k"}
    values = {"gateway": {"enabled": True, "config": {"sources": sources, "tls": tls}}}
    # The Service listens on 80, which is not the port of https.
    assert f"https://{NAME}.default.svc:80/v1/<source>" in notes(values)
